//! The command line as clap sees it.

mod export;
mod training;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backend::{Compute, PrecisionName};

pub use export::{Export, Parity, Tolerance};
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
    /// Write a model for other programs
    Export(Export),
    /// Compare an exported file with its model
    Parity(Parity),
    /// Check that a backend works, and how fast
    Smoke(Smoke),
    /// Turn text into token shards
    Prepare(Prepare),
    /// Train all configs of a folder on the same terms, and rank them
    #[command(name = "arch_race", visible_alias = "race")]
    Race(Race),
    /// Say all that can be known of a config, or of a folder of them, before it is trained
    Validate(Validate),
    /// Print what a shell needs to complete commands and flags
    Completions(Completions),
    /// Write manual pages
    Man(Man),
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
            Self::Validate(options) => Some(&options.compute),
            Self::Export(options) => Some(&options.compute),
            Self::Parity(options) => Some(&options.compute),
            // Its runs are processes of their own.
            Self::Race(_) => None,
            Self::Count(_) | Self::Prepare(_) | Self::Completions(_) | Self::Man(_) => None,
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
    /// Train even if the memory that a step needs is more than there is
    #[arg(long)]
    pub force: bool,
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
#[command(group = clap::ArgGroup::new("which").required(true).args(["configs", "resume", "worker", "run"]))]
pub struct Race {
    /// Folder of configs, those below it too; makes a new race
    #[arg(long, value_name = "DIR")]
    pub configs: Option<PathBuf>,
    /// Go on with the race in this folder, and print its table
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Help with the race in this folder: do what nobody else is at
    #[arg(long, value_name = "DIR")]
    pub worker: Option<PathBuf>,
    /// Do one run of a race, as in race-1/7
    #[arg(long, value_name = "DIR/N")]
    pub run: Option<PathBuf>,
    /// Folder for the new race [default: race-1, or the next number that is free]
    #[arg(long, value_name = "DIR", requires = "configs")]
    pub output: Option<PathBuf>,
    /// Override a field in all configs; may be repeated
    #[arg(long, value_name = "PATH=VALUE", requires = "configs")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub shards: Shards,
    /// Runs of each config, with its seed, the next one, and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub seeds: usize,
    /// Compare each config with this one, seed by seed
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Train each config on as much of this: tokens=…, flops=… or seconds=… [default: its own steps]
    #[arg(long, value_name = "WHAT=N", requires = "configs")]
    pub budget: Option<Budget>,
    /// Runs at once: one a device, or parts of the processor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub jobs: usize,
    #[command(flatten)]
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Write the trained weights of each run into its folder, under the last part of this name
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    /// Start all runs from these weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: Option<PathBuf>,
    /// Score all validation data after each training, in bits per byte where byte tables are found
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
    /// Train even what needs more memory than there is
    #[arg(long)]
    pub force: bool,
    /// Print the table as JSON, and nothing else on stdout
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the table as comma-separated values, and nothing else on stdout
    #[arg(long)]
    pub csv: bool,
    /// Print only the table
    #[arg(long)]
    pub quiet: bool,
}

impl Race {
    /// Whether stdout has more than the results.
    pub fn talks(&self) -> bool {
        !(self.quiet || self.json || self.csv)
    }
}

/// Value of `--budget`: how much of what each config is trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    Tokens(f64),
    Flops(f64),
    Seconds(f64),
}

impl std::str::FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give tokens=N, flops=N or seconds=N, as in tokens=1e6".to_string();
        let (what, amount) = text.split_once('=').ok_or_else(wrong)?;
        let amount: f64 = amount.parse().map_err(|_| wrong())?;
        if !(amount.is_finite() && amount > 0.0) {
            return Err(format!("`{amount}` is not above 0"));
        }
        match what {
            "tokens" => Ok(Self::Tokens(amount)),
            "flops" => Ok(Self::Flops(amount)),
            "seconds" => Ok(Self::Seconds(amount)),
            _ => Err(wrong()),
        }
    }
}

impl Budget {
    /// Steps of a model that it pays for, one at least; none if they depend on the machine.
    pub fn steps(self, counts: &mixlab_burn::program::Counts) -> Option<u64> {
        let (amount, each) = match self {
            Self::Tokens(tokens) => (tokens, counts.tokens as f64),
            Self::Flops(flops) => (flops, counts.training_flops().max(1) as f64),
            Self::Seconds(_) => return None,
        };
        Some((amount / each).clamp(1.0, 1e15) as u64)
    }

    /// Its seconds, if it is time.
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::Seconds(seconds) => Some(seconds),
            _ => None,
        }
    }
}

#[derive(Args)]
pub struct Validate {
    /// Config, or a folder of them
    #[arg(long, value_name = "PATH")]
    pub config: PathBuf,
    /// Override a field, as in training.steps=20 or blocks[0].heads=8; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Shards that it is to be trained on, a quoted glob, may be repeated
    #[arg(long, value_name = "GLOB")]
    pub train: Vec<String>,
    /// Shards that it is to be validated on
    #[arg(long, value_name = "GLOB")]
    pub val: Vec<String>,
    /// Shards have no header: 16-bit ids alone, as nanoGPT writes them
    #[arg(long)]
    pub raw_u16: bool,
    /// The tokenizer.json that the shards were made with
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub compute: Compute,
    /// Number format of matrix products [default: training.compute_dtype, or auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Args)]
pub struct Man {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
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
