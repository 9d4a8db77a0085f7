//! What the user sees while `prepare` works: what it found, and how far it is if that takes long.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mixlab_burn::data::prepare::{Activity, Event, Progress};

use super::grouped;
use crate::error::printable;
use crate::report::duration;

/// Before this nobody wonders.
const SILENT: Duration = Duration::from_secs(2);
/// Between two lines in a log.
const LINES: Duration = Duration::from_secs(10);
/// Between two changes of the line on a terminal.
const CHANGES: Duration = Duration::from_millis(500);

/// Prints to stderr from a thread of its own, for the library may be silent for minutes.
pub struct Screen {
    progress: Arc<Mutex<Option<Progress>>>,
    /// The line on a terminal; hidden elsewhere.
    line: ProgressBar,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Screen {
    pub fn new() -> Self {
        let progress = Arc::new(Mutex::new(None));
        let line = ProgressBar::new_spinner();
        line.set_style(ProgressStyle::with_template("{msg}").expect("the template is well-formed"));
        let (stop, stopped) = channel();
        let thread = {
            let (progress, line) = (progress.clone(), line.clone());
            let (start, mut wait) = (Instant::now(), SILENT);
            let report = move || {
                let now = *progress.lock().expect("nobody panics with the lock");
                let Some(now) = now else { return };
                let text = text(&now, start.elapsed());
                if stderr().is_terminal() { line.set_message(text) } else { eprintln!("{text}") }
            };
            thread::spawn(move || {
                while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    report();
                    wait = if stderr().is_terminal() { CHANGES } else { LINES };
                }
            })
        };
        Self { progress, line, stop, thread }
    }

    pub fn event(&self, event: Event) {
        match event {
            Event::Progress(progress) => {
                *self.progress.lock().expect("nobody panics with the lock") = Some(progress);
            }
            Event::Finding(finding) => {
                let kind = if finding.is_warning() { "warning" } else { "note" };
                let text = printable(&finding.to_string());
                self.line.suspend(|| eprintln!("{kind}: {text}"));
            }
        }
    }

    /// Takes the line away.
    pub fn end(self) {
        drop(self.stop);
        let _ = self.thread.join();
        self.line.finish_and_clear();
    }
}

fn text(progress: &Progress, time: Duration) -> String {
    let what = match progress.activity {
        Activity::Copying => "copying the input".to_owned(),
        Activity::Counting => "counting words for the tokenizer".to_owned(),
        Activity::Merging { words } => {
            format!("training the tokenizer on {} distinct words", grouped(words as u64))
        }
        Activity::Encoding { tokens } => format!("tokenizing, {} tokens", grouped(tokens)),
        Activity::Writing => "writing shards".to_owned(),
    };
    let time = duration(time, Duration::from_secs(1));
    let megabytes = |bytes: u64| grouped(bytes / 1_000_000);
    match (progress.done, progress.total) {
        (done, 0) => format!("  {what}: {} MB ({time})", megabytes(done)),
        (done, total) => {
            format!("  {what}: {} of {} MB ({time})", megabytes(done), megabytes(total))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_and_how_far_it_is() {
        let progress = Progress {
            activity: Activity::Encoding { tokens: 1_234_567 },
            done: 5_000_000,
            total: 2_000_000_000,
        };
        let line = text(&progress, Duration::from_millis(61_400));
        assert_eq!(line, "  tokenizing, 1,234,567 tokens: 5 of 2,000 MB (1m1s)");
        let pipe = Progress { activity: Activity::Copying, done: 7_900_000, total: 0 };
        assert_eq!(text(&pipe, Duration::from_secs(3)), "  copying the input: 7 MB (3s)");
    }
}
