//! What a run reports.

use std::time::Duration;

/// Where the time of one step went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Waiting for the batch.
    pub data: Duration,
    /// Forward, backward and update, up to the reading of the loss.
    pub step: Duration,
    /// Validation.
    pub validation: Duration,
}

/// A step whose loss was read.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The step, from 0.
    pub step: usize,
    /// Mean loss of the step's batch before its update, in nats.
    pub loss: f64,
    /// Mean validation loss after the update, in nats, if [`train`](super::train) computed it.
    pub val_loss: Option<f64>,
    /// Learning rate of the update.
    pub lr: f32,
    /// Norm of all gradients of the step, before it is bounded.
    pub grad_norm: f32,
    /// Updates of the run that were skipped so far, because a gradient was not finite.
    pub skipped: usize,
    /// Tokens trained on so far.
    pub tokens: usize,
    /// Time since the start of [`train`](super::train).
    pub elapsed: Duration,
    /// Where the time of this step went in [`train`](super::train).
    pub timing: Timing,
}

/// What happens during a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A phase of the schedule begins: its number, from 0.
    Phase(usize),
    /// A step was submitted.
    Step(usize),
    /// A step's loss was read.
    Logged(Logged),
    /// The validation loss reached the target, at this step.
    TargetReached(Logged),
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Loss of the first step.
    pub first_loss: f64,
    /// Loss of the last logged step.
    pub last_loss: f64,
    /// The last validation loss.
    pub val_loss: Option<f64>,
    /// Steps done.
    pub steps: usize,
    /// Time of training, first batch to last report.
    pub elapsed: Duration,
    /// Time until the first loss was known, compilation of kernels included.
    pub first_step: Duration,
    /// Bytes of device memory that training took, where that is known.
    pub device_memory: Option<u64>,
}

impl Trained {
    /// What the logged steps tell.
    pub(super) fn of(logs: &[Logged]) -> Self {
        let first = logs.first();
        Self {
            first_loss: first.map_or(f64::NAN, |l| l.loss),
            last_loss: logs.last().map_or(f64::NAN, |l| l.loss),
            val_loss: logs.iter().rev().find_map(|l| l.val_loss),
            steps: 0,
            elapsed: Duration::ZERO,
            first_step: first.map_or(Duration::ZERO, |l| l.elapsed - l.timing.validation),
            device_memory: None,
        }
    }
}
