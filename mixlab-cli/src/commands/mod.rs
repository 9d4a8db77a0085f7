//! One file a subcommand.

pub mod arch;
pub mod count;
pub mod prepare;
pub mod smoke;

use std::sync::Arc;

use mixlab_burn::blocks::Block;
use mixlab_burn::config::ConfigError;
use mixlab_burn::plan::{Plan, Planned};

use crate::cli::ConfigFile;

/// Reads the config that a command names; warnings go to stderr.
fn planned<K: Block>(file: &ConfigFile) -> Result<(Arc<Plan<K>>, serde_json::Value), ConfigError> {
    let Planned { plan, warnings, config } = Plan::read(&file.config, &file.set)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok((Arc::new(plan), config))
}
