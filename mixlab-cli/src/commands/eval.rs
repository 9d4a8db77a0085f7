//! `eval`: how trained weights score validation data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::Batch;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::data::logprobs::Logprobs;
use mixlab_burn::eval::{Layout, Total, mean_loss};
use mixlab_burn::files::Replacement;
use mixlab_burn::inference::Session;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use serde_json::json;

use super::full::{self, FullData, Teller};
use super::shards::Sources;
use crate::backend::{self, Job, Place};
use crate::error::answer;
use crate::{Request, cli, kernels, outputs, report};

pub fn run<K: Block>(options: &cli::Eval) -> anyhow::Result<()> {
    if options.logprobs_out.is_some() && options.safetensors_load.len() > 1 {
        let message = "`--logprobs-out` is one file, and `--safetensors-load` names several";
        return Err(Request(format!("{message}\n  hint: evaluate them one by one")).into());
    }
    let plan = super::trained::<K>(&options.model)?;
    full::check(&plan)?;
    let sources = Sources::find(&options.shards, plan.vocab)?;
    let inputs = [options.model.config.paths(), options.safetensors_load.clone(), sources.paths()];
    let reserve = |path: &PathBuf| outputs::reserve(&inputs.concat(), "--logprobs-out", path);
    let place = options.logprobs_out.as_ref().map(reserve).transpose()?;
    let batches = match options.logprobs_out {
        Some(_) => Vec::new(),
        None => validation_batches(&sources.loader(&plan, sources.validation()?))?,
    };
    let whole = options.full || options.stride.is_some() || options.logprobs_out.is_some();
    let full = whole.then(|| full(options, &plan, &sources)).transpose()?;
    backend::run(&options.model.compute, Evaluate { options, plan, batches, full, place })
}

/// All validation data, and the rows that score them.
fn full<K: Block>(
    options: &cli::Eval,
    plan: &Plan<K>,
    sources: &Sources,
) -> anyhow::Result<(FullData, Layout)> {
    let data = FullData::open(sources, options.lut_dir.as_deref(), plan.vocab)?;
    let tokens = data.tokens.len();
    if options.full || options.stride.is_some() {
        let layout = answer(Layout::of(plan, tokens, options.stride))?;
        return Ok((data, layout));
    }
    let layout = Layout::whole_batches(plan, tokens);
    if layout.rows.is_empty() {
        let batch = plan.training.batch_tokens;
        bail!(
            "the validation data have `{tokens}` tokens, less than a batch of `batch_tokens` `{batch}`\n  hint: `--full` scores them all the same"
        );
    }
    Ok((data, layout))
}

/// Files of weights to score, ready to go to a backend.
struct Evaluate<'a, K: Block> {
    options: &'a cli::Eval,
    plan: Arc<Plan<K>>,
    /// The fixed validation batches.
    batches: Vec<Batch>,
    /// All validation data, if they are scored.
    full: Option<(FullData, Layout)>,
    /// Where the losses of tokens go.
    place: Option<Replacement>,
}

/// What became of one file.
struct Outcome<'a> {
    weights: &'a Path,
    /// Mean loss of the fixed batches.
    loss: f64,
    total: Option<Total>,
}

impl<K: Block> Job for Evaluate<'_, K> {
    fn run<A>(mut self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let _waiting = kernels::explain_wait(place);
        let files = &self.options.safetensors_load;
        let load =
            |path: &Path| Session::<A::InnerBackend, K>::load(self.plan.clone(), path, &device);
        if let (Some(place), Some(full)) = (self.place.take(), &self.full) {
            return self.export(&load(&files[0])?, full, place);
        }
        if !self.options.json {
            println!("{}", report::model(&self.plan));
        }
        let mut outcomes = Vec::new();
        for path in files {
            outcomes.push(self.one(&load(path)?, path)?);
        }
        if files.len() > 1 && !self.options.json {
            print!("\n{}", table(&outcomes));
        }
        Ok(())
    }
}

