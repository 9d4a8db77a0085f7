//! What `validate` is told.

use std::path::PathBuf;

use clap::Args;

use super::{Machine, Shards};

#[derive(Args)]
#[command(mut_arg("train", |arg| {
    arg.help("Shards that it is to be trained on, a quoted glob, may be repeated").default_value(None)
}))]
#[command(mut_arg("val", |arg| arg.help("Shards that it is to be validated on")))]
pub struct Validate {
    /// Config, or a folder of them
    #[arg(long, value_name = "PATH")]
    pub config: PathBuf,
    /// Override a field, as in training.steps=20 or blocks[0].heads=8; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub shards: Shards,
    /// The tokenizer.json that the shards were made with
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
