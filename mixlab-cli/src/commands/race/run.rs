//! One run of a race: `arch` as a process of its own, which holds the run's lock, and what it leaves.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use mixlab_burn::race::{Entry, Finished, Outcome, Queue, Taken};
use mixlab_burn::runs::Writer;
use serde_json::Value;

use super::STOP;
use super::process::{Ended, die_together, watch};
use crate::cli;
use crate::error::{Interrupted, printable};
use crate::report::duration;

/// Steps of the trial that tells how long a step takes.
const TRIAL: usize = 12;
/// How the trial reports, and the beginnings of the arguments of a race that it does without.
const OF_A_TRIAL: [&str; 2] = ["--log-every=1", "--val-every=1000000"];
const OF_NO_TRIAL: [&str; 7] =
    ["--log-every", "--val-every", "--eval", "--checkpoint", "--keep", "--quant", WEIGHTS];

/// The beginnings of the arguments that name what lies in the folder of a run: the folder of
/// checkpoints, and the trained weights.
const FOLDER: &str = "--checkpoint-dir=";
const WEIGHTS: &str = "--safetensors=";
/// The beginning of the one that names the weights that training begins with, which a run that goes
/// on has no use for.
const START: &str = "--safetensors-load=";

/// A run, and who does it.
pub struct Run<'a> {
    pub queue: &'a Queue,
    pub number: usize,
    pub options: &'a cli::Race,
    /// The worker's place among `jobs`.
    pub slot: usize,
    pub jobs: usize,
}

/// How a run ended.
pub enum Ending {
    /// It has a result.
    Known,
    /// It was stopped, and is open again.
    Stopped,
}

