//! Everything that spans crates, in one binary.

mod batches;
mod docs;
mod examples;
mod golden;
