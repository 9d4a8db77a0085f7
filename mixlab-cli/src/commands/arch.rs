//! `arch`: train the model of one config.

mod checkpoints;
mod data;
mod export;
mod metrics;
mod outputs;
mod start;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use indicatif::{ProgressBar, ProgressStyle};
use mixlab_burn::blocks::Block;
use mixlab_burn::eval::{Layout, mean_loss};
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{Profile, WeightType};
use mixlab_burn::ops::{Backend, Precision};
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::runs::{About, Checkpoint};
use mixlab_burn::train::{
    Event, Logged, Schedule, TestTimeTraining, TrainError, Trainer, train_and_save,
};
use mixlab_burn::weights;
use serde_json::{Value, json};

use super::full::{FullData, Teller};
use super::onnx::{OnnxFile, Prepared, tokenizer_beside};
use super::scorer::{self, Scorer};
use super::shards::Sources;
use crate::backend::{self, Job, Place};
use crate::cli;
use crate::error::{Interrupted, Request};
use crate::interrupt;
use crate::kernels;
use crate::memory;
use crate::report::{self, Log};
use crate::trace::Trace;
use checkpoints::Saver;
use data::Feed;
use export::Exported;
use metrics::{Metrics, Start};
use outputs::Outputs;

pub fn run<K: Block>(options: &cli::Arch) -> anyhow::Result<()> {
    let precision = options.training.machine.precision.map(|precision| precision.setting());
    let (plan, config) = super::planned::<K>(&options.config, precision)?;
    if !options.quiet {
        println!("{}", report::config(&plan));
    }
    if options.training.eval {
        scorer::warn(&plan);
    }
    let quantization = options.quantize.rule().map_err(Request)?;
    let found = checkpoints::found(&options.checkpoints)?;
    let saves = found.is_some() || checkpoints::folder(&options.checkpoints)?.is_some();
    let sources = Sources::find(&options.training.shards, plan.vocab)?;
    let mut read = sources.files();
    read.extend(found.iter().map(|found| found.weights.clone()));
    let onnx = onnx(options, &plan, &config, &sources)?;
    let outputs = Outputs::open(options, read, quantization, onnx)?;
    let identity = if saves { sources.identity()? } else { Value::Null };
    let mut position = None;
    if let Some(found) = &found {
        let allowed = &options.checkpoints.resume_allow;
        let other_data = checkpoints::check(found, &config, &identity, allowed)?;
        position = if other_data { None } else { found.state.position()? };
    }
    let feed = data::open(sources, options, &plan, position.as_ref())?;
    backend::run(
        &options.training.machine.compute,
        Train { options, plan, config, feed, identity, found, outputs },
    )
}

/// The ONNX file that is asked for: what cannot be exported is better known before training.
fn onnx<K: Block>(
    options: &cli::Arch,
    plan: &Arc<Plan<K>>,
    config: &Value,
    sources: &Sources,
) -> anyhow::Result<Option<Prepared>> {
    if options.export_onnx.is_none() {
        return Ok(None);
    }
    let shards = sources.paths();
    let places = shards.iter().chain([&options.config.config]);
    let tokenizer = tokenizer_beside(places.map(PathBuf::as_path));
    let file = OnnxFile {
        plan,
        config,
        tokenizer: tokenizer.as_deref(),
        profile: Profile::Portable,
        stateful: false,
        external: false,
        functions: None,
        weights: WeightType::F32,
    };
    file.prepare().map(Some)
}

/// One training run, ready to go to a backend.
struct Train<'a, K: Block> {
    options: &'a cli::Arch,
    plan: Arc<Plan<K>>,
    config: serde_json::Value,
    feed: Feed,
    /// The shards, if the run is saved or goes on.
    identity: Value,
    /// What it goes on from.
    found: Option<Checkpoint>,
    outputs: Outputs,
}

