//! What `prepare` is told.

use std::path::PathBuf;

use clap::Args;

use super::{positive, whole};

#[derive(Args)]
pub struct Prepare {
    /// Text, JSON lines, a JSON list or Parquet, packed or not; a folder of such files; a pipe
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Folder for the shards; those of an earlier run there are replaced
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Tokens in the vocabulary to train
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = whole)]
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
