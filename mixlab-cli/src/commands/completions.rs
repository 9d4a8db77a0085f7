//! `completions`: what a shell needs to complete commands and flags, from the same definition that
//! parses them.

use clap::CommandFactory;

use crate::cli::{self, Cli};

pub fn run(options: &cli::Completions) {
    let mut command = Cli::command();
    let name = command.get_name().to_string();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    print!("{}", String::from_utf8_lossy(&script));
}
