//! The command line as the tests run it: the same library, under a name of its own.

fn main() -> std::process::ExitCode {
    mixlab_cli::builtin()
}
