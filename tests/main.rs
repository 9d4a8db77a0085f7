//! Everything that spans crates, in one binary.

mod backends;
mod batches;
mod bounds;
mod cases;
mod checkpoints;
mod cli;
mod custom;
mod docs;
mod examples;
mod floors;
mod golden;
mod isolation;
mod program;
mod recipe;
mod streaming;
