//! The command line over the built-in blocks.

#[global_allocator]
static ALLOCATOR: mixlab_cli::Allocator = mixlab_cli::Allocator;

fn main() -> std::process::ExitCode {
    mixlab_cli::builtin()
}
