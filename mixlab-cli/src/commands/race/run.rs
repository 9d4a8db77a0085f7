//! One run of a race: `arch` as a process of its own, which holds the run's lock, and what it leaves.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use mixlab_burn::race::{Entry, Finished, Outcome, Queue, Taken};
use mixlab_burn::runs::Writer;
use serde_json::Value;

use super::STOP;
use crate::cli;
use crate::error::{Interrupted, printable};
use crate::report::duration;

/// Time between looks whether a process has ended.
const POLL: Duration = Duration::from_millis(20);
/// Steps of the trial that tells how long a step takes.
const TRIAL: usize = 12;
/// How the trial reports, and the beginnings of the arguments of a race that it does without.
const OF_A_TRIAL: [&str; 2] = ["--log-every=1", "--val-every=1000000"];
const OF_NO_TRIAL: [&str; 6] =
    ["--log-every", "--val-every", "--eval", "--checkpoint", "--keep", "--quant"];

/// The beginnings of the argument that names the folder of checkpoints, and of the one that names
/// the weights that training begins with, which a run that goes on has no use for.
const FOLDER: &str = "--checkpoint-dir=";
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

/// How a process ended, and what it said last.
struct Ended {
    status: ExitStatus,
    error: String,
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
        let mut command = self.command(&taken, &more, &self.queue.settings().arguments)?;
        if let Some(name) = self.options.safetensors.as_deref().and_then(|path| path.file_name()) {
            command.arg("--safetensors").arg(taken.folder().join(name));
        }
        let ended = self.watch(command, &taken, self.shows())?;
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
        for argument in arguments {
            match argument.strip_prefix(FOLDER) {
                Some(name) => command.arg("--checkpoint-dir").arg(taken.folder().join(name)),
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
        let ended = self.watch(command, taken, false)?;
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

    /// Runs `command` to its end; what it says goes to the log, and to the terminal if `shown`.
    fn watch(&self, mut command: Command, taken: &Taken, shown: bool) -> anyhow::Result<Ended> {
        let path = taken.log();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write `{}`", path.display()))?;
        let log = Mutex::new(log);
        let mut child = command.spawn().context("cannot start a process for the run")?;
        // The command has a handle on the lock.
        drop(command);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut filter = Filter::default();
                tee(out, &log, |line| {
                    if let Some(lines) = filter.pass(line).filter(|_| shown) {
                        // A closed stdout is no reason to stop training.
                        let _ = std::io::stdout().write_all(lines.as_bytes());
                    }
                })
            });
            let said = scope.spawn(|| {
                let mut said = String::new();
                tee(err, &log, |line| {
                    if shown && !line.starts_with("error: ") {
                        let _ = std::io::stderr().write_all(line.as_bytes());
                    }
                    said += line;
                });
                said
            });
            let status = wait(&mut child)?;
            let said = said.join().expect("reading does not panic");
            let error = said.rfind("error: ").map_or("", |at| &said[at + "error: ".len()..]);
            Ok(Ended { status, error: error.trim().into() })
        })
    }
}

/// Waits for `child`, and ends it when the race is stopped.
fn wait(child: &mut Child) -> anyhow::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the run")? {
            return Ok(status);
        }
        if STOP.load(Ordering::Relaxed) {
            let _ = child.kill();
        }
        std::thread::sleep(POLL);
    }
}

/// Lets the system end the process with this one.
fn die_together(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: one call to the system, of those that are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Writes each line of `from` to the log and gives it to `line`.
fn tee(from: Option<impl Read>, log: &Mutex<File>, mut line: impl FnMut(&str)) {
    let Some(from) = from else { return };
    let (mut from, mut bytes) = (BufReader::new(from), Vec::new());
    while from.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The log is a convenience: training goes on without it.
        let _ = log.lock().expect("nobody panics with it").write_all(text.as_bytes());
        line(&text);
        bytes.clear();
    }
}

/// Leaves out what a single training says of its config and of its result.
#[derive(Default)]
struct Filter {
    blank: bool,
    over: bool,
}

impl Filter {
    /// What is printed of `line`.
    fn pass(&mut self, line: &str) -> Option<String> {
        self.over |= line.starts_with("=== ARCH RESULT");
        let config = line.starts_with("loaded config ") || line.starts_with("  training: ");
        if self.over || config {
            return None;
        }
        let blank = std::mem::replace(&mut self.blank, line.trim().is_empty());
        if self.blank { None } else { Some(if blank { format!("\n{line}") } else { line.into() }) }
    }
}

/// What came of a run whose process has ended; nothing if it was stopped.
fn outcome(ended: &Ended, taken: &Taken) -> Option<Outcome> {
    let failed = |reason: String, config| Some(Outcome::Failed { reason, config });
    if STOP.load(Ordering::Relaxed) || ended.status.code() == Some(i32::from(Interrupted::CODE)) {
        return None;
    }
    let reason = || {
        if ended.error.is_empty() {
            format!("it {}", how(&ended.status))
        } else {
            ended.error.clone()
        }
    };
    match ended.status.code() {
        Some(0) => match events(taken, "end").last().map(finished) {
            Some(Some(finished)) => Some(Outcome::Done(finished)),
            Some(None) => failed("its last loss is not a finite number".into(), false),
            None => failed("its `metrics.jsonl` has no end: was its folder moved?".into(), false),
        },
        Some(code) => failed(reason(), code == 2),
        None => failed(reason(), false),
    }
}

/// How a process ended that said nothing.
fn how(status: &ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        let memory =
            if signal == libc::SIGKILL { ", as the system does when memory runs out" } else { "" };
        return format!("was ended by signal `{signal}`{memory}");
    }
    format!("ended with {status}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_training_are_shown() {
        let lines = [
            "loaded config \"a\": x\n",
            "  training: y\n",
            "  [a] step\n",
            "a first\n",
            "\n",
            "=== ARCH RESULT ===\n",
            "a first\n",
        ];
        let mut filter = Filter::default();
        let shown: Vec<String> = lines.iter().filter_map(|line| filter.pass(line)).collect();
        assert_eq!(shown, ["  [a] step\n", "a first\n"]);
    }
}
