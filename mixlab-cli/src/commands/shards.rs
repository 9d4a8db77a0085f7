//! Which shards a command reads.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::prepare::BESIDE;
use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{LoaderConfig, demo, identity, pattern};
use mixlab_burn::plan::Plan;
use serde_json::{Value, json};

use super::spool::Spool;
use crate::error::Request;
use crate::{cli, out};

/// The name of the built-in source.
pub const DEMO: &str = "demo";

/// Which shards there are.
pub struct Sources {
    /// Patterns of training shards.
    pub train: Vec<String>,
    /// Patterns of validation shards that match something.
    pub val: Vec<String>,
    /// Why there are none.
    pub no_validation: Option<String>,
    /// Entropy of the training data in nats per token, if it is known.
    pub floor: Option<f64>,
    /// How shards are written.
    pub layout: Layout,
    /// The copies of shards that came through pipes, which last as long as this.
    pub spool: Spool,
}

impl Sources {
    /// Looks for the shards that `options` names.
    pub fn find(options: &cli::Shards, vocab: usize) -> anyhow::Result<Self> {
        let layout = if options.raw_u16 { Layout::Raw } else { Layout::Header };
        if options.train.iter().any(|given| given == DEMO) {
            return Self::demo(options, vocab);
        }
        let mut spool = Spool::default();
        let train = spool.patterns(&options.train, "train", layout)?;
        if !options.val.is_empty() {
            let val = spool.patterns(&options.val, "val", layout)?;
            // A given pattern that matches nothing is a mistake; a derived one only means no data.
            pattern::expand(&val)?;
            return Ok(Self { train, val, no_validation: None, floor: None, layout, spool });
        }
        let val: Vec<_> = train.iter().filter_map(|train| derived(train)).collect();
        let no_validation = val.is_empty().then(|| {
            let usual = pattern::validation(&train[0]);
            format!(
                "no file matches `{usual}`, and none has another usual name; --val names others"
            )
        });
        Ok(Self { train, val, no_validation, floor: None, layout, spool })
    }

    fn demo(options: &cli::Shards, vocab: usize) -> anyhow::Result<Self> {
        if options.train.len() > 1 {
            let message =
                "`--train demo` cannot be mixed with shards\n  hint: give one or the other";
            return Err(Request(message.into()).into());
        }
        let _wait = out::if_long("writing the demo stories and their tokens; they are kept".into());
        let demo = demo::prepare(&demo::default_cache_root()?, vocab)?;
        let (mut spool, layout) = (Spool::default(), Layout::Header);
        let given = spool.patterns(&options.val, "val", layout)?;
        let val = if given.is_empty() { vec![demo.val] } else { given };
        pattern::expand(&val)?;
        let (train, floor) = (vec![demo.train], Some(demo.entropy_per_token));
        Ok(Self { train, val, no_validation: None, floor, layout, spool })
    }

    /// All shards that there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        let found = |patterns| pattern::expand(patterns).unwrap_or_default();
        [found(&self.train), found(&self.val)].concat()
    }

    /// All shards, and what `prepare` leaves beside them.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.paths();
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect();
        files.extend(folders.iter().flat_map(|folder| BESIDE.map(|name| folder.join(name))));
        files
    }

    /// What tells these shards from others: reads all of them.
    pub fn identity(&self) -> anyhow::Result<Value> {
        let _wait = out::if_long("reading all shards, to know them again".into());
        let val = match self.no_validation {
            None => identity::identity(&self.val)?,
            Some(_) => json!([]),
        };
        let raw = self.layout == Layout::Raw;
        Ok(json!({"train": identity::identity(&self.train)?, "val": val, "raw_u16": raw}))
    }

    /// The patterns of validation shards, for a command that needs some.
    pub fn validation(&self) -> anyhow::Result<&[String]> {
        match &self.no_validation {
            Some(reason) => {
                bail!("there is no validation data: {reason}\n  hint: `--val` names its shards")
            }
            None => Ok(&self.val),
        }
    }

    /// How `plan` reads the shards of `patterns`.
    pub fn loader<K: Block>(&self, plan: &Plan<K>, patterns: &[String]) -> LoaderConfig {
        LoaderConfig {
            patterns: patterns.to_vec(),
            batch_tokens: plan.training.batch_tokens,
            seq_len: plan.seq_len,
            chunk: plan.training.shuffle_chunk_tokens,
            seed: plan.training.seed,
            vocab_size: plan.vocab,
            layout: self.layout,
        }
    }
}

/// The first of the usual patterns for the validation shards of `train` that matches something.
fn derived(train: &str) -> Option<String> {
    let mut patterns = pattern::validations(train).into_iter();
    patterns.find(|pattern| pattern::expand(std::slice::from_ref(pattern)).is_ok())
}
