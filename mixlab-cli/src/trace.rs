//! What a run did when, in the format of Chrome's trace viewer, which Perfetto reads too.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use crate::outputs;

/// A trace that is being written, or none: a list of events, written as they come. Viewers need no end of
/// the list, so that the file can be read however the run ended; a run that is not killed writes it.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Mutex<Open>>>);

struct Open {
    file: BufWriter<File>,
    start: Instant,
    /// What goes before the next event.
    before: &'static str,
    failed: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.failed {
            // What is missing then, no viewer needs.
            let _ = self.file.write_all(b"\n]\n").and_then(|()| self.file.flush());
        }
    }
}

impl Trace {
    /// A trace in the file at `path`, if there is one.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::create(path).map_err(|error| outputs::unwritable(path, error))?;
        let mut file = BufWriter::new(file);
        file.write_all(b"[").context("cannot write the trace")?;
        let open = Open { file, start: Instant::now(), before: "\n", failed: false };
        Ok(Self(Some(Arc::new(Mutex::new(open)))))
    }

    /// Adds that something of this name took place on the line `track`, in step `step`.
    pub fn slice(&self, track: &str, name: &str, step: usize, [from, to]: [Instant; 2]) {
        let Some(open) = &self.0 else { return };
        let mut open = open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let micros = |moment: Instant| moment.saturating_duration_since(open.start).as_micros();
        let event = json!({
            "name": name, "ph": "X", "pid": 1, "tid": track, "args": {"step": step},
            "ts": micros(from) as u64, "dur": to.saturating_duration_since(from).as_micros() as u64,
        });
        let before = std::mem::replace(&mut open.before, ",\n");
        let written = write!(open.file, "{before}{event}").and_then(|()| open.file.flush());
        if let (Err(error), false) = (written, open.failed) {
            open.failed = true;
            eprintln!("warning: cannot write the trace: {error}; it ends at step {step}");
        }
    }
}