impl Run<'_> {
    fn entry(&self) -> &Entry {
        self.queue.run(self.number).expect("it was asked for")
    }

    /// Whether the lines of the training are shown.
    fn shows(&self) -> bool {
        self.jobs == 1 && self.options.talks()
    }

    /// Says that it begins.
    pub fn announce(&self) {
        if self.shows() {
            let (entry, count) = (self.entry(), self.queue.runs().len());
            let seed = if self.options.seeds > 1 {
                format!(" seed={}", entry.seed)
            } else {
                String::new()
            };
            println!();
            println!(
                "{}",
                printable(&format!(
                    "--- [{}/{count}] Training \"{}\"{seed} ---",
                    self.number, entry.name
                ))
            );
        }
    }

    /// Says what came of it, in a line on stderr.
    pub fn tell(&self) -> anyhow::Result<()> {
        if self.options.quiet {
            return Ok(());
        }
        let outcomes = self.queue.outcomes()?;
        let (done, count) = (outcomes.iter().flatten().count(), outcomes.len());
        let what = match &outcomes[self.number - 1] {
            Some(Outcome::Done(run)) => {
                let time = duration(Duration::from_secs_f64(run.seconds), Duration::from_millis(1));
                let val = run.val_loss.map_or(String::new(), |val| format!(" val={val:.4}"));
                format!("last={:.4}{val} ({time})", run.last_loss)
            }
            Some(Outcome::Failed { reason, .. }) => format!("failed: {}", first_line(reason)),
            None => "open".into(),
        };
        let entry = self.entry();
        eprintln!(
            "{}",
            printable(&format!("[{done}/{count} done] {} seed={} {what}", entry.name, entry.seed))
        );
        Ok(())
    }

    /// Trains, and writes the result.
    pub fn train(&self, taken: Taken) -> anyhow::Result<Ending> {
        if self.checkpoints(&taken)?.is_none() {
            taken.clear()?;
        }
        let mut more = Vec::new();
        if let Some(seconds) = self.entry().seconds {
            match self.steps_within(&taken, seconds)? {
                Ok(steps) => more.extend(steps),
                Err(Some(outcome)) => return self.finish(taken, outcome),
                Err(None) => return Ok(Ending::Stopped),
            }
        }
        let mut arguments = self.queue.settings().arguments.clone();
        if let Some(name) = self.options.weights() {
            // Asked for now, whatever the race was made with.
            arguments.retain(|argument| !argument.starts_with(WEIGHTS));
            let name = name.to_str().context("a path is not UTF-8\n  hint: rename it")?;
            arguments.push(format!("{WEIGHTS}{name}"));
        }
        let command = self.command(&taken, &more, &arguments)?;
        let ended = watch(command, &taken.log(), self.shows())?;
        match outcome(&ended, &taken) {
            Some(outcome) => self.finish(taken, outcome),
            None => Ok(Ending::Stopped),
        }
    }

    /// The folder with checkpoints of an earlier try, from where this one goes on. A budget of time is
    /// other steps each time, so such a run begins anew.
    fn checkpoints(&self, taken: &Taken) -> anyhow::Result<Option<PathBuf>> {
        let arguments = &self.queue.settings().arguments;
        let Some(name) = arguments.iter().find_map(|argument| argument.strip_prefix(FOLDER)) else {
            return Ok(None);
        };
        let folder = taken.folder().join(name);
        if Writer::latest(&folder)?.is_none() {
            return Ok(None);
        }
        if self.entry().seconds.is_none() {
            return Ok(Some(folder));
        }
        let failed = || format!("cannot remove `{}`", folder.display());
        fs::remove_dir_all(&folder).with_context(failed)?;
        Ok(None)
    }

    fn finish(&self, taken: Taken, outcome: Outcome) -> anyhow::Result<Ending> {
        taken.finish(&outcome)?;
        Ok(Ending::Known)
    }

    /// `arch` with the config of this run, `more` overrides and the `arguments` of the race.
    fn command(
        &self,
        taken: &Taken,
        more: &[String],
        arguments: &[String],
    ) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("cannot tell the path of this program")?;
        let (settings, entry) = (self.queue.settings(), self.entry());
        let mut command = Command::new(program);
        command.arg("arch").arg("--config").arg(taken.config());
        for set in entry.overrides.iter().chain(more) {
            command.arg(format!("--set={set}"));
        }
        let checkpoints = self.checkpoints(taken)?;
        let of_run = |argument: &str| {
            let flag = [FOLDER, WEIGHTS].into_iter().find(|flag| argument.starts_with(flag))?;
            let mut whole = OsString::from(flag);
            whole.push(taken.folder().join(&argument[flag.len()..]));
            Some(whole)
        };
        for argument in arguments {
            match of_run(argument) {
                Some(argument) => command.arg(argument),
                None if checkpoints.is_some() && argument.starts_with(START) => &mut command,
                None => command.arg(argument),
            };
        }
        if let Some(folder) = checkpoints {
            command.arg("--resume").arg(folder);
        }
        command.args(super::placement(self.options, self.slot, self.jobs)?);
        command.arg("--metrics").arg(taken.metrics());
        command.current_dir(&settings.working_folder);
        // Whoever holds the lock's file holds the lock: should this process be killed, the run
        // stays taken as long as the training goes on.
        let lock = taken.lock().context("cannot hold the lock of the run")?;
        command.stdin(lock).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_together(&mut command);
        Ok(command)
    }

    /// The overrides with which training takes `seconds`, by the time that a step of a short trial
    /// takes; or what the trial came to instead.
    fn steps_within(
        &self,
        taken: &Taken,
        seconds: f64,
    ) -> anyhow::Result<Result<Vec<String>, Option<Outcome>>> {
        let plain = |steps: u64| vec![format!("training.steps={steps}")];
        let kept = |argument: &&String| !OF_NO_TRIAL.iter().any(|flag| argument.starts_with(flag));
        let arguments = self.queue.settings().arguments.iter().filter(kept).cloned();
        let arguments: Vec<_> = arguments.chain(OF_A_TRIAL.map(String::from)).collect();
        let command = self.command(taken, &plain(TRIAL as u64), &arguments)?;
        let ended = watch(command, &taken.log(), false)?;
        if !ended.status.success() {
            return Ok(Err(outcome(&ended, taken)));
        }
        let times: Vec<f64> =
            events(taken, "step").iter().filter_map(|step| step["seconds"].as_f64()).collect();
        taken.clear()?;
        let (from, to) = (times.len() / 2, times.len().saturating_sub(1));
        let step = (to > from).then(|| (times[to] - times[from]) / (to - from) as f64);
        let step = step.filter(|step| *step > 0.0).context("a trial told no time of a step")?;
        Ok(Ok(plain((seconds / step).clamp(1.0, 1e12) as u64)))
    }
}

/// What came of a run whose process has ended; nothing if it was stopped.
fn outcome(ended: &Ended, taken: &Taken) -> Option<Outcome> {
    let failed = |reason: String, config| Some(Outcome::Failed { reason, config });
    if STOP.load(Ordering::Relaxed) || ended.status.code() == Some(i32::from(Interrupted::CODE)) {
        return None;
    }
    match ended.status.code() {
        Some(0) => match events(taken, "end").last().map(finished) {
            Some(Some(finished)) => Some(Outcome::Done(finished)),
            Some(None) => failed("its last loss is not a finite number".into(), false),
            None => failed("its `metrics.jsonl` has no end: was its folder moved?".into(), false),
        },
        Some(code) => failed(ended.reason(), code == 2),
        None => failed(ended.reason(), false),
    }
}

/// The events of a kind in the metrics of a run.
fn events(taken: &Taken, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(taken.metrics()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == kind).collect()
}

fn finished(end: &Value) -> Option<Finished> {
    Some(Finished {
        first_loss: end["first_loss"].as_f64()?,
        last_loss: end["last_loss"].as_f64()?,
        val_loss: end["val_loss"].as_f64(),
        steps: end["steps"].as_u64()?,
        seconds: end["seconds"].as_f64()?,
        peak_memory_bytes: end["peak_memory_bytes"].as_u64(),
    })
}

/// The first line of a reason.
pub fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}
