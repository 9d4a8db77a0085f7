//! Config → [`Plan`]: what was written becomes what is true.
//!
//! A plan is the only validator. It resolves defaults, shared weights and references between
//! blocks, and reports every problem of a config at once. Below it no function returns an error
//! about a config.

mod caption;
mod length;
mod parallel;
mod schedule;
mod sharing;
mod sizes;
mod streams;
mod techniques;
mod training;
mod weights;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::backend::Backend;

use crate::blocks::{Block, Builtin, Scope, Time};
use crate::config::{BlockSpec, Config, ConfigError, Finding, Problem, Problems, Reported, Source};
use crate::model::{BlockModule, Model};
use crate::weights::Metadata;

use sizes::Sizes;
pub(crate) use streams::Streams;

pub use length::LengthError;
pub use schedule::Schedule;
pub use sizes::MAX_ELEMENTS;
pub use techniques::{Average, Qat, TestTime, TestTimeMode};
pub use training::{Algorithm, Group, Phase, Training};

/// Width of feed-forward layers relative to `D` when a config gives none.
const DEFAULT_MLP_MULT: f64 = 2.67;
/// Blocks that a model may have: ten times those of the deepest that were trained.
const MAX_BLOCKS: usize = 10_000;
/// Tokens in a row when a config gives none.
const DEFAULT_SEQ_LEN: usize = 128;

/// Hashed bigram embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Bigram {
    /// Rows of the table, `Vb`; the last is for a token without a predecessor.
    pub vocab: usize,
    /// Width of a row, `Db`.
    pub dim: usize,
}

/// One block in the order of execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<K> {
    /// Its options.
    pub block: K,
    /// The block (from 0) whose weights it uses; its own index if it has its own.
    pub owner: usize,
    /// The name under which later blocks can read its output, if any.
    pub stream: Option<String>,
    /// Its type and settings as written, for people.
    pub label: String,
}

/// A validated model and how to train it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan<K = Builtin> {
    /// Label.
    pub name: String,
    /// Width of the residual stream, `D`.
    pub dim: usize,
    /// Vocabulary size, `V`.
    pub vocab: usize,
    /// Tokens in a row, `T`.
    pub seq_len: usize,
    /// Whether the output head is the transposed embedding.
    pub tie_embeddings: bool,
    /// Bound of the logits, if any.
    pub softcap: Option<f32>,
    /// Hashed bigram embeddings, if any.
    pub bigram: Option<Bigram>,
    /// Whether the first half of the blocks feeds the second half through skips.
    pub unet: bool,
    /// The blocks, in order.
    pub steps: Vec<Step<K>>,
    /// How to train it.
    pub training: Training,
}

/// A plan with what is odd about its config.
#[derive(Clone, Debug)]
pub struct Planned<K = Builtin> {
    /// The plan.
    pub plan: Plan<K>,
    /// Legal and surprising settings, each with its place.
    pub warnings: Vec<Finding>,
    /// The config after overrides, for logs.
    pub config: serde_json::Value,
}

impl Plan {
    /// Reads and plans a config file whose blocks are [`Builtin`]. [`Plan::read`] is for other sets of
    /// blocks, and tells what is odd in the file too.
    ///
    /// # Errors
    /// All problems of the file at once, each with its line and the way out.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(Self::read(path, &[])?.plan)
    }
}

impl<K: Block> Plan<K> {
    /// Reads and plans a config file; each of `overrides` is a `path=value` that replaces a field.
    ///
    /// # Errors
    /// All problems of the file at once, each with its line.
    pub fn read(path: impl AsRef<Path>, overrides: &[String]) -> Result<Planned<K>, ConfigError> {
        let (config, source) = Config::read(path, overrides)?;
        Self::of(&config, source)
    }

    /// Plans the config in `text`; `name` stands for the file in messages.
    ///
    /// # Errors
    /// All problems of the text at once, each with its line.
    pub fn parse(text: &str, name: &str, overrides: &[String]) -> Result<Planned<K>, ConfigError> {
        let (config, source) = Config::parse(text, name, overrides)?;
        Self::of(&config, source)
    }

