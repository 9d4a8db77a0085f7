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
mod faults;
mod floors;
mod golden;
mod inference;
mod isolation;
mod levels;
mod million;
mod profiles;
mod program;
mod race;
mod recipe;
mod streaming;
mod trained;
