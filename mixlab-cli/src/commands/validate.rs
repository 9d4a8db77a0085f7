//! `validate`: everything that can be known of a config before it is trained.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::config::{ConfigError, Finding};
use mixlab_burn::data::pattern;
use mixlab_burn::data::shard::{Layout, Shard, check_vocabulary};
use mixlab_burn::files;
use mixlab_burn::ops::{Backend, Precision};
use mixlab_burn::plan::{Plan, Planned};
use mixlab_burn::program::{Counts, Memory, Step, Work};
use mixlab_burn::race;
use serde_json::{Value, json};

use super::spool::Spool;
use crate::backend::{self, Job, Place};
use crate::cli;
use crate::error::Request;
use crate::memory;
use crate::report::flops;

pub fn run<K: Block>(options: &cli::Validate) -> anyhow::Result<()> {
    let configs = if options.config.is_dir() {
        race::configs(&options.config)?
    } else {
        vec![options.config.clone()]
    };
    let data = Data::read(options)?;
    backend::run(
        &options.machine.compute,
        Validate { options, configs, data, blocks: std::marker::PhantomData::<K> },
    )
}

/// What the configs are to be trained on.
struct Data {
    shards: Vec<Shard>,
    _spool: Spool,
    tokens: usize,
    /// Tokens of the tokenizer.
    vocabulary: Option<usize>,
}

impl Data {
    fn read(options: &cli::Validate) -> anyhow::Result<Self> {
        let layout = if options.shards.raw_u16 { Layout::Raw } else { Layout::Header };
        let parts = [("train", &options.shards.train), ("val", &options.shards.val)];
        let mut spool = Spool::default();
        let given = parts.map(|(part, given)| spool.patterns(given, part, layout));
        let patterns = given.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
        let paths = if patterns.is_empty() { Vec::new() } else { pattern::expand(&patterns)? };
        let open = |path: &PathBuf| Shard::open(path, layout);
        let shards: Vec<Shard> = paths.iter().map(open).collect::<Result<_, _>>()?;
        let vocabulary = options.tokenizer.as_deref().map(vocabulary).transpose()?;
        Ok(Self { tokens: shards.iter().map(Shard::len).sum(), shards, vocabulary, _spool: spool })
    }

    /// Errors and warnings about this data for a model of `vocab` tokens in batches of `batch`.
    fn problems(&self, vocab: usize, batch: usize) -> [Vec<String>; 2] {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let checked = check_vocabulary(&self.shards, vocab);
        errors.extend(checked.err().map(|error| error.to_string()));
        match self.vocabulary {
            Some(tokens) if tokens > vocab => errors.push(format!(
                "the tokenizer has `{tokens}` tokens, and vocab_size is `{vocab}`\n  hint: set `vocab_size` to `{tokens}`"
            )),
            Some(tokens) if tokens < vocab => warnings.push(format!(
                "vocab_size is `{vocab}`, and the tokenizer has `{tokens}` tokens: the rest is never met"
            )),
            _ => {}
        }
        if !self.shards.is_empty() && self.tokens <= batch {
            warnings
                .push(format!("the shards have `{}` tokens, no more than one batch", self.tokens));
        }
        [errors, warnings]
    }
}

/// How many ids a `tokenizer.json` gives: one more than the largest.
fn vocabulary(path: &Path) -> anyhow::Result<usize> {
    let text = files::read_small_file(path);
    let text = text.map_err(|error| {
        let hint = files::hint(&error);
        anyhow!("cannot read `{}`: {error}\n  hint: {hint}", path.display())
    })?;
    let tokenizer: Value = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is no tokenizer", path.display()))?;
    let model = match &tokenizer["model"]["vocab"] {
        Value::Object(ids) => ids.values().filter_map(Value::as_u64).max(),
        Value::Array(pieces) => (pieces.len() as u64).checked_sub(1),
        _ => None,
    };
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let largest = added.filter_map(|token| token["id"].as_u64()).chain(model).max();
    let largest = largest.with_context(|| format!("`{}` has no vocabulary\n  hint: give the `tokenizer.json` of a tokenizer of Hugging Face", path.display()))?;
    Ok(largest as usize + 1)
}

struct Validate<'a, K> {
    options: &'a cli::Validate,
    configs: Vec<PathBuf>,
    data: Data,
    blocks: std::marker::PhantomData<K>,
}

