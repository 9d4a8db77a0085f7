//! Runs on disk: checkpoints, from which training goes on as if it had never stopped.
//!
//! A checkpoint of step 7 is three files of a folder, each written under another name, synced and then
//! renamed, the last one last:
//!
//! | file | what |
//! |---|---|
//! | `step_000007.st` | the weights, the file that mixlab 0.10.1 writes |
//! | `step_000007.state` | moments, averages, losses not yet read, the loader's position: safetensors |
//! | `step_000007.json` | step, config, data, numbers of the state; size and SHA-256 of the other two |
//!
//! So a checkpoint without its third file does not exist, and one whose files are not what the third
//! says is passed over for the one before.

mod changes;
mod checkpoint;
mod error;
mod queue;
mod tensors;
mod writer;

pub use changes::{Change, changes};
pub use checkpoint::{Checkpoint, Skipped};
pub use error::CheckpointError;
pub use writer::{About, Done, Writer};

#[cfg(all(test, feature = "cpu"))]
mod tests;