impl<K: Block> Job for Train<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, config, feed, identity, found, mut outputs } = self;
        let name = &plan.name;
        let say = |line: String| {
            if !options.quiet {
                println!("{line}")
            }
        };
        let bar = bar(options, plan.training.steps);
        let stop = interrupt::flag(bar.clone())?;
        let counts = Counts::of(&plan)?;
        let half = || A::half(&device);
        let half = (plan.training.precision == Some(Precision::Bf16)).then(half).flatten();
        memory::check(&plan, half, place, options.training.force)?;
        let precision = plan.training.precision.unwrap_or_else(|| A::precision(&device));
        say(format!(
            "  [{name}] IR program: {} ops, {} weights, {} parameters, backend={place}, precision={precision}",
            counts.ops, counts.weights, counts.parameters
        ));
        if options.training.timing {
            kernels::count();
        }
        let waiting = kernels::explain_wait(place);
        let start = Instant::now();
        let mut trainer = match found {
            Some(found) => start::resumed::<A, K>(&plan, found, &device, &say)?,
            None => start::fresh::<A, K>(&plan, &options.start, &device, &say)?,
        };
        let about = About {
            config: config.clone(),
            data: identity,
            place: json!({"backend": place.kind, "precision": precision.to_string()}),
            metadata: plan.metadata(),
        };
        let notices =
            checkpoints::Notices { name, quiet: options.quiet, bar: bar.clone(), failed: None };
        let waiting_bytes = checkpoints::waiting_bytes(place, counts.parameters);
        let mut saver = Saver::start(&options.checkpoints, about, waiting_bytes, notices)?;
        let validation = feed.run.validation.clone();
        if let Some(reason) = &feed.no_validation {
            say(format!("  [{name}] no val set: {reason}"));
        }
        outputs.metrics.start(&Start {
            plan: &plan,
            config: &config,
            counts: &counts,
            place,
            precision,
        });
        let log = Log { plan: &plan, step_flops: counts.training_flops(), floor: feed.floor };
        let mut view = View {
            options,
            bar,
            log,
            metrics: &mut outputs.metrics,
            waiting,
            before: None,
            told: 0,
            trace: outputs.trace.clone(),
            since: Instant::now(),
        };
        let observe = |event| {
            view.event(event);
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let trained = train_and_save(&mut trainer, feed.run, observe, |pause| {
            if let Some(saver) = &mut saver {
                let begin = Instant::now();
                if saver.pause(&pause) {
                    let step = pause.trainer.steps() - 1;
                    outputs.trace.slice("training", "checkpoint", step, [begin, Instant::now()]);
                }
            }
            Ok(())
        });
        let saved = saver.map_or(Ok(()), Saver::finish);
        view.bar.finish_and_clear();
        let summary = trained.as_ref().map(|trained| view.log.summary(trained, start.elapsed()));
        let steps = trainer.steps();
        let mut model = trainer.averaged().unwrap_or_else(|| trainer.model().clone());
        let (Ok(trained), Ok(summary)) = (&trained, summary) else {
            let error = trained.map(drop).expect_err("there is no summary");
            let untrained = matches!(error, TrainError::BrokenStart { .. }) || steps == 0;
            if !untrained {
                outputs.rescue(&model, steps, !matches!(error, TrainError::Data(_)));
            }
            return Err(error.into());
        };
        if let Some(Exported::Quantized(how, file)) = outputs.export(&model)? {
            let known = !validation.is_empty();
            let loss = |model: &Model<A, K>| known.then(|| mean_loss(model, &validation, &device));
            let before = loss(&model);
            model = weights::quantized(model, &how);
            let losses = before.zip(loss(&model));
            say(format!("  [{name}] {}", export::summary(&file, losses)));
        }
        let onnx = outputs.export_onnx(&model);
        outputs.metrics.end(trained);
        let evaluated = match feed.full.filter(|_| !stop.load(Ordering::Relaxed)) {
            Some(data) => evaluate(trainer.with_model(model), &data, options),
            None => Ok(()),
        };
        println!("{summary}");
        println!();
        println!("=== ARCH RESULT ===");
        println!("{summary}");
        saved?;
        onnx?;
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        evaluated
    }
}

/// Scores all validation data by the model of `trainer`, which has the weights that are exported. A
/// failure ends the command, when the run has been summed up.
fn evaluate<A, K>(
    trainer: Trainer<A, K>,
    data: &FullData,
    options: &cli::Arch,
) -> anyhow::Result<()>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    let plan = trainer.model().plan().clone();
    let name = &plan.name;
    if !options.quiet {
        let ttt = plan.training.ttt.as_ref().map(scorer::words);
        let ttt = ttt.map(|(name, settings)| format!(" with {name} ({settings})"));
        println!("  [{name}] computing full validation BPB{}...", ttt.unwrap_or_default());
    }
    let teller = Teller { progress: !options.quiet, ..Teller::new(&plan, "full_val") };
    let layout = Layout::of(&plan, data.tokens.len(), None)?;
    let device = trainer.device().clone();
    let mut scorer: Box<dyn Scorer> = match plan.training.ttt {
        Some(rule) => Box::new(TestTimeTraining::new(trainer, rule)),
        None => Box::new(Session::new(trainer.into_model(), &device)),
    };
    let total = teller.score(&mut *scorer, data, &layout, |_| ()).inspect_err(|error| {
        println!("  [{name}] full validation BPB failed: {error}");
    })?;
    println!("{}", teller.line(&total));
    Ok(())
}