impl<K: Block> Job for Validate<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, configs, data, .. } = self;
        let half = |plan: &Plan<K>| {
            let precision = plan.training.precision.unwrap_or_else(|| A::precision(&device));
            (precision == Precision::Bf16).then(|| A::half(&device)).flatten()
        };
        let mut reports = Vec::new();
        for path in &configs {
            let precision = options.machine.precision.map(|precision| precision.setting());
            let overrides: Vec<String> = options.set.iter().cloned().chain(precision).collect();
            let name = path.display().to_string();
            reports.push(match Plan::<K>::read(path, &overrides) {
                Ok(planned) => Report::of(&name, planned, half, &data, options.json)?,
                Err(error) => Report::refused(&name, &error),
            });
        }
        if options.json {
            let available = place.memory();
            let configs: Vec<Value> = reports.iter().map(Report::json).collect();
            let memory = json!({ "place": place.to_string(), "bytes": available });
            println!("{:#}", json!({ "memory": memory, "configs": configs }));
        } else {
            reports.iter().for_each(|report| print!("{}", report.text(place)))
        }
        let bad = reports.iter().filter(|report| !report.errors.is_empty()).count();
        match bad {
            0 => Ok(()),
            bad => Err(Request(format!(
                "`{bad}` of `{}` configs cannot be trained\n  hint: the errors are listed above",
                reports.len()
            ))
            .into()),
        }
    }
}

/// What is known of one config.
struct Report {
    path: String,
    errors: Vec<String>,
    /// Errors that are not listed.
    more: usize,
    warnings: Vec<String>,
    /// Nothing if it cannot be planned.
    known: Option<Known>,
}

struct Known {
    name: String,
    counts: Counts,
    memory: Memory,
    /// What a training step does, by operation; for `--json` alone.
    work: Vec<Work>,
    causal: bool,
    vocab: usize,
    tokens: usize,
}

impl Report {
    fn refused(path: &str, error: &ConfigError) -> Self {
        let errors = error.findings().iter().map(Finding::to_string).collect();
        Self { path: path.into(), errors, more: error.more(), warnings: Vec::new(), known: None }
    }

    fn of<K: Block>(
        path: &str,
        planned: Planned<K>,
        half: impl Fn(&Plan<K>) -> Option<DType>,
        data: &Data,
        json: bool,
    ) -> anyhow::Result<Self> {
        let plan = Arc::new(planned.plan);
        let [errors, more] = data.problems(plan.vocab, plan.training.batch_tokens);
        let warnings = planned.warnings.iter().map(Finding::to_string).chain(more).collect();
        let half = half(&plan);
        let Step { work, memory } = if json {
            Step::of(&plan, half)?
        } else {
            Step { memory: Memory::of(&plan, half)?, work: Vec::new() }
        };
        let known = Known {
            name: plan.name.clone(),
            counts: Counts::of(&plan)?,
            memory,
            work,
            causal: plan.is_causal(),
            vocab: plan.vocab,
            tokens: data.tokens,
        };
        Ok(Self { path: path.into(), errors, more: 0, warnings, known: Some(known) })
    }

    fn text(&self, place: &Place) -> String {
        let verdict = match self.errors.len() + self.more {
            0 => "ok".into(),
            1 => "1 error".into(),
            n => format!("{n} errors"),
        };
        let mut text = format!("{}: {verdict}\n", self.path);
        if let Some(known) = &self.known {
            text += &known.text(place);
        }
        for (what, problems) in [("error", &self.errors), ("warning", &self.warnings)] {
            for problem in problems {
                text += &format!("  {what}: {}\n", problem.replace('\n', "\n  "));
            }
        }
        crate::error::printable(&text)
    }

    fn json(&self) -> Value {
        let mut report = json!({
            "config": self.path,
            "errors": self.errors,
            "more_errors": self.more,
            "warnings": self.warnings,
        });
        if let Some(known) = &self.known {
            let Known { name, counts, memory, work, causal, vocab, tokens } = known;
            report["name"] = json!(name);
            report["parameters"] = json!(counts.parameters);
            report["forward_flops"] = json!(counts.forward_flops);
            report["causal"] = json!(causal);
            report["vocab_size"] = json!(vocab);
            report["tokens"] = json!(tokens);
            report["memory"] = json!({
                "weights": memory.weights,
                "optimizer": memory.optimizer,
                "gradients": memory.gradients,
                "activations": memory.activations,
                "peak": memory.peak,
                "reserved": memory.reserved,
            });
            report["batch_tokens"] = json!(counts.tokens);
            let one = |work: &Work| {
                let Work { name, count, flops, bytes, .. } = work;
                json!({ "name": name, "count": count, "flops": flops, "bytes": bytes })
            };
            report["step"] = work.iter().map(one).collect();
        }
        report
    }
}

impl Known {
    fn text(&self, place: &Place) -> String {
        let Self { name, counts, memory, causal, vocab, tokens, .. } = self;
        let needed = memory::needed(memory, place);
        let mut text = format!(
            "  name: {name}\n  parameters: {}, {} a training step, {} a token\n  memory of a training step: {} ({})\n",
            counts.parameters,
            flops(counts.training_flops()),
            flops(counts.flops_per_token()),
            memory::bytes(needed),
            memory::parts(memory)
        );
        if let Some(available) = place.memory().filter(|available| *available < needed) {
            let available = memory::bytes(available);
            text += &format!(
                "  memory does not suffice: there are {available}; most is made by {}\n",
                memory.fields()
            );
        }
        if *tokens > 0 {
            text += &format!("  data: {tokens} tokens, vocabulary {vocab}\n");
        }
        if !causal {
            text += "  sees the future: its loss is not that of a language model\n";
        }
        text
    }
}
