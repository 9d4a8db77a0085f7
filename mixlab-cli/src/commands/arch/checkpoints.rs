//! Runs that are saved, and runs that go on.

use std::path::Path;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use indicatif::ProgressBar;
use mixlab_burn::blocks::Block;
use mixlab_burn::ops::Backend;
use mixlab_burn::runs::{About, Change, Checkpoint, CheckpointError, Done, Writer, changes};
use mixlab_burn::train::Pause;
use serde_json::Value;

use crate::backend::Place;
use crate::cli::{Checkpoints, Every};
use crate::error::Request;

/// The folder that checkpoints go to, if any do.
pub fn folder(options: &Checkpoints) -> Result<Option<&Path>, Request> {
    let given = options.saving.checkpoint_dir.as_deref();
    let folder = given.or(match options.saving.checkpoint_every {
        Every::Never => None,
        _ => options.resume.as_deref(),
    });
    if folder.is_none() && options.saving.checkpoint_every != Every::Never {
        let message = "`--checkpoint-every` needs a folder\n  hint: give `--checkpoint-dir DIR`";
        return Err(Request(message.into()));
    }
    Ok(folder)
}

/// The checkpoint that the run goes on from, if it does; says which ones are broken.
pub fn found(options: &Checkpoints) -> anyhow::Result<Option<Checkpoint>> {
    let folder = folder(options)?;
    let Some(resume) = &options.resume else {
        if let Some(folder) = folder
            && let Some(step) = Writer::latest(folder)?
        {
            return Err(CheckpointError::Taken { folder: folder.into(), step }.into());
        }
        return Ok(None);
    };
    match Checkpoint::newest(resume) {
        Ok((found, skipped)) => {
            for broken in skipped {
                eprintln!("warning: passed over the checkpoint {broken}");
            }
            Ok(Some(found))
        }
        // A script that always resumes also begins.
        Err(CheckpointError::None { .. })
            if options.saving.checkpoint_dir.as_ref() == Some(resume) =>
        {
            eprintln!("note: `{}` has no checkpoint yet, so the run starts", resume.display());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses to go on with another config or other data, but for what is allowed; whether the training
/// data are others.
pub fn check(
    found: &Checkpoint,
    config: &Value,
    data: &Value,
    allowed: &[String],
) -> Result<bool, Request> {
    let mut all = changes("", &found.config, config);
    all.extend(changes("data", &found.data, data));
    let other_data = all
        .iter()
        .any(|change| change.path.starts_with("data.train") || change.path == "data.raw_u16");
    let is_allowed = |change: &Change| allowed.iter().any(|name| change.is_called(name));
    let refused: Vec<_> = all.into_iter().filter(|change| !is_allowed(change)).collect();
    if refused.is_empty() {
        return Ok(other_data);
    }
    let lines: Vec<String> = refused.iter().map(|change| format!("\n  {change}")).collect();
    let names: Vec<&str> = refused.iter().map(|change| change.path.as_str()).collect();
    Err(Request(format!(
        "this is not the run that was saved at step `{}`:{}\n  hint: `--resume-allow {}` goes on all the same",
        found.step,
        lines.concat(),
        names.join(",")
    )))
}

/// Bytes of a checkpoint that may wait for the disk: where the model lies in host memory already, a
/// tenth of it and its moments, lest it be there twice.
pub fn waiting_bytes(place: &Place, parameters: usize) -> usize {
    const LEAST: usize = 64 << 20;
    const BYTES: usize = 3 * 4;
    if place.gpu { usize::MAX } else { (parameters * BYTES / 10).max(LEAST) }
}

/// Writes checkpoints when they are due.
pub struct Saver<'a> {
    writer: Writer,
    every: Every,
    last: Instant,
    notices: Notices<'a>,
}

/// Tells what became of checkpoints.
pub struct Notices<'a> {
    /// The config's name.
    pub name: &'a str,
    /// Whether only failures are told.
    pub quiet: bool,
    /// What is drawn on the terminal meanwhile.
    pub bar: ProgressBar,
    /// Why the last one could not be written.
    pub failed: Option<CheckpointError>,
}

impl<'a> Saver<'a> {
    /// Takes the folder that `options` name, if they name one. `memory` is what may wait for the disk.
    pub fn start(
        options: &Checkpoints,
        about: About,
        memory: usize,
        notices: Notices<'a>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(folder) = folder(options)? else { return Ok(None) };
        let writer = Writer::start(folder, options.saving.keep, memory, about)?;
        Ok(Some(Self {
            writer,
            every: options.saving.checkpoint_every,
            last: Instant::now(),
            notices,
        }))
    }

    /// Copies a checkpoint if one is due, and tells of those that were written meanwhile; whether one was
    /// due.
    pub fn pause<A, K>(&mut self, pause: &Pause<'_, A, K>) -> bool
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
        K: Block,
    {
        let due = match self.every {
            Every::Never => false,
            Every::Steps(every) => pause.trainer.steps().is_multiple_of(every),
            Every::Time(every) => self.last.elapsed() >= every,
        };
        let due = due || pause.last;
        if due {
            let mut snapshot = pause.trainer.snapshot();
            if let Some(position) = &pause.position {
                snapshot.set_position(position);
            }
            self.writer.write(snapshot);
            self.last = Instant::now();
        }
        self.writer.outcomes().into_iter().for_each(|outcome| self.notices.tell(outcome));
        due
    }

    /// Waits for what is being written.
    ///
    /// # Errors
    /// If the last checkpoint could not be written.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { writer, mut notices, .. } = self;
        writer.finish().into_iter().for_each(|outcome| notices.tell(outcome));
        notices.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Notices<'_> {
    /// A checkpoint that fails does not end the run: the next may succeed.
    fn tell(&mut self, outcome: Result<Done, CheckpointError>) {
        match outcome {
            Ok(Done { weights, tensors }) => {
                self.failed = None;
                if !self.quiet {
                    let path = weights.display();
                    self.bar.suspend(|| {
                        println!("exported safetensors to {path} ({tensors} tensors)");
                        println!("  [{}] checkpoint saved: {path}", self.name);
                    });
                }
            }
            Err(error) => {
                self.bar.suspend(|| {
                    eprintln!("warning: training goes on without a checkpoint: {error}")
                });
                self.failed = Some(error);
            }
        }
    }
}
