//! Everything that spans crates, in one binary.

mod batches;
mod backends;
mod cli;
mod golden;
