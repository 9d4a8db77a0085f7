//! Groups of flags that several commands take.

use std::path::{Path, PathBuf};

use clap::Args;

use super::positive;
use crate::backend::{Compute, PrecisionName};

/// Which config, and what to change in it.
#[derive(Args)]
pub struct ConfigFile {
    /// Model and training as JSON; `//` comments are allowed
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a field, as in training.steps=20 or blocks[0].heads=8; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl ConfigFile {
    /// Where the file may lie.
    pub fn paths(&self) -> Vec<PathBuf> {
        vec![self.config.clone(), Path::new("..").join(&self.config)]
    }
}

/// Which data.
#[derive(Args)]
pub struct Shards {
    /// Training shards: a quoted glob or a folder, may be repeated; `demo` writes and uses generated stories
    #[arg(long, value_name = "GLOB", default_value = "demo")]
    pub train: Vec<String>,
    /// Validation shards [default: --train with `train` replaced by `val`, or another usual name]
    #[arg(long, value_name = "GLOB")]
    pub val: Vec<String>,
    /// Shards have no header: 16-bit ids alone, as nanoGPT writes them
    #[arg(long)]
    pub raw_u16: bool,
}

/// Which model, and where it runs.
#[derive(Args)]
pub struct Trained {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub machine: Machine,
}

/// Where it computes, and in which numbers.
#[derive(Args)]
pub struct Machine {
    #[command(flatten)]
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
}

/// How a config is trained, whether by itself or in a race.
#[derive(Args)]
pub struct Training {
    #[command(flatten)]
    pub shards: Shards,
    #[command(flatten)]
    pub machine: Machine,
    /// Score all validation data after training, in bits per byte where byte tables are found
    #[arg(long)]
    pub eval: bool,
    /// Folder of the byte tables [default: that of the validation shards, or data]
    #[arg(long, value_name = "DIR")]
    pub lut_dir: Option<PathBuf>,
    /// Steps between log lines
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub log_every: usize,
    /// Steps between validations
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub val_every: usize,
    /// Say where the time of a logged step went
    #[arg(long)]
    pub timing: bool,
    /// Train even if the memory that a step needs is more than there is
    #[arg(long)]
    pub force: bool,
}
