//! Everything that spans crates, in one binary.

mod attack;
mod backends;
mod batches;
mod bounds;
mod cases;
mod checkpoint_memory;
mod checkpoints;
mod cli;
mod crashes;
mod custom;
mod docs;
mod examples;
mod export_onnx;
mod exports;
mod faults;
mod floors;
mod golden;
mod inference;
mod isolation;
mod levels;
mod million;
#[cfg(unix)]
mod pipes;
mod profiles;
mod program;
mod race;
mod recipe;
#[cfg(unix)]
mod signals;
mod streaming;
mod trained;
