//! The command line as clap sees it.

mod training;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::backend::{Compute, PrecisionName};

pub use training::{Checkpoints, Every, Quantize, WarmStart};

/// Explore language-model architectures from one JSON file.
#[derive(Parser)]
#[command(name = "mixlab-cli", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train the model of a config
    Arch(Box<Arch>),
    /// Count parameters, operations and FLOPs of a config
    Count(Count),
    /// Check that a backend works, and how fast
    Smoke(Smoke),
    /// Turn text into token shards
    Prepare(Prepare),
}

/// Which config, and what to change in it.
#[derive(Args)]
pub struct ConfigFile {
    /// Model and training as JSON; `//` comments are allowed
    #[arg(long, value_name = "FILE")]
    pub config: String,
    /// Override a field, as in training.steps=20 or blocks[0].heads=8; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct Arch {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Training shards, a quoted glob, may be repeated; `demo` writes and uses generated stories
    #[arg(long, value_name = "GLOB", default_value = "demo")]
    pub train: Vec<String>,
    /// Validation shards [default: --train with `train` replaced by `val`]
    #[arg(long, value_name = "GLOB")]
    pub val: Vec<String>,
    #[command(flatten)]
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Write the trained weights here
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    #[command(flatten)]
    pub quantize: Quantize,
    #[command(flatten)]
    pub start: WarmStart,
    #[command(flatten)]
    pub checkpoints: Checkpoints,
    /// Append one JSON object a logged step
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Write when data, steps, validation and checkpoints took place, for Perfetto or Chrome
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Steps between log lines
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub log_every: usize,
    /// Steps between validations
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub val_every: usize,
    /// Say where the time of a logged step went
    #[arg(long)]
    pub timing: bool,
    /// Print only the result
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct Count {
    #[command(flatten)]
    pub config: ConfigFile,
    /// List parameters, operations and FLOPs of each block
    #[arg(long)]
    pub blocks: bool,
    /// List every operation of a forward pass, with shapes
    #[arg(long)]
    pub ops: bool,
    /// Draw the architecture
    #[arg(long, value_name = "FILE.svg")]
    pub diagram: Option<PathBuf>,
}

#[derive(Args)]
pub struct Smoke {
    #[command(flatten)]
    pub compute: Compute,
}

#[derive(Args)]
pub struct Prepare {
    /// Text, JSON lines, a JSON list or Parquet, packed or not; a folder of such files; a pipe
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Folder for the shards; those of an earlier run there are replaced
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Tokens in the vocabulary to train
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub vocab_size: usize,
    /// Share of the tokens kept for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub val_split: f64,
    /// Use this tokenizer.json instead of training one
    #[arg(long, value_name = "FILE")]
    pub tokenizer_path: Option<PathBuf>,
    /// Key or column of the text; a.b reaches into objects
    #[arg(long, value_name = "KEY", default_value = "text")]
    pub text_field: String,
    /// Tokens in a shard
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = positive)]
    pub tokens_per_shard: usize,
    /// Keep training shards in the order of the text
    #[arg(long)]
    pub no_shuffle: bool,
    /// Give the tokenizer all 256 bytes, so that any text can be encoded
    #[arg(long)]
    pub byte_alphabet: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}
