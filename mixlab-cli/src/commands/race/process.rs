//! The process of a run: what it says goes to a log, and it ends with the race.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;

use super::STOP;

/// Time between looks whether a process has ended.
const POLL: Duration = Duration::from_millis(20);

/// How a process ended, and what it said last.
pub struct Ended {
    pub status: ExitStatus,
    error: String,
}

impl Ended {
    /// Why it failed: what it said, or else how it ended.
    pub fn reason(&self) -> String {
        if self.error.is_empty() {
            format!("it {}", exit_reason(&self.status))
        } else {
            self.error.clone()
        }
    }
}

/// Runs `command` to its end; what it says goes to the file `log`, and to the terminal if `shown`.
///
/// # Errors
/// If the log cannot be written, or the process not be started or waited for.
pub fn watch(mut command: Command, log: &Path, shown: bool) -> anyhow::Result<Ended> {
    let file = File::options().create(true).append(true).open(log);
    let log = file.with_context(|| format!("cannot write `{}`", log.display()))?;
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
pub fn die_together(command: &mut Command) {
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

/// How a process ended that said nothing.
fn exit_reason(status: &ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        let memory =
            if signal == libc::SIGKILL { ", as the system does when memory runs out" } else { "" };
        return format!("was ended by signal `{signal}`{memory}");
    }
    format!("ended with {status}")
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
