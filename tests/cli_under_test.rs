//! The command line as the tests run it: the same library, under a name of its own.

#[global_allocator]
static ALLOCATOR: mixlab_cli::Allocator = mixlab_cli::Allocator;

fn main() -> std::process::ExitCode {
    mixlab_cli::builtin()
}
