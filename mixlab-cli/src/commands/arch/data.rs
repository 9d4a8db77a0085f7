//! Where a run's tokens come from.

use mixlab_burn::blocks::Block;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::data::{Loader, LoaderConfig, Position, Prefetch, demo, identity, pattern};
use mixlab_burn::plan::Plan;
use mixlab_burn::train::Run;
use serde_json::{Value, json};

use crate::cli;
use crate::error::Request;

/// The name of the built-in source.
const DEMO: &str = "demo";

/// Batches, and what is known about them.
pub struct Feed {
    /// Training and validation batches.
    pub run: Run,
    /// Why there is no validation.
    pub no_validation: Option<String>,
    /// Entropy of the training data in nats per token, if it is known.
    pub floor: Option<f64>,
}

/// The shards that a run reads, by their patterns.
pub struct Sources {
    train: Vec<String>,
    val: Vec<String>,
    floor: Option<f64>,
}

impl Sources {
    /// Those that `options` name.
    pub fn of(options: &cli::Arch, vocab: usize) -> anyhow::Result<Self> {
        let (train, derived, floor) = sources(options, vocab)?;
        let val = if options.val.is_empty() { derived } else { options.val.clone() };
        Ok(Self { train, val, floor })
    }

    /// What tells them from others.
    pub fn identity(&self) -> anyhow::Result<Value> {
        let val = match pattern::expand(&self.val) {
            Ok(_) => identity::identity(&self.val)?,
            Err(_) => json!([]),
        };
        Ok(json!({"train": identity::identity(&self.train)?, "val": val}))
    }
}

/// Opens the shards of `sources`, at `position` if there is one.
pub fn open<K: Block>(
    options: &cli::Arch,
    plan: &Plan<K>,
    sources: Sources,
    position: Option<&Position>,
) -> anyhow::Result<Feed> {
    let Sources { train, val, floor } = sources;
    let loader = |patterns: &[String]| LoaderConfig {
        patterns: patterns.to_vec(),
        batch_tokens: plan.training.batch_tokens,
        seq_len: plan.seq_len,
        chunk: plan.training.shuffle_chunk_tokens,
        seed: plan.training.seed,
        vocab_size: plan.vocab,
    };
    let batches = Prefetch::start(match position {
        Some(position) => Loader::resume(&loader(&train), position)?,
        None => Loader::new(&loader(&train))?,
    });
    let (validation, no_validation) = match pattern::expand(&val) {
        // A given pattern that matches nothing is a mistake; a derived one only means no data.
        Err(error) if !options.val.is_empty() => return Err(error.into()),
        Err(error) => (Vec::new(), Some(error.to_string())),
        Ok(_) => (validation_batches(&loader(&val))?, None),
    };
    if no_validation.is_none()
        && let Some(overlap) = pattern::overlap(&train, &val)?
    {
        eprintln!("warning: {overlap}");
    }
    let (log_every, val_every) = (options.log_every, options.val_every);
    let run = Run { batches, validation, log_every, val_every };
    Ok(Feed { run, no_validation, floor })
}

/// Training patterns, the validation patterns that follow from them, and the floor.
fn sources(
    options: &cli::Arch,
    vocab: usize,
) -> anyhow::Result<(Vec<String>, Vec<String>, Option<f64>)> {
    let train = &options.train;
    if !train.iter().any(|t| t == DEMO) {
        return Ok((train.clone(), train.iter().map(|t| pattern::validation(t)).collect(), None));
    }
    if train.len() > 1 {
        let message = "`--train demo` cannot be mixed with shards\n  hint: give one or the other";
        return Err(Request(message.into()).into());
    }
    let demo = demo::prepare(&demo::default_cache_root()?, vocab)?;
    Ok((vec![demo.train], vec![demo.val], Some(demo.entropy_per_token)))
}
