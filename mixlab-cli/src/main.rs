//! The command line over the built-in blocks.

use std::process::ExitCode;

fn main() -> ExitCode {
    mixlab_cli::run::<mixlab_burn::blocks::Builtin>()
}
