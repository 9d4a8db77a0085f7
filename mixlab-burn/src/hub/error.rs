//! What can go wrong on the way to another tool's folder.

use std::path::{Path, PathBuf};

use mixlab_ops::capture::CaptureError;

use crate::files;
use crate::weights::WeightError;

/// Why there is no folder or file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The modelling file has no such block.
    #[error(
        "block {index} ({label}) cannot be exported: {reason}\n  \
         hint: `--onnx FILE` exports any block"
    )]
    Block {
        /// Which block, from 0.
        index: usize,
        /// Its type and settings.
        label: String,
        /// Why not.
        reason: String,
    },
    /// The mathematics is not that of the architecture.
    #[error("this model is no `llama`: {0}\n  hint: `--hf DIR` and `--onnx FILE` export any model")]
    Differs(String),
    /// A file that was given is not what it should be.
    #[error("`{}`: {problem}\n  hint: {hint}", .path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// The way out.
        hint: &'static str,
    },
    /// What has the weights could not give one.
    #[error(transparent)]
    Source(#[from] WeightError),
    /// The picture could not be drawn.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}\n  hint: {}", .path.display(), files::hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The error of an attempt to `action` the file at `path`; or that of a weight, if one is within.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |source| match source.downcast() {
        Ok(error) => HubError::Source(error),
        Err(source) => HubError::Io { action, path, source },
    }
}
