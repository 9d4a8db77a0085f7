//! The `--metrics` file: one JSON object a line, flushed as it is written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use mixlab_burn::blocks::Block;
use mixlab_burn::ops::Precision;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::train::{Logged, Trained};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::backend::Place;
use crate::report::rate;

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

/// An open metrics file, or none.
pub struct Metrics(Option<File>);

impl Metrics {
    /// Opens `path` to append.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write `{}`", path.display()))
        };
        Ok(Self(path.map(open).transpose()?))
    }

    /// The first line of a run.
    pub fn start<K: Block>(&mut self, run: &Start<'_, K>) -> anyhow::Result<()> {
        let Start { plan, config, counts, place, precision } = run;
        let digest = Sha256::digest(config.to_string());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write(json!({
            "event": "start",
            "config": config,
            "config_sha256": digest,
            "backend": place.kind,
            "device": place.device,
            "precision": precision.to_string(),
            "seed": plan.training.seed,
            "params": counts.parameters,
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// A logged step.
    pub fn step(&mut self, logged: &Logged, before: Option<&Logged>) -> anyhow::Result<()> {
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
        self.write(line)
    }

    /// The last line of a run.
    pub fn end(&mut self, trained: &Trained) -> anyhow::Result<()> {
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
        }))
    }

    fn write(&mut self, line: Value) -> anyhow::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        writeln!(file, "{line}")
            .and_then(|()| file.flush())
            .context("cannot write the metrics file")
    }
}

/// The most memory this process has held, in bytes; only known on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
