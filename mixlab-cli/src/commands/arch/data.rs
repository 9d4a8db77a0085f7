//! Where a run's tokens come from.

use mixlab_burn::blocks::Block;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::data::{Loader, Position, Prefetch, pattern};
use mixlab_burn::plan::Plan;
use mixlab_burn::train::Run;

use crate::commands::full::FullData;
use crate::commands::shards::Sources;
use crate::commands::spool::Spool;
use crate::{cli, out};

/// Batches, and what is known about them.
pub struct Feed {
    /// Training and validation batches.
    pub run: Run,
    /// Why there is no validation.
    pub no_validation: Option<String>,
    /// All validation data, if they are scored after training.
    pub full: Option<FullData>,
    /// Entropy of the training data in nats per token, if it is known.
    pub floor: Option<f64>,
    /// What shards that came through pipes lie in.
    _spool: Spool,
}

/// Checks the shards and begins to read, at `position` if there is one.
pub fn open<K: Block>(
    sources: Sources,
    options: &cli::Arch,
    plan: &Plan<K>,
    position: Option<&Position>,
) -> anyhow::Result<Feed> {
    let _wait = out::if_long("checking the token ids of all shards".into());
    let loader = sources.loader(plan, &sources.train);
    let batches = Prefetch::start(match position {
        Some(position) => Loader::resume(&loader, position)?,
        None => Loader::new(&loader)?,
    });
    let mut validation = Vec::new();
    if sources.no_validation.is_none() {
        validation = validation_batches(&sources.loader(plan, &sources.val))?;
        if let Some(overlap) = pattern::overlap(&sources.train, &sources.val)? {
            eprintln!("warning: {overlap}");
        }
    }
    // Read now: what is wrong with them is better known before training.
    let full = || FullData::open(&sources, options.training.lut_dir.as_deref(), plan.vocab);
    let full = options.training.eval.then(full).transpose()?;
    let (log_every, val_every) = (options.training.log_every, options.training.val_every);
    let run = Run { batches, validation, log_every, val_every };
    let Sources { no_validation, floor, spool, .. } = sources;
    Ok(Feed { run, no_validation, full, floor, _spool: spool })
}
