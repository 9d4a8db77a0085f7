//! Where a run's tokens come from.

use mixlab_burn::blocks::Block;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::data::{Loader, Prefetch, pattern};
use mixlab_burn::plan::Plan;
use mixlab_burn::train::Run;

use crate::cli;
use crate::commands::full::FullData;
use crate::commands::shards::{Sources, loader};

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
}

/// Opens the shards that `options` names.
pub fn open<K: Block>(options: &cli::Arch, plan: &Plan<K>) -> anyhow::Result<Feed> {
    let Sources { train, val, floor } = Sources::of(&options.shards, plan.vocab)?;
    let batches = Prefetch::start(Loader::new(&loader(plan, &train))?);
    let (validation, no_validation) = match pattern::expand(&val) {
        // A pattern that is needed and matches nothing is a mistake; a derived one only means no data.
        Err(error) if options.eval || !options.shards.val.is_empty() => return Err(error.into()),
        Err(error) => (Vec::new(), Some(error.to_string())),
        Ok(_) => (validation_batches(&loader(plan, &val))?, None),
    };
    if no_validation.is_none()
        && let Some(overlap) = pattern::overlap(&train, &val)?
    {
        eprintln!("warning: {overlap}");
    }
    // Read now: what is wrong with them is better known before training.
    let full = || FullData::open(&val, options.lut_dir.as_deref(), plan.vocab);
    let full = options.eval.then(full).transpose()?;
    let (log_every, val_every) = (options.log_every, options.val_every);
    let run = Run { batches, validation, log_every, val_every };
    Ok(Feed { run, no_validation, full, floor })
}
