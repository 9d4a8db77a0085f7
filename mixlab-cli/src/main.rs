//! The command line over the built-in blocks.

fn main() -> std::process::ExitCode {
    mixlab_cli::builtin()
}
