//! Why a checkpoint cannot be written or taken up.

use std::io;
use std::path::{Path, PathBuf};

use super::Skipped;

/// Why a checkpoint cannot be written or taken up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}\n  hint: {hint}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// The way out.
        hint: &'static str,
    },
    /// Another process writes there.
    #[error(
        "another run writes checkpoints to `{}`\n  hint: give each run a `--checkpoint-dir` of its own", .folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// There are checkpoints that a new run would mix with its own.
    #[error(
        "`{}` has checkpoints of a run that came to step `{step}`\n  hint: `--resume {}` goes on with it; give a new run another folder", .folder.display(), .folder.display()
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// The newest of them.
        step: usize,
    },
    /// There is none.
    #[error(
        "`{}` has no checkpoint to go on from\n  hint: `--checkpoint-dir DIR --checkpoint-every N` writes some", .folder.display()
    )]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// None of them is whole.
    #[error(
        "no checkpoint in `{}` is whole; the newest: {newest}\n  hint: the weights in a `.st` file may still serve as `--safetensors-load`", .folder.display()
    )]
    AllBroken {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the newest.
        newest: Box<Skipped>,
    },
}

impl CheckpointError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull => "make room on that disk, or keep fewer with `--keep N`",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a folder that you may write to"
            }
            io::ErrorKind::NotFound => "look at the path; folders on the way are made when writing",
            io::ErrorKind::NotADirectory => "name the folder of the checkpoints, not a file of it",
            _ => "look at the disk and the path",
        };
        Self::Io { action, path: path.into(), source, hint }
    }
}
