//! The command line as clap sees it.

mod arch;
mod eval;
mod export;
mod generate;
mod groups;
mod hiddenstats;
mod prepare;
mod profiles;
mod race;
mod validate;

use std::any::TypeId;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::backend::Compute;

pub use arch::{Arch, Checkpoints, Every, Quantize, Saving, WarmStart};
pub use eval::Eval;
pub use export::{Export, Parity, Tolerance};
pub use generate::Generate;
pub use groups::{ConfigFile, Machine, Shards, Trained, Training};
pub use hiddenstats::{Hiddenstats, Layers};
pub use prepare::Prepare;
pub use profiles::Profiles;
pub use race::Race;
pub use validate::Validate;

/// The version, the commit of a release, and the features that were built in.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MIXLAB_BUILD"), ")");

/// Explore language-model architectures from one JSON file.
#[derive(Parser)]
#[command(name = "mixlab-cli", version = VERSION)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub profiles: Profiles,
}

impl Cli {
    /// Reads a whole command line. What follows a flag that takes a value is its value, a negative
    /// number too: if it does not fit, the value is what is wrong, not an argument `-1`. No path is `-`.
    pub fn parse_all(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let negative = |arg: Arg| {
            let takes_value = arg.get_action().takes_values() && !arg.is_positional();
            place(if takes_value { arg.allow_negative_numbers(true) } else { arg })
        };
        let command = Self::command()
            .mut_args(place)
            .mut_subcommands(|command| command.mut_args(negative))
            .mut_subcommand("arch_race", |race| race.mut_args(race::only_new));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
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
            Self::Arch(options) => Some(&options.training.machine.compute),
            Self::Smoke(options) => Some(&options.compute),
            Self::Eval(options) => Some(&options.model.machine.compute),
            Self::Hiddenstats(options) => Some(&options.model.machine.compute),
            Self::Generate(options) => Some(&options.model.machine.compute),
            Self::Validate(options) => Some(&options.machine.compute),
            Self::Export(options) => Some(&options.compute),
            Self::Parity(options) => Some(&options.compute),
            // Its runs are processes of their own.
            Self::Race(_) => None,
            Self::Count(_) | Self::Prepare(_) | Self::Completions(_) | Self::Man(_) => None,
        }
    }

    /// Whether it has failed if what it prints does not arrive.
    pub fn is_answer(&self) -> bool {
        use Command::{Completions, Count, Eval, Parity, Validate};
        matches!(self, Completions(_) | Count(_) | Eval(_) | Parity(_) | Validate(_))
    }
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

/// `arg`, whose value, if it is a path, is not `-`: commands print beside what they write, and some
/// read a file more than once.
fn place(arg: Arg) -> Arg {
    let named = |path: PathBuf| {
        let hint = "name `/dev/stdin` or `/dev/stdout`, or `./-` for a file of that name";
        if path.as_os_str() == "-" { Err(hint) } else { Ok(path) }
    };
    let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    if is_path { arg.value_parser(PathBufValueParser::new().try_map(named)) } else { arg }
}

/// A whole number.
pub fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "it is too large".into(),
        _ => "expected a whole number, 0 or more".into(),
    })
}

fn positive(text: &str) -> Result<usize, String> {
    match whole(text) {
        Ok(0) => Err("must be at least 1".into()),
        Err(_) if text.starts_with('-') => Err("must be at least 1".into()),
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_any_command_is_a_hyphen() {
        let refused = |words: &[&str]| {
            let words: Vec<OsString> =
                ["mixlab-cli"].iter().chain(words).map(OsString::from).collect();
            let error = Cli::parse_all(&words).err().unwrap_or_else(|| panic!("{words:?}"));
            assert!(error.to_string().contains("/dev/stdout"), "{words:?}: {error}");
        };
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments() {
                if arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
                    let flag = arg.get_long().map(|long| format!("--{long}"));
                    let words: Vec<&str> = [command.get_name()]
                        .into_iter()
                        .chain(flag.as_deref())
                        .chain(["-"])
                        .collect();
                    refused(&words);
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
        refused(&["--cpuprofile", "-", "count", "--config", "c.json"]);
        let named = ["mixlab-cli", "count", "--config", "./-"].map(OsString::from);
        assert!(Cli::parse_all(&named).is_ok());
    }
}