impl<K: Block> Evaluate<'_, K> {
    /// Scores one file of weights, and prints what came of it.
    fn one<'a, B: Backend>(
        &self,
        session: &Session<B, K>,
        weights: &'a Path,
    ) -> anyhow::Result<Outcome<'a>> {
        let (name, loud) = (&self.plan.name, !self.options.json);
        if loud {
            println!("{}", self.loaded(session, weights));
        }
        let loss = mean_loss(session.model(), &self.batches, session.device());
        if !loss.is_finite() {
            bail!(
                "the validation loss of `{}` is `{loss}`\n  hint: these weights come from a run that broke down, or belong to another config",
                weights.display()
            );
        }
        if loud {
            println!("  [{name}] validation loss={loss:.6}");
        }
        let total = self.full.as_ref().map(|full| self.score(session, full)).transpose()?;
        let outcome = Outcome { weights, loss, total };
        if !loud {
            println!("{}", outcome.json(name));
        }
        Ok(outcome)
    }

    fn loaded<B: Backend>(&self, session: &Session<B, K>, weights: &Path) -> String {
        let count = mixlab_burn::weights::layout(session.model()).len();
        format!("  [{}] loaded {count} weights from {}", self.plan.name, weights.display())
    }

    /// Scores all validation data.
    fn score<B: Backend>(
        &self,
        session: &Session<B, K>,
        (data, layout): &(FullData, Layout),
    ) -> anyhow::Result<Total> {
        let progress = !self.options.json;
        let teller = Teller { name: &self.plan.name, label: "full_val", progress };
        let total = teller.score(session, data, layout, |_| ())?;
        if progress {
            let mut line = teller.line(&total) + &format!(" ppl={:.4}", total.nll().exp());
            if let Some(stride) = self.options.stride {
                let context = layout.seq.saturating_sub(stride);
                line += &format!(" stride={stride} context>={context}");
            }
            println!("{line}");
        }
        Ok(total)
    }

    /// Writes the loss of each token to `place`, and prints the lines of the original in its order.
    fn export<B: Backend>(
        &self,
        session: &Session<B, K>,
        (data, layout): &(FullData, Layout),
        place: Replacement,
    ) -> anyhow::Result<()> {
        let plan = &self.plan;
        let path = place.path().to_owned();
        let teller = Teller { name: &plan.name, label: "full_val+logprobs", progress: true };
        let mut records = Vec::with_capacity(layout.scored());
        let total = teller.score(session, data, layout, |scored| {
            let targets = data.tokens[scored.first..].iter().copied();
            records.extend(targets.zip(scored.losses.iter().copied()));
        })?;
        Logprobs { vocab_size: plan.vocab, records }.write(place)?;
        println!("{} output={}", teller.line(&total), path.display());
        println!("{}", report::model(plan));
        println!("{}", self.loaded(session, &self.options.safetensors_load[0]));
        println!("  [{}] wrote per-token eval NLLs to {}", plan.name, path.display());
        Ok(())
    }
}

impl Outcome<'_> {
    fn json(&self, name: &str) -> serde_json::Value {
        let mut object = json!({
            "config": name,
            "weights": self.weights.display().to_string(),
            "validation_loss": self.loss,
        });
        if let Some(total) = &self.total {
            object["nll"] = total.nll().into();
            object["perplexity"] = total.nll().exp().into();
            object["tokens"] = total.tokens.into();
            object["bpb"] = total.bpb().into();
            object["bytes"] = total.bytes.into();
        }
        object
    }
}

/// One row a file, the best first.
fn table(outcomes: &[Outcome<'_>]) -> String {
    let mut sorted: Vec<_> = outcomes.iter().collect();
    let key = |outcome: &Outcome<'_>| outcome.total.map_or(outcome.loss, |total| total.nll());
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let full = outcomes.iter().any(|outcome| outcome.total.is_some());
    let mut table = format!("{:>12}", "VAL");
    if full {
        table += &format!("{:>12}{:>12}{:>12}", "FULL", "BPB", "PPL");
    }
    table += "  WEIGHTS\n";
    for Outcome { weights, loss, total } in sorted {
        table += &format!("{loss:>12.6}");
        if let Some(total) = total {
            let bpb = total.bpb().map_or("n/a".into(), |bpb| format!("{bpb:.6}"));
            table += &format!("{:>12.6}{bpb:>12}{:>12.4}", total.nll(), total.nll().exp());
        }
        table += &format!("  {}\n", weights.display());
    }
    table
}
