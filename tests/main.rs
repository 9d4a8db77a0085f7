//! Everything that spans crates, in one binary.

mod batches;
mod golden;
