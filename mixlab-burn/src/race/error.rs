//! What can be wrong with the folder of a race.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Why a race cannot be made, read or gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaceError {
    /// A folder for a new race has something in it.
    #[error("`{}` is not empty\n  hint: {}", folder.display(), way_out(folder))]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder has no race in it.
    #[error("`{}` holds no race\n  hint: name a folder that has a `race.json`", folder.display())]
    NoRace {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no run of that number.
    #[error("the race has no run `{number}`\n  hint: its runs are `1` to `{count}`")]
    NoRun {
        /// The number that was asked for.
        number: usize,
        /// How many runs there are.
        count: usize,
    },
    /// There are no configs.
    #[error("`{}` has no configs\n  hint: name a folder with `.json` files", folder.display())]
    NoConfigs {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read `{}`: {source}\n  hint: {}", path.display(), files::hint(source))]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write `{}`: {source}\n  hint: {}", path.display(), elsewhere(source))]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what a race writes.
    #[error("`{}` is damaged: {reason}\n  hint: {}", path.display(), remedy(path))]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What to do about a damaged file of a race.
fn remedy(path: &Path) -> &'static str {
    if path.ends_with(super::queue::RACE) {
        "it cannot be mended; start a race in a new folder"
    } else {
        "delete it, and what it tells is done again"
    }
}

/// What to do about a folder that is no new one.
fn way_out(folder: &Path) -> String {
    if folder.join(super::queue::RACE).exists() {
        let folder = folder.display();
        format!("name a new folder, or go on with the race in this one: `--resume {folder}`")
    } else {
        "name a new folder; what is in this one is no whole race".into()
    }
}

/// What to do about a place where a race cannot be written.
fn elsewhere(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::Unsupported => "name a folder on another disk",
        _ => files::hint(error),
    }
}
