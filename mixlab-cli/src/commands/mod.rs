//! One file a subcommand.

pub mod arch;
pub mod completions;
pub mod count;
pub mod eval;
pub mod export;
mod full;
pub mod generate;
pub mod hiddenstats;
pub mod man;
mod onnx;
pub mod parity;
pub mod prepare;
pub mod race;
mod scorer;
mod shards;
pub mod smoke;
mod spool;
pub mod validate;

use std::sync::Arc;

use mixlab_burn::blocks::Block;
use mixlab_burn::config::{ConfigError, Finding};
use mixlab_burn::plan::{Plan, Planned};
use sha2::{Digest, Sha256};

use crate::cli::{ConfigFile, Trained};

/// Warnings that are printed.
const SHOWN_WARNINGS: usize = 50;

/// Reads the config that a command names, with `more` as its last override; warnings go to stderr.
fn planned<K: Block>(
    file: &ConfigFile,
    more: Option<String>,
) -> Result<(Arc<Plan<K>>, serde_json::Value), ConfigError> {
    let overrides: Vec<String> = file.set.iter().cloned().chain(more).collect();
    let Planned { plan, warnings, config } = Plan::read(&file.config, &overrides)?;
    warn(&warnings);
    Ok((Arc::new(plan), config))
}

fn warn(warnings: &[Finding]) {
    for warning in warnings.iter().take(SHOWN_WARNINGS) {
        eprintln!("warning: {warning}");
    }
    if let Some(rest @ 1..) = warnings.len().checked_sub(SHOWN_WARNINGS) {
        eprintln!("warning: {rest} more like these");
    }
}

/// The plan of the config that a command names for trained weights. Warnings of how they are trained
/// come too late here.
fn trained<K: Block>(options: &Trained) -> Result<Arc<Plan<K>>, ConfigError> {
    let precision = options.machine.precision.map(|precision| precision.setting());
    let overrides: Vec<String> = options.config.set.iter().cloned().chain(precision).collect();
    let Planned { plan, mut warnings, .. } = Plan::read(&options.config.config, &overrides)?;
    warnings.retain(|warning| !warning.problem.path.starts_with("training."));
    warn(&warnings);
    Ok(Arc::new(plan))
}

/// SHA-256 of `bytes` as hexadecimal digits, by which a config or a file is known again.
fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
