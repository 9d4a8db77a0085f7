//! What every command is told about profiles of itself.

use std::path::PathBuf;

use clap::Args;

/// Where profiles go.
#[derive(Args)]
pub struct Profiles {
    /// Write where processor time went, for pprof or speedscope
    #[arg(long, value_name = "FILE", global = true, help_heading = "Profiles")]
    pub cpuprofile: Option<PathBuf>,
    /// Write which calls took memory and which hold it at the end, for pprof or speedscope
    #[arg(long, value_name = "FILE", global = true, help_heading = "Profiles")]
    pub memprofile: Option<PathBuf>,
}

impl Profiles {
    /// Whether any is asked for.
    pub fn any(&self) -> bool {
        self.cpuprofile.is_some() || self.memprofile.is_some()
    }
}
