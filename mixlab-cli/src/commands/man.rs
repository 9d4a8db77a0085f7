//! `man`: a manual page for the program and for each command.

use std::fs;

use clap::CommandFactory;

use crate::cli::{self, Cli};
use crate::outputs;

pub fn run(options: &cli::Man) -> anyhow::Result<()> {
    let failed = |error| outputs::unwritable(&options.folder, error);
    fs::create_dir_all(&options.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &options.folder).map_err(failed)?;
    println!("wrote manual pages to {}", options.folder.display());
    Ok(())
}
