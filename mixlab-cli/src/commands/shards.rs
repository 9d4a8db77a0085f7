//! Which shards a command reads.

use mixlab_burn::blocks::Block;
use mixlab_burn::data::{LoaderConfig, demo, pattern};
use mixlab_burn::plan::Plan;

use crate::cli;
use crate::error::Request;

/// The name of the built-in source.
pub const DEMO: &str = "demo";

/// Patterns of shards, and what is known about them.
pub struct Sources {
    /// Training shards.
    pub train: Vec<String>,
    /// Validation shards.
    pub val: Vec<String>,
    /// Entropy of the training data in nats per token, if it is known.
    pub floor: Option<f64>,
}

impl Sources {
    /// Those that `shards` names; the built-in stories are written if they are asked for.
    pub fn of(shards: &cli::Shards, vocab: usize) -> anyhow::Result<Self> {
        let sources = Self::trained_on(&shards.train, vocab)?;
        let val = if shards.val.is_empty() { sources.val } else { shards.val.clone() };
        Ok(Self { val, ..sources })
    }

    fn trained_on(train: &[String], vocab: usize) -> anyhow::Result<Self> {
        if !train.iter().any(|t| t == DEMO) {
            let val = train.iter().map(|t| pattern::validation(t)).collect();
            return Ok(Self { train: train.to_vec(), val, floor: None });
        }
        if train.len() > 1 {
            let message =
                "`--train demo` cannot be mixed with shards\n  hint: give one or the other";
            return Err(Request(message.into()).into());
        }
        let demo = demo::prepare(&demo::default_cache_root()?, vocab)?;
        let floor = Some(demo.entropy_per_token);
        Ok(Self { train: vec![demo.train], val: vec![demo.val], floor })
    }
}

/// How a plan reads shards.
pub fn loader<K: Block>(plan: &Plan<K>, patterns: &[String]) -> LoaderConfig {
    LoaderConfig {
        patterns: patterns.to_vec(),
        batch_tokens: plan.training.batch_tokens,
        seq_len: plan.seq_len,
        chunk: plan.training.shuffle_chunk_tokens,
        seed: plan.training.seed,
        vocab_size: plan.vocab,
    }
}
