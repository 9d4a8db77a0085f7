//! What a run reports.

use std::time::Duration;

/// Where the time of one step went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Waiting for the batch.
    pub data: Duration,
    /// Forward, backward and update as the host submits them to the device.
    pub submit: Duration,
    /// Waiting for the device: for all steps since the last reading of a loss.
    pub wait: Duration,
    /// Validation.
    pub validation: Duration,
}

impl Timing {
    /// Forward, backward and update, up to the reading of the loss.
    pub fn step(&self) -> Duration {
        self.submit + self.wait
    }
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
    /// As `val_loss`, with the average of the weights, once there is one.
    pub average_val_loss: Option<f64>,
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
    /// From this step on the forward pass of training has quantized weights.
    FakeQuantization(usize),
    /// After this step the weights were averaged for the first time.
    Averaging(usize),
    /// The batch of a step was loaded.
    Loaded(usize),
    /// A step was submitted.
    Step(usize),
    /// A step's loss was read.
    Logged(Logged),
    /// The validation loss reached the target, at this step.
    TargetReached(Logged),
    /// The validation loss was no better for as long as the plan is patient.
    OutOfPatience(Logged),
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Loss of the first step of the run, also if it was resumed since.
    pub first_loss: f64,
    /// Loss of the last step that was read.
    pub last_loss: f64,
    /// The last validation loss.
    pub val_loss: Option<f64>,
    /// The last validation loss of the averaged weights.
    pub average_val_loss: Option<f64>,
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
        let last = |of: fn(&Logged) -> Option<f64>| logs.iter().rev().find_map(of);
        Self {
            first_loss: first.map_or(f64::NAN, |l| l.loss),
            last_loss: logs.last().map_or(f64::NAN, |l| l.loss),
            val_loss: last(|l| l.val_loss),
            average_val_loss: last(|l| l.average_val_loss),
            steps: 0,
            elapsed: Duration::ZERO,
            first_step: first.map_or(Duration::ZERO, |l| l.elapsed - l.timing.validation),
            device_memory: None,
        }
    }
}
