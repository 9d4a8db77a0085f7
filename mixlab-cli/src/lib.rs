//! The door: parses the command line, calls the library, prints.
//!
//! A crate with blocks of its own gets all commands for them by calling [`run`] with its block set:
//!
//! ```no_run
//! # use mixlab_burn::blocks::Builtin as MyBlocks;
//! fn main() -> std::process::ExitCode {
//!     mixlab_cli::run::<MyBlocks>()
//! }
//! ```
#![warn(missing_docs)]

pub mod backend;
mod cli;
mod commands;
mod error;
mod kernels;
mod legacy;
mod report;
mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use mixlab_burn::blocks::{Block, Builtin};
use mixlab_burn::config::ConfigError;

use cli::{Cli, Command};
use error::Interrupted;

pub use error::Request;

/// Runs the command line of this process with the built-in blocks.
pub fn builtin() -> ExitCode {
    run::<Builtin>()
}

/// Runs the command line of this process with blocks of type `K`.
pub fn run<K: Block>() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match execute::<K>(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(Interrupted::CODE),
        Err(error) => {
            eprintln!("error: {}", error::message(&error));
            let request = error.is::<Request>() || error.is::<ConfigError>();
            ExitCode::from(if request { 2 } else { 1 })
        }
    }
}

fn execute<K: Block>(arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments = legacy::translate(arguments).map_err(Request)?;
    let cli = Cli::try_parse_from(arguments).map_err(refused)?;
    match cli.command {
        Command::Arch(options) => commands::arch::run::<K>(&options),
        Command::Count(options) => commands::count::run::<K>(&options),
        Command::Smoke(options) => commands::smoke::run(&options),
        Command::Prepare(options) => commands::prepare::run(&options),
    }
}

/// A stray argument as a [`Request`]; all else clap says itself, and ends the process.
fn refused(error: clap::Error) -> Request {
    let argument = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) => argument,
        _ => error.exit(),
    };
    if argument.starts_with('-') {
        error.exit()
    }
    Request(legacy::stray(argument))
}
