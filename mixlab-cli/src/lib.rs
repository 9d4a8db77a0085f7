//! The door: parses the command line, calls the library, prints.
//!
//! The program `mixlab-cli` is [`builtin`]: every command over the built-in blocks. A crate with blocks
//! of its own gets all commands for them by calling [`run`] with its block set:
//!
//! ```no_run
//! # use mixlab_burn::blocks::Builtin as MyBlocks;
//! fn main() -> std::process::ExitCode {
//!     mixlab_cli::run::<MyBlocks>()
//! }
//! ```
//!
//! | exit code | what it means |
//! |---|---|
//! | 0 | what was asked for is done |
//! | 1 | it failed: a file, a device, a number that is not finite |
//! | 2 | it cannot be done as it was asked for: a flag, a config ([`Request`]) |
//! | 75 | somebody else is at it, or stopped it; another try may do it |
//! | 130 | Ctrl-C |
//!
//! [`backend`] is of use to other programs too: the flags that choose a backend, and a [`Job`] that is
//! generic over it.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use burn::tensor::{Tensor, backend::AutodiffBackend};
//! use clap::Parser;
//! use mixlab_burn::ops::{Backend, rms_norm};
//! use mixlab_cli::backend::{Compute, Job, Place, run};
//!
//! #[derive(Parser)]
//! struct Options {
//!     #[command(flatten)]
//!     compute: Compute,
//! }
//!
//! struct Norm;
//!
//! impl Job for Norm {
//!     fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
//!     where
//!         A: AutodiffBackend<InnerBackend: Backend> + Backend,
//!     {
//!         let [x, scale] = [[3.0, 4.0], [1.0, 1.0]];
//!         let x = Tensor::<A, 2>::from_floats([x], &device);
//!         println!("on {place}: {}", rms_norm(x, Tensor::from_floats(scale, &device), 0.0));
//!         Ok(())
//!     }
//! }
//!
//! let options = Options::parse_from(["norm", "--backend", "cpu"]);
//! run(&options.compute, Norm)?;
//! # }
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! [`Job`]: backend::Job
#![warn(missing_docs)]

#[macro_use]
mod out;

pub mod backend;
mod cli;
mod commands;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod drivers;
mod error;
#[cfg_attr(not(any(feature = "cuda", feature = "wgpu")), allow(dead_code))]
mod failure;
mod interrupt;
mod kernels;
mod legacy;
mod memory;
mod outputs;
mod profile;
mod report;
mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use mixlab_burn::blocks::{Block, Builtin};
use mixlab_burn::config::{ConfigError, shortened};

use cli::{Cli, Command};
use error::{Interrupted, Stopped};

pub use error::Request;
pub use memory::Allocator;

/// Runs the command line of this process with the built-in blocks.
pub fn builtin() -> ExitCode {
    run::<Builtin>()
}

/// Runs the command line of this process with blocks of type `K`. Called before the process starts
/// threads.
pub fn run<K: Block>() -> ExitCode {
    #[cfg(feature = "wgpu")]
    // SAFETY: nothing has been started yet.
    unsafe {
        drivers::keep_pipelines();
    }
    out::limits_are_errors();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match execute::<K>(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(Interrupted::CODE),
        Err(error) if error.is::<failure::Failed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", error::message(&error));
            if error.is::<Stopped>() {
                return ExitCode::from(Stopped::CODE);
            }
            let request = error.is::<Request>() || error.is::<ConfigError>();
            ExitCode::from(if request { 2 } else { 1 })
        }
    }
}

fn execute<K: Block>(arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments = legacy::translate(arguments).map_err(Request)?;
    let cli = Cli::parse_all(&arguments).map_err(|error| refused(error, &arguments))?;
    let _profiles = if cli.profiles.any() {
        interrupt::end()?;
        Some(profile::start(&cli.profiles)?)
    } else {
        None
    };
    if let Some(compute) = cli.command.compute() {
        backend::use_threads(compute)?;
    }
    let is_answer = cli.command.is_answer();
    carry_out::<K>(cli.command)?;
    if is_answer { out::printed() } else { Ok(()) }
}

fn carry_out<K: Block>(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Arch(options) => commands::arch::run::<K>(&options),
        Command::Count(options) => commands::count::run::<K>(&options),
        Command::Export(options) => commands::export::run::<K>(&options),
        Command::Parity(options) => commands::parity::run::<K>(&options),
        Command::Smoke(options) => commands::smoke::run(&options),
        Command::Prepare(options) => commands::prepare::run(&options),
        Command::Race(options) => commands::race::run::<K>(&options),
        Command::Validate(options) => commands::validate::run::<K>(&options),
        Command::Completions(options) => {
            commands::completions::run(&options);
            Ok(())
        }
        Command::Man(options) => commands::man::run(&options),
        Command::Eval(options) => commands::eval::run::<K>(&options),
        Command::Hiddenstats(options) => commands::hiddenstats::run::<K>(&options),
        Command::Generate(options) => commands::generate::run::<K>(&options),
    }
}

/// What clap says as a [`Request`] with a hint; help it prints itself, and ends the process.
fn refused(error: clap::Error, arguments: &[OsString]) -> Request {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        if !argument.starts_with('-') {
            return Request(legacy::stray(&shortened(argument)));
        }
        let mut written = arguments.iter().filter_map(|argument| argument.to_str());
        if let Some(flag) = written.find_map(|written| legacy::with_one_dash(written, argument)) {
            return Request(flag);
        }
    }
    let text = error.render().to_string();
    let Some(text) = text.strip_prefix("error: ") else { error.exit() };
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let what: Vec<String> = what.lines().map(shortened).collect();
    let tip = rest.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let hint = tip.unwrap_or(match error.kind() {
        ErrorKind::InvalidUtf8 => "`*` and `?` in patterns stand for such characters",
        _ => "`mixlab-cli --help` lists the commands, and `--help` after one its flags",
    });
    Request(format!("{}\n  hint: {}", what.join("\n"), shortened(hint)))
}
