//! What `eval` is told.

use std::path::PathBuf;

use clap::Args;

use super::{Shards, Trained, positive};

#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    pub model: Trained,
    /// Trained weights; several give a table
    #[arg(long, value_name = "FILE", required = true)]
    pub safetensors_load: Vec<PathBuf>,
    #[command(flatten)]
    pub shards: Shards,
    /// Score every token of the validation data too, in bits per byte where byte tables are found
    #[arg(long)]
    pub full: bool,
    /// As --full, with windows that advance by N tokens: each token has seq_len - N of context or more
    #[arg(long, value_name = "N", value_parser = positive)]
    pub stride: Option<usize>,
    /// Folder of the byte tables [default: that of the validation shards, or data]
    #[arg(long, value_name = "DIR")]
    pub lut_dir: Option<PathBuf>,
    /// Write the loss of each token here: of whole batches, as mixlab 0.10.1 does, or of all with
    /// --full or --stride
    #[arg(long, value_name = "FILE")]
    pub logprobs_out: Option<PathBuf>,
    /// Print one JSON object a file of weights instead
    #[arg(long, conflicts_with = "logprobs_out")]
    pub json: bool,
}
