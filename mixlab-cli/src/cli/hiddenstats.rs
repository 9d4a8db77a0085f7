//! What `hiddenstats` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Shards, Trained, positive};

#[derive(Args)]
pub struct Hiddenstats {
    #[command(flatten)]
    pub model: Trained,
    /// Trained weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    #[command(flatten)]
    pub shards: Shards,
    /// File for the hidden states: raw little-endian f32, or by ending .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The stream after the final norm, or what every block leaves and then that
    #[arg(long, value_enum, default_value_t = Layers::Last)]
    pub layers: Layers,
    /// Training batches, in the order of training
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub batches: usize,
}

/// Value of `--layers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layers {
    /// The stream after the final norm.
    Last,
    /// The stream after each block, and after the final norm.
    All,
}
