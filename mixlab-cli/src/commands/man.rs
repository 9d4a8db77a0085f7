//! `man`: a manual page for the program and for each command.

use std::fs;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::{self, Cli};

pub fn run(options: &cli::Man) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", options.folder.display());
    fs::create_dir_all(&options.folder).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), &options.folder).with_context(failed)?;
    println!("wrote manual pages to {}", options.folder.display());
    Ok(())
}