    /// A model of this plan, ready to train: [`Model::init`] with a copy of the plan.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Model<B, K> {
        Model::init(Arc::new(self.clone()), device)
    }

    /// The block at `index` (from 0) as a module of its own, with fresh weights of its own even where
    /// the plan shares them.
    ///
    /// # Errors
    /// If there is no such block, or if it reads more than the stream that enters it.
    pub fn block<B: Backend>(
        &self,
        index: usize,
        device: &B::Device,
    ) -> Result<BlockModule<B, K>, ConfigError> {
        let place = format!("blocks[{index}]");
        let Some(step) = self.steps.get(index) else {
            let message = format!("there is no such block; the plan has `{}`", self.steps.len());
            let problem = Problem::new(place, message).with_hint("blocks are counted from 0");
            return Err(ConfigError::at(&self.name, problem));
        };
        match step.block.needs() {
            None => Ok(BlockModule::new(self, &step.block, device)),
            Some(need) => {
                let message = format!("`{}` cannot stand alone: it reads {need}", step.label);
                let hint = "leave that out, or make a whole model of the config with `Plan::init`";
                Err(ConfigError::at(&self.name, Problem::new(place, message).with_hint(hint)))
            }
        }
    }

    /// Plans a config of one block in a stream of width `dim`.
    pub(crate) fn of_block(json: &str, dim: usize) -> Result<Self, ConfigError> {
        let (config, source) = Config::of_block(json, "block", dim)?;
        Ok(Self::of(&config, source)?.plan)
    }

    fn of(config: &Config, mut source: Source) -> Result<Planned<K>, ConfigError> {
        let json = source.to_json();
        let labels = config.blocks.iter().enumerate();
        let label = |(i, spec)| caption::label(spec, &source.settings(&format!("blocks[{i}]")));
        let labels = labels.map(label).collect();
        let plan = plan(config, labels, &mut source.problems);
        let warnings = source.finish()?;
        let plan = plan.expect("a config without errors has a plan");
        Ok(Planned { plan, warnings, config: json })
    }

    /// Rows of a training batch, `B`.
    pub fn batch(&self) -> usize {
        self.training.batch_tokens / self.seq_len
    }

    /// What a file of this plan's weights says of itself.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            name: self.name.clone(),
            dim: self.dim,
            vocab: self.vocab,
            seq_len: self.seq_len,
            steps: self.training.steps,
        }
    }

    /// Whether no position reads a later one, so that the loss is that of a language model.
    pub fn is_causal(&self) -> bool {
        self.steps.iter().all(|step| step.block.time() != Time::Whole)
    }

    /// Whether a pass can go on from what another left, token by token if need be, so that what
    /// comes next needs no earlier token again.
    pub fn is_streaming(&self) -> bool {
        self.steps.iter().all(|step| step.block.time() == Time::Streaming)
    }

    /// The number `s` of the U-Net's skip that is added before block `index`, if one is: the output of
    /// encoder block `E − 1 − s`, where `E` is [`Plan::encoder_len`]. The last is added again where
    /// there are more decoders than encoders.
    pub fn skip(&self, index: usize) -> Option<usize> {
        let last = self.encoder_len().checked_sub(1)?;
        Some(index.checked_sub(last + 1)?.min(last))
    }

    /// How many blocks form the U-Net's encoder; 0 without `unet`.
    pub fn encoder_len(&self) -> usize {
        if self.unet { self.steps.len() / 2 } else { 0 }
    }
}

fn plan<K: Block>(
    config: &Config,
    labels: Vec<String>,
    problems: &mut Problems,
) -> Option<Plan<K>> {
    let sizes = Sizes::of(config, problems);
    let training = training::plan(&config.training, sizes.seq_len, problems);
    if config.tie_embeddings == Some(true) {
        training::warn_of_tied_head(&training, problems);
    }
    let count = config.blocks.len();
    if count > MAX_BLOCKS {
        let message = format!("`{count}` blocks are more than `{MAX_BLOCKS}`");
        let hint = "what a step holds is read off every operation of every block; give fewer, and make them wider";
        problems.report("blocks", message, hint);
        return None;
    }
    let blocks = blocks::<K>(config, sizes, training.batch_tokens, problems);
    let steps = steps(config, labels, blocks, problems);
    let Sizes { dim, vocab, seq_len, .. } = sizes;
    if problems.has_errors() {
        return None;
    }
    let bigram = positive(config.bigram_vocab_size)
        .map(|vocab| Bigram { vocab, dim: positive(config.bigram_dim).unwrap_or(dim) });
    Some(Plan {
        name: config.name.clone(),
        dim,
        vocab,
        seq_len,
        tie_embeddings: config.tie_embeddings.unwrap_or(false),
        softcap: config.logit_softcap.filter(|cap| *cap > 0.0),
        bigram,
        unet: config.unet.unwrap_or(false),
        steps,
        training,
    })
}

/// The blocks of `config`, each planned with those before it in view.
fn blocks<K: Block>(
    config: &Config,
    sizes: Sizes,
    tokens: usize,
    problems: &mut Problems,
) -> Vec<Result<K, Reported>> {
    let Sizes { dim, ffn, vocab, seq_len } = sizes;
    let fits = sizes.check(config, tokens, problems);
    let streams = Streams::of(&config.blocks, problems);
    let mut blocks: Vec<Result<K, Reported>> = Vec::new();
    for (index, spec) in config.blocks.iter().enumerate() {
        if let Err(reported) = problems.check(&format!("blocks[{index}].type")) {
            blocks.push(Err(reported));
            continue;
        }
        let mut scope = Scope {
            dim,
            ffn,
            vocab,
            seq_len,
            batch: tokens / seq_len,
            block_scales: config.block_scales.unwrap_or(false),
            resid_mix: config.resid_mix.unwrap_or(false),
            identity_mix: config.resid_mix_init.as_deref() == Some("identity"),
            parallel: config.parallel_residual.unwrap_or(false),
            dropout: config.dropout.unwrap_or(0.0),
            index,
            specs: &config.blocks,
            earlier: &blocks,
            streams: &streams,
            problems,
        };
        let block = K::plan(spec, &mut scope);
        if let (Ok(block), Ok(())) = (&block, fits) {
            weights::check(index, spec, block, [tokens, dim], problems);
        }
        blocks.push(block);
    }
    blocks
}

fn steps<K: Block>(
    config: &Config,
    labels: Vec<String>,
    blocks: Vec<Result<K, Reported>>,
    problems: &mut Problems,
) -> Vec<Step<K>> {
    parallel::check(config, problems);
    streams::warn_of_future(&config.blocks, &blocks, problems);
    let owners = sharing::owners(config, &blocks, problems);
    let written = config.blocks.iter().zip(labels);
    let blocks = blocks.into_iter().flatten().zip(owners).zip(written);
    let step = |((block, owner), (spec, label)): ((K, usize), (&BlockSpec, String))| Step {
        block,
        owner,
        stream: spec.stream.clone(),
        label,
    };
    blocks.map(step).collect()
}

fn positive(value: Option<i64>) -> Option<usize> {
    value.and_then(|v| usize::try_from(v).ok()).filter(|v| *v > 0)
}
