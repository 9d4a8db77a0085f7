//! What `arch_race` is told.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Arg, Args};

use super::{Every, Quantize, Saving, Training, positive};

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
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Override a field in all configs; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub training: Training,
    /// Runs of each config, with its seed, the next one, and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub seeds: usize,
    /// Compare each config with this one, seed by seed
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Train each config on as much of this: tokens=…, flops=… or seconds=… [default: its own steps]
    #[arg(long, value_name = "WHAT=N")]
    pub budget: Option<Budget>,
    /// Runs at once: one a device, or parts of the processor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub jobs: usize,
    /// Write the trained weights of each run into its folder, under the last part of this name
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    #[command(flatten)]
    pub quantize: Quantize,
    #[command(flatten)]
    pub saving: Saving,
    /// Start all runs from these weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: Option<PathBuf>,
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

/// Flags of a whole race, which are written down when it is made.
const OF_A_NEW_RACE: [&str; 24] = [
    "output",
    "set",
    "seeds",
    "budget",
    "train",
    "val",
    "raw_u16",
    "precision",
    "eval",
    "lut_dir",
    "log_every",
    "val_every",
    "timing",
    "force",
    "quantize",
    "quant_method",
    "quant_k",
    "quant_k_embed",
    "quant_legacy_floor",
    "quant_layout",
    "checkpoint_dir",
    "checkpoint_every",
    "keep",
    "safetensors_load",
];

/// Refuses flags of a new race for one that there is: they would change nothing.
pub fn only_new(arg: Arg) -> Arg {
    if OF_A_NEW_RACE.contains(&arg.get_id().as_str()) {
        arg.conflicts_with_all(["resume", "worker", "run"])
    } else {
        arg
    }
}

impl Race {
    /// The folder of checkpoints in that of each run, if there are to be some.
    pub fn checkpoints(&self) -> Option<&OsStr> {
        let saved = self.saving.checkpoint_every != Every::Never;
        let given = self.saving.checkpoint_dir.as_deref();
        given.and_then(Path::file_name).or(saved.then_some(OsStr::new("checkpoints")))
    }

    /// The name of the trained weights in the folder of each run, if they are to be written.
    pub fn weights(&self) -> Option<&OsStr> {
        self.safetensors.as_deref().and_then(Path::file_name)
    }

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
