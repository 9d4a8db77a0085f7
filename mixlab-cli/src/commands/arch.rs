//! `arch`: train the model of one config.

mod checkpoints;
mod data;
mod export;
mod metrics;
mod start;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use indicatif::{ProgressBar, ProgressStyle};
use mixlab_burn::blocks::Block;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::runs::{About, Checkpoint};
use mixlab_burn::train::{Event, Logged, Schedule, train_and_save};
use mixlab_burn::weights::Quantization;
use serde_json::{Value, json};

use crate::backend::{self, Job, Place};
use crate::cli;
use crate::error::{Interrupted, Request};
use crate::kernels;
use crate::report::{self, Log};
use crate::trace::Trace;
use checkpoints::{Saver, Teller};
use metrics::{Metrics, Start};

pub fn run<K: Block>(options: &cli::Arch) -> anyhow::Result<()> {
    let precision = options.precision.map(|precision| precision.setting());
    let (plan, config) = super::planned::<K>(&options.config, precision)?;
    if !options.quiet {
        println!("{}", report::config(&plan));
    }
    let quantization = options.quantize.rule().map_err(Request)?;
    let found = checkpoints::found(&options.checkpoints)?;
    let sources = data::Sources::of(options, plan.vocab)?;
    let saves = found.is_some() || checkpoints::folder(&options.checkpoints)?.is_some();
    let identity = if saves { sources.identity()? } else { Value::Null };
    let mut position = None;
    if let Some(found) = &found {
        let allowed = &options.checkpoints.resume_allow;
        let other_data = checkpoints::check(found, &config, &identity, allowed)?;
        position = if other_data { None } else { found.state.position()? };
    }
    let feed = data::open(options, &plan, sources, position.as_ref())?;
    let train = Train { options, plan, config, feed, identity, found, quantization };
    backend::run(&options.compute, train)
}

/// One training run, ready to go to a backend.
struct Train<'a, K: Block> {
    options: &'a cli::Arch,
    plan: Arc<Plan<K>>,
    config: serde_json::Value,
    feed: data::Feed,
    /// The shards, if the run is saved or goes on.
    identity: Value,
    /// What it goes on from.
    found: Option<Checkpoint>,
    quantization: Option<Quantization>,
}

impl<K: Block> Job for Train<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, config, feed, identity, found, quantization } = self;
        let name = &plan.name;
        let say = |line: String| {
            if !options.quiet {
                println!("{line}")
            }
        };
        let bar = bar(options, plan.training.steps);
        let stop = interrupt_flag(bar.clone())?;
        let counts = Counts::of(&plan)?;
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
        let teller = Teller { name, quiet: options.quiet, bar: bar.clone(), failed: None };
        let memory = memory(place, counts.parameters);
        let mut saver = Saver::start(&options.checkpoints, about, memory, teller)?;
        let validation = feed.run.validation.clone();
        let trace = Trace::open(options.trace.as_deref())?;
        if let Some(reason) = &feed.no_validation {
            say(format!("  [{name}] no val set: {reason}"));
        }
        let mut metrics = Metrics::open(options.metrics.as_deref())?;
        metrics.start(&Start {
            plan: &plan,
            config: &config,
            counts: &counts,
            place,
            precision,
        })?;
        let log = Log { plan: &plan, step_flops: counts.training_flops(), floor: feed.floor };
        let mut view = View {
            options,
            bar,
            log,
            metrics,
            waiting: Some(waiting),
            before: None,
            told: 0,
            trace: trace.clone(),
            since: Instant::now(),
        };
        let mut failed = None;
        let observe = |event| {
            if let Err(error) = view.event(event) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            if stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let trained = train_and_save(&mut trainer, feed.run, observe, |pause| {
            if let Some(saver) = &mut saver {
                let begin = Instant::now();
                if saver.pause(&pause) {
                    let step = pause.trainer.steps() - 1;
                    trace.slice("training", "checkpoint", step, [begin, Instant::now()]);
                }
            }
            Ok(())
        })?;
        let saved = saver.map_or(Ok(()), Saver::finish);
        view.bar.finish_and_clear();
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(path) = &options.safetensors {
            let average = trainer.averaged();
            let model = average.as_ref().unwrap_or_else(|| trainer.model());
            let export = export::Export { path, quantization, validation: &validation };
            export.write(model, &device, &say)?;
        }
        let summary = view.log.summary(&trained, start.elapsed());
        view.metrics.end(&trained)?;
        println!("{summary}");
        println!();
        println!("=== ARCH RESULT ===");
        println!("{summary}");
        saved?;
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}

/// Bytes of a checkpoint that may wait for the disk: where the model lies in host memory already, a
/// tenth of it and its moments, lest it be there twice.
fn memory(place: &Place, parameters: usize) -> usize {
    const LEAST: usize = 64 << 20;
    const BYTES: usize = 3 * 4;
    if place.gpu { usize::MAX } else { (parameters * BYTES / 10).max(LEAST) }
}

/// What the user sees of a run.
struct View<'a, K: Block> {
    options: &'a cli::Arch,
    bar: ProgressBar,
    log: Log<'a, K>,
    metrics: Metrics,
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
    fn event(&mut self, event: Event) -> anyhow::Result<()> {
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
            Event::Logged(logged) => {
                self.waiting = None;
                let start = Instant::now();
                self.tell_of_slow_paths();
                let phase = Schedule::new(&plan.training).phase(logged.step).map(|(i, _)| i);
                let before = self.before.replace(logged.clone());
                self.say(self.log.line(&logged, before.as_ref(), phase));
                self.metrics.step(&logged, before.as_ref())?;
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
            Event::OutOfPatience(logged) => self.say(format!(
                "  [{}] no better val loss in {} validations at step {}, stopping early",
                plan.name,
                plan.training.patience.unwrap_or_default(),
                logged.step
            )),
            _ => {}
        }
        Ok(())
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

/// Set on Ctrl-C or SIGTERM; the running step is then finished. The second one ends the process: a
/// step may take minutes, or never end.
fn interrupt_flag(bar: ProgressBar) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let handler = ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            end_now(bar.clone());
        }
    });
    handler.context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

/// Ends the process without waiting for anything: the terminal may be stopped and the device hang.
fn end_now(bar: ProgressBar) -> ! {
    const TERMINAL: Duration = Duration::from_millis(200);
    let (cleared, wait) = channel();
    std::thread::spawn(move || {
        bar.finish_and_clear();
        let _ = cleared.send(());
    });
    let _ = wait.recv_timeout(TERMINAL);
    // SAFETY: ends the process, without the exit handlers of drivers that `exit` runs.
    #[cfg(unix)]
    unsafe {
        libc::_exit(Interrupted::CODE.into())
    };
    #[cfg(not(unix))]
    std::process::exit(Interrupted::CODE.into());
}
