//! `eval`: how trained weights score validation data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::Batch;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::data::logprobs::Logprobs;
use mixlab_burn::eval::{Layout, Total};
use mixlab_burn::files::Replacement;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::{Plan, TestTimeMode};
use mixlab_burn::train::{TestTimeTraining, Trainer};
use mixlab_burn::weights::{self, Bytes, WeightFile};
use serde_json::json;

use super::full::{FullData, Teller};
use super::scorer::{self, Scorer};
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
    check(options, &plan)?;
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
    scorer::warn(&plan);
    backend::run(&options.model.machine.compute, Evaluate { options, plan, batches, full, place })
}

/// Refuses losses of tokens that would be taken for those of the model.
fn check<K: Block>(options: &cli::Eval, plan: &Plan<K>) -> Result<(), Request> {
    let fitted =
        plan.training.ttt.is_some_and(|rule| matches!(rule.mode, TestTimeMode::Lora { .. }));
    if fitted && options.logprobs_out.is_some() {
        Err(Request(
            "`--logprobs-out` does not go with `training.ttt_mode` `lora`: the losses would be of tokens that the adapters were fitted to\n  hint: `--set training.ttt_mode=full` scores first; `--set training.ttt_steps=0` does not train".into(),
        ))
    } else {
        Ok(())
    }
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
        let place = self.place.take();
        let files = &self.options.safetensors_load;
        let fresh = |path: &Path| self.scorer::<A>(path, &device);
        if let (Some(place), Some(full)) = (place, &self.full) {
            return self.export(&mut *fresh(&files[0])?, full, place);
        }
        if !self.options.json {
            println!("{}", report::model(&self.plan));
        }
        if files.len() > 1 {
            // Before minutes are spent on the first.
            self.check_files::<A>(&device)?;
        }
        let mut outcomes = Vec::new();
        for path in files {
            outcomes.push(self.one(path, || fresh(path))?);
        }
        if files.len() > 1 && !self.options.json {
            print!("\n{}", table(&outcomes));
        }
        Ok(())
    }
}

impl<K: Block> Evaluate<'_, K> {
    /// Refuses files that have no such weights; what comes through a pipe can be read only once.
    fn check_files<B: Backend>(&self, device: &B::Device) -> anyhow::Result<()> {
        let weights = weights::layout(&Model::<B, K>::new(self.plan.clone(), device));
        let files = self.options.safetensors_load.iter();
        for path in files.filter(|path| path.is_file() || !path.exists()) {
            WeightFile::new(path, &Bytes::open(path)?, weights.clone())?;
        }
        Ok(())
    }

    /// What scores by the weights in the file at `path`.
    fn scorer<A>(&self, path: &Path, device: &A::Device) -> anyhow::Result<Box<dyn Scorer>>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let plan = self.plan.clone();
        let Some(rule) = plan.training.ttt else {
            return Ok(Box::new(Session::<A::InnerBackend, K>::load(plan, path, device)?));
        };
        let model = weights::load(Model::<A, K>::new(plan, device), path)?;
        Ok(Box::new(TestTimeTraining::new(Trainer::new(model, device), rule)))
    }

    /// Scores one file of weights, and prints what came of it.
    fn one<'a>(
        &self,
        weights: &'a Path,
        fresh: impl Fn() -> anyhow::Result<Box<dyn Scorer>>,
    ) -> anyhow::Result<Outcome<'a>> {
        let (plan, loud) = (&self.plan, !self.options.json);
        let mut scorer = fresh()?;
        if loud {
            println!("{}", self.loaded(&*scorer, weights));
        }
        let loss = scorer.mean_loss(&self.batches)?;
        if !loss.is_finite() {
            bail!(
                "the validation loss of `{}` is `{loss}`\n  hint: these weights come from a run that broke down, or belong to another config",
                weights.display()
            );
        }
        if loud {
            let ttt = plan.training.ttt.as_ref().map(scorer::words);
            let ttt = ttt.map(|(name, settings)| format!(" ({name} {settings})"));
            println!("  [{}] validation loss={loss:.6}{}", plan.name, ttt.unwrap_or_default());
        }
        // What a model has learned of the ten batches is not to help it with all.
        if self.full.is_some() && plan.training.ttt.is_some() {
            scorer = fresh()?;
        }
        let total = self.full.as_ref().map(|full| self.score(&mut *scorer, full)).transpose()?;
        let outcome = Outcome { weights, loss, total };
        if !loud {
            println!("{}", outcome.json(plan));
        }
        Ok(outcome)
    }

    fn loaded(&self, scorer: &dyn Scorer, weights: &Path) -> String {
        let count = scorer.weights();
        format!("  [{}] loaded {count} weights from {}", self.plan.name, weights.display())
    }

    /// Scores all validation data.
    fn score(
        &self,
        scorer: &mut dyn Scorer,
        (data, layout): &(FullData, Layout),
    ) -> anyhow::Result<Total> {
        let progress = !self.options.json;
        let teller = Teller { progress, ..Teller::new(&self.plan, "full_val") };
        let total = teller.score(scorer, data, layout, |_| ())?;
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
    fn export(
        &self,
        scorer: &mut dyn Scorer,
        (data, layout): &(FullData, Layout),
        place: Replacement,
    ) -> anyhow::Result<()> {
        let plan = &self.plan;
        let path = place.path().to_owned();
        let teller = Teller::new(plan, "full_val+logprobs");
        let mut records = Vec::with_capacity(layout.scored());
        let total = teller.score(scorer, data, layout, |scored| {
            let targets = data.tokens[scored.first..].iter().copied();
            records.extend(targets.zip(scored.losses.iter().copied()));
        })?;
        Logprobs { vocab_size: plan.vocab, records }.write(place)?;
        println!("{} output={}", teller.line(&total), path.display());
        println!("{}", report::model(plan));
        println!("{}", self.loaded(scorer, &self.options.safetensors_load[0]));
        println!("  [{}] wrote per-token eval NLLs to {}", plan.name, path.display());
        Ok(())
    }
}

impl Outcome<'_> {
    fn json<K: Block>(&self, plan: &Plan<K>) -> serde_json::Value {
        let mut object = json!({
            "config": plan.name,
            "weights": self.weights.display().to_string(),
            "validation_loss": self.loss,
        });
        if let Some(rule) = &plan.training.ttt {
            object["ttt"] = scorer::object(rule);
        }
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
