//! The command line as clap sees it.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backend::{Compute, PrecisionName};

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
    Arch(Arch),
    /// Count parameters, operations and FLOPs of a config
    Count(Count),
    /// Check that a backend works, and how fast
    Smoke(Smoke),
    /// Turn text into token shards
    Prepare(Prepare),
    /// Score validation data with trained weights
    Eval(Eval),
    /// Write the hidden states of training batches to a file
    Hiddenstats(Hiddenstats),
    /// Continue a prompt with trained weights
    Generate(Generate),
}

impl Command {
    /// Where it computes, if it does.
    pub fn compute(&self) -> Option<&Compute> {
        match self {
            Self::Arch(options) => Some(&options.compute),
            Self::Smoke(options) => Some(&options.compute),
            Self::Eval(options) => Some(&options.model.compute),
            Self::Hiddenstats(options) => Some(&options.model.compute),
            Self::Generate(options) => Some(&options.model.compute),
            Self::Count(_) | Self::Prepare(_) => None,
        }
    }
}

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
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
}

#[derive(Args)]
pub struct Arch {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub shards: Shards,
    #[command(flatten)]
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Score all validation data after training, in bits per byte where byte tables are found
    #[arg(long)]
    pub eval: bool,
    /// Folder of the byte tables [default: that of the validation shards, or data]
    #[arg(long, value_name = "DIR")]
    pub lut_dir: Option<PathBuf>,
    /// Write the trained weights here
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    /// Start from these weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: Option<PathBuf>,
    /// Append one JSON object a logged step
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
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

#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    pub model: Trained,
    /// Trained weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    /// Text; `-` or `@FILE` to read it, without its last line break; or token_ids:1,2,3
    /// [default: one random token]
    #[arg(long, value_name = "PROMPT", default_value = "", hide_default_value = true)]
    #[arg(allow_hyphen_values = true)]
    pub prompt: String,
    /// tokenizer.json for text [default: beside --train, the weights or the config; that of `demo`]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Training shards beside which the tokenizer lies
    #[arg(long, value_name = "GLOB", default_value = "demo")]
    pub train: Vec<String>,
    /// New tokens at most
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_tokens: usize,
    /// Divides the logits; 0 takes the best token each time
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub temperature: f32,
    /// Draw from the N best tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub top_k: usize,
    /// Draw from the fewest tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Draw from tokens with this share of the best one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Lower the logits of tokens that the row has; 1 does not
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws [default: training.seed]
    #[arg(long, value_name = "N")]
    pub seed: Option<i64>,
    /// End where this text comes, without it; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Continue the prompt so many times side by side; sample i draws with seed + i
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub num_samples: usize,
    /// Go on beyond seq_len: the model forgets the older half of what it sees
    #[arg(long)]
    pub slide: bool,
    /// Print the prompt before its continuation
    #[arg(long)]
    pub echo: bool,
    /// Print one JSON object a sample instead
    #[arg(long)]
    pub json: bool,
    /// Say how fast tokens came
    #[arg(long)]
    pub timing: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}