/// What the user sees of a run.
struct View<'a, K: Block> {
    options: &'a cli::Arch,
    bar: ProgressBar,
    log: Log<'a, K>,
    metrics: &'a mut Metrics,
    /// Waits for the first loss.
    waiting: Option<Sender<()>>,
    /// The logged step before.
    before: Option<Logged>,
    /// Notes about slow paths that were printed.
    told: usize,
    trace: Trace,
    /// When the event before was.
    since: Instant,
}

impl<K: Block> View<'_, K> {
    fn event(&mut self, event: Event) {
        let plan = self.log.plan;
        self.trace(&event);
        match event {
            Event::Step(step) => self.bar.set_position(step as u64 + 1),
            Event::Phase(index) => {
                let (phase, count) = (&plan.training.phases[index], plan.training.phases.len());
                self.say(format!(
                    "  [{}] entering {} ({}/{count}) steps={} lr={:.6}",
                    plan.name,
                    phase.label,
                    index + 1,
                    phase.steps,
                    phase.lr
                ));
            }
            Event::FakeQuantization(step) => {
                self.say(format!("  [{}] QAT enabled at step {step}", plan.name));
            }
            Event::Averaging(step) => {
                self.say(format!("  [{}] SWA: averaging started at step {step}", plan.name));
            }
            Event::Logged(logged) => {
                self.waiting = None;
                let start = Instant::now();
                self.tell_of_slow_paths();
                let phase = Schedule::new(&plan.training).phase(logged.step).map(|(i, _)| i);
                let before = self.before.replace(logged.clone());
                self.say(self.log.line(&logged, before.as_ref(), phase));
                self.metrics.step(&logged, before.as_ref());
                if self.options.training.timing {
                    let (log, kernels) = (start.elapsed(), kernels::counted());
                    self.say(self.log.timing(&logged.timing, log, kernels));
                }
            }
            Event::TargetReached(logged) => self.say(format!(
                "  [{}] target val loss {:.4} reached at step {} (val={:.4}), stopping early",
                plan.name,
                plan.training.target_val_loss.unwrap_or_default(),
                logged.step,
                logged.val_loss.unwrap_or_default()
            )),
            Event::OutOfPatience(logged) => self.say(format!(
                "  [{}] no better val loss in {} validations at step {}, stopping early",
                plan.name,
                plan.training.patience.unwrap_or_default(),
                logged.step
            )),
            _ => {}
        }
    }

    /// Adds to the trace what took place since the event before.
    fn trace(&mut self, event: &Event) {
        let now = Instant::now();
        let mut slice = |name, step, until| {
            self.trace.slice("training", name, step, [self.since, until]);
            self.since = until;
        };
        match event {
            Event::Loaded(step) => slice("data", *step, now),
            Event::Step(step) => slice("submit", *step, now),
            Event::Logged(logged) => {
                let validated = now.checked_sub(logged.timing.validation).unwrap_or(now);
                slice("wait", logged.step, validated);
                if logged.val_loss.is_some() {
                    slice("validation", logged.step, now);
                }
            }
            _ => {}
        }
    }

    fn tell_of_slow_paths(&mut self) {
        let notes = mixlab_burn::ops::fallbacks();
        for note in &notes[self.told.min(notes.len())..] {
            self.bar.suspend(|| eprintln!("note: {note}"));
        }
        self.told = notes.len();
    }

    fn say(&self, line: String) {
        if !self.options.quiet {
            self.bar.suspend(|| println!("{line}"));
        }
    }
}

/// A bar on stderr if that is a terminal; indicatif hides it elsewhere.
fn bar(options: &cli::Arch, steps: usize) -> ProgressBar {
    if options.quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {per_sec}, {eta} left");
    ProgressBar::new(steps as u64).with_style(style.expect("the template is well-formed"))
}
