//! What `export` is told.

use std::path::PathBuf;

use clap::Args;

use super::ConfigFile;
use crate::backend::Compute;

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The weights to export
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    /// Write an ONNX file: input_ids [batch, sequence] to logits [batch, sequence, vocab]
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    /// Let the file go on from what earlier tokens left: inputs past_key_values.*, outputs present.*
    #[arg(long)]
    pub stateful: bool,
    /// Keep the weights in a file of their own, FILE.data, also if there is room for them
    #[arg(long)]
    pub external_data: bool,
    #[command(flatten)]
    pub compute: Compute,
}
