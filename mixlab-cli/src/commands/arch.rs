//! `arch`: train the model of one config.

mod data;
mod metrics;
mod outputs;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use indicatif::{ProgressBar, ProgressStyle};
use mixlab_burn::blocks::Block;
use mixlab_burn::eval::Layout;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::ops::{Backend, Precision};
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::train::{Event, Logged, Schedule, TrainError, Trainer, train};
use mixlab_burn::weights;

use super::full::{FullData, Teller};
use super::shards::Sources;
use crate::backend::{self, Job, Place};
use crate::cli;
use crate::error::Interrupted;
use crate::interrupt;
use crate::kernels;
use crate::memory;
use crate::report::{self, Log};
use data::Feed;
use metrics::{Metrics, Start};
use outputs::Outputs;

pub fn run<K: Block>(options: &cli::Arch) -> anyhow::Result<()> {
    let precision = options.precision.map(|precision| precision.setting());
    let (plan, config) = super::planned::<K>(&options.config, precision)?;
    if !options.quiet {
        println!("{}", report::config(&plan));
    }
    let sources = Sources::find(&options.shards, plan.vocab)?;
    let outputs = Outputs::open(options, sources.paths())?;
    let feed = data::open(sources, options, &plan)?;
    backend::run(&options.compute, Train { options, plan, config, feed, outputs })
}

/// One training run, ready to go to a backend.
struct Train<'a, K: Block> {
    options: &'a cli::Arch,
    plan: Arc<Plan<K>>,
    config: serde_json::Value,
    feed: Feed,
    outputs: Outputs,
}

impl<K: Block> Job for Train<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, config, feed, mut outputs } = self;
        let name = &plan.name;
        let say = |line: String| {
            if !options.quiet {
                println!("{line}")
            }
        };
        let bar = bar(options, plan.training.steps);
        let stop = interrupt::flag(bar.clone())?;
        let counts = Counts::of(&plan)?;
        if !options.force {
            let half = || A::half(&device);
            let half = (plan.training.precision == Some(Precision::Bf16)).then(half).flatten();
            memory::check(&plan, half, place)?;
        }
        let precision = plan.training.precision.unwrap_or_else(|| A::precision(&device));
        say(format!(
            "  [{name}] IR program: {} ops, {} weights, {} parameters, backend={place}, precision={precision}",
            counts.ops, counts.weights, counts.parameters
        ));
        if options.timing {
            kernels::count();
        }
        let waiting = kernels::explain_wait(place);
        let start = Instant::now();
        let mut model = Model::<A, K>::new(plan.clone(), &device);
        match &options.safetensors_load {
            Some(path) => {
                model = weights::load(model, path)?;
                say(format!(
                    "  [{name}] loaded {} weights from {}",
                    counts.weights,
                    path.display()
                ));
            }
            None => model = Model::init(plan.clone(), &device),
        }
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
        let metrics = &mut outputs.metrics;
        let mut view = View { options, bar, log, metrics, waiting, before: None, told: 0 };
        let mut trainer = Trainer::new(model, &device);
        let trained = train(&mut trainer, feed.run, |event| {
            view.event(event);
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        view.bar.finish_and_clear();
        let summary = trained.as_ref().map(|trained| view.log.summary(trained, start.elapsed()));
        let (steps, model) = (trainer.steps(), trainer.into_model());
        let (Ok(trained), Ok(summary)) = (&trained, summary) else {
            let error = trained.map(drop).expect_err("there is no summary");
            let untrained = matches!(error, TrainError::BrokenStart { .. }) || steps == 0;
            if !untrained {
                outputs.rescue(&model, steps, !matches!(error, TrainError::Data(_)));
            }
            return Err(error.into());
        };
        outputs.export(&model)?;
        outputs.metrics.end(trained);
        let evaluated = match feed.full.filter(|_| !stop.load(Ordering::Relaxed)) {
            Some(data) => evaluate(Session::new(model, &device), &data, options),
            None => Ok(()),
        };
        println!("{summary}");
        println!();
        println!("=== ARCH RESULT ===");
        println!("{summary}");
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        evaluated
    }
}

/// Scores all validation data by the weights that are exported. A failure ends the command, when the
/// run has been summed up.
fn evaluate<B: Backend, K: Block>(
    session: Session<B, K>,
    data: &FullData,
    options: &cli::Arch,
) -> anyhow::Result<()> {
    let name = &session.plan().name;
    if !options.quiet {
        println!("  [{name}] computing full validation BPB...");
    }
    let teller = Teller { name, label: "full_val", progress: !options.quiet };
    let layout = Layout::of(session.plan(), data.tokens.len(), None)?;
    let total = teller.score(&session, data, &layout, |_| ()).inspect_err(|error| {
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
}

impl<K: Block> View<'_, K> {
    fn event(&mut self, event: Event) {
        let plan = self.log.plan;
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
            Event::Logged(logged) => {
                self.waiting = None;
                let start = Instant::now();
                self.tell_of_slow_paths();
                let phase = Schedule::new(&plan.training).phase(logged.step).map(|(i, _)| i);
                let before = self.before.replace(logged.clone());
                self.say(self.log.line(&logged, before.as_ref(), phase));
                self.metrics.step(&logged, before.as_ref());
                if self.options.timing {
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
