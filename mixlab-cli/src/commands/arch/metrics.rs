//! The `--metrics` file: one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use mixlab_burn::blocks::Block;
use mixlab_burn::ops::Precision;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::train::{Logged, Trained};
use serde_json::{Value, json};

use crate::backend::Place;
use crate::commands::sha256;
use crate::error::Request;
use crate::report::rate;
use crate::{out, outputs};

/// What is known before the first step.
pub struct Start<'a, K: Block> {
    /// What is trained.
    pub plan: &'a Plan<K>,
    /// The config that it was planned from.
    pub config: &'a Value,
    /// Its size.
    pub counts: &'a Counts,
    /// Where it is trained.
    pub place: &'a Place,
    /// Number format of matrix products.
    pub precision: Precision,
}

/// An open metrics file, or none. A line that cannot be written is no reason to end a run.
pub struct Metrics {
    file: Option<File>,
    /// Whether a failure has been told of.
    warned: bool,
}

impl Metrics {
    /// Opens `path` to append, on a line of its own.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(append).transpose()?;
        Ok(Self { file, warned: false })
    }

    /// The first line of a run.
    pub fn start<K: Block>(&mut self, run: &Start<'_, K>) {
        let Start { plan, config, counts, place, precision } = run;
        self.write(json!({
            "event": "start",
            "config": config,
            "config_sha256": sha256(config.to_string()),
            "backend": place.kind,
            "device": place.device,
            "precision": precision.to_string(),
            "seed": plan.training.seed,
            "params": counts.parameters,
            "version": env!("CARGO_PKG_VERSION"),
        }));
    }

    /// A logged step.
    pub fn step(&mut self, logged: &Logged, before: Option<&Logged>) {
        let mut line = json!({
            "event": "step",
            "step": logged.step,
            "loss": logged.loss,
            "lr": logged.lr,
            "grad_norm": logged.grad_norm,
            "tokens": logged.tokens,
            "seconds": logged.elapsed.as_secs_f64(),
            "tok_per_s": rate(logged, before),
        });
        if let Some(val_loss) = logged.val_loss {
            line["val_loss"] = val_loss.into();
        }
        if let Some(val_loss) = logged.average_val_loss {
            line["average_val_loss"] = val_loss.into();
        }
        if logged.skipped > 0 {
            line["skipped"] = logged.skipped.into();
        }
        self.write(line);
    }

    /// The last line of a run.
    pub fn end(&mut self, trained: &Trained) {
        self.write(json!({
            "event": "end",
            "steps": trained.steps,
            "first_loss": trained.first_loss,
            "last_loss": trained.last_loss,
            "val_loss": trained.val_loss,
            "seconds": trained.elapsed.as_secs_f64(),
            "first_step_seconds": trained.first_step.as_secs_f64(),
            "peak_memory_bytes": peak_memory(),
            "device_peak_bytes": trained.device_memory,
        }));
    }

    /// One write a line: what several runs append stays whole.
    fn write(&mut self, line: Value) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes())
            && !std::mem::replace(&mut self.warned, true)
        {
            eprintln!("warning: the metrics file cannot be written: {error}");
        }
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    let failed = |error| outputs::unwritable(path, error);
    if is_foreign(path) {
        let (path, hint) = (path.display(), "give `--metrics` a file of its own");
        return Err(Request(format!("`{path}` holds no metrics\n  hint: {hint}")).into());
    }
    let _wait = out::if_long(format!("waiting until somebody reads the pipe `{}`", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    if is_cut(path) {
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok(file)
}

/// Whether something else than metrics is in the file; not much of them may be, if a run was killed.
fn is_foreign(path: &Path) -> bool {
    const START: &str = "{\"event\":";
    let mut head = Vec::new();
    // A pipe would be waited for.
    let mut read = || File::open(path)?.take(64).read_to_end(&mut head);
    let is_read = path.is_file() && read().is_ok();
    let head = head.trim_ascii_start();
    is_read && !head.starts_with(START.as_bytes()) && !START.as_bytes().starts_with(head)
}

/// Whether the last line has no end: a run was killed, or the disk full.
fn is_cut(path: &Path) -> bool {
    let last = || -> std::io::Result<u8> {
        let (mut file, mut byte) = (File::open(path)?, [0]);
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    path.is_file() && last().is_ok_and(|byte| byte != b'\n')
}

/// The most memory this process has held, in bytes; only known on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_anew_after_one_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/m.jsonl");
        let append = |step: u64| {
            Metrics::open(Some(&path)).unwrap().write(json!({"event": "step", "step": step}));
        };
        append(1);
        append(2);
        std::fs::write(&path, "{\"event\":\"start\"}\n{\"cut").unwrap();
        append(3);
        let expected = "{\"event\":\"start\"}\n{\"cut\n{\"event\":\"step\",\"step\":3}\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_holds_something_else_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        for foreign in ["notes", "{\n  \"model_dim\": 8\n}", "{\"model_dim\":8}\n", "\0\0\u{1}"] {
            std::fs::write(&path, foreign).unwrap();
            let error = Metrics::open(Some(&path)).err().unwrap().to_string();
            assert!(error.contains("m.jsonl` holds no metrics\n  hint: "), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
        for own in ["", "\n", "{\"ev", "{\"event\":\"start\",\"config\":{}}\n", "{\"event\": 1}"] {
            std::fs::write(&path, own).unwrap();
            assert!(Metrics::open(Some(&path)).is_ok(), "{own}");
        }
    }
}
