//! Training, top to bottom.

mod health;
mod optimizer;
mod schedule;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::tensor::backend::AutodiffBackend;

use crate::blocks::Block;
use crate::data::{Batch, DataError, Prefetch};
use crate::eval::mean_loss;
use crate::model::Model;

use health::{Found, Watch, culprit};
pub use optimizer::{Health, Optimizer};
pub use schedule::Schedule;

/// What a run reads and when it reports.
pub struct Run {
    /// Training batches.
    pub batches: Prefetch,
    /// Validation batches; empty for no validation.
    pub validation: Vec<Batch>,
    /// The loss is read and reported every so many steps, and at the first and last step.
    pub log_every: usize,
    /// The validation loss is computed every so many steps, and at the first and last step.
    pub val_every: usize,
}

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
    /// Mean validation loss after the update, in nats.
    pub val_loss: Option<f64>,
    /// Learning rate of the update.
    pub lr: f32,
    /// Norm of all gradients of the step, before it is bounded.
    pub grad_norm: f32,
    /// Updates of the run that were skipped so far, because a gradient was not finite.
    pub skipped: usize,
    /// Tokens trained on so far.
    pub tokens: usize,
    /// Time since the start of training.
    pub elapsed: Duration,
    /// Where the time of this step went.
    pub timing: Timing,
}

/// What happens during a run.
#[derive(Clone, Debug)]
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
pub struct Trained<M> {
    /// The trained model.
    pub model: M,
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

impl<M> Trained<M> {
    /// What the logged steps tell.
    fn of(model: M, logs: &[Logged]) -> Self {
        let first = logs.first();
        Self {
            model,
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

/// Why a run stopped early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There was no batch.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The loss is not a number.
    #[error(
        "the loss is NaN at step `{step}` (it was last read at step `{last}`, as `{loss}`)\n  hint: lower `training.lr`, or set `training.grad_clip` to `1`"
    )]
    NotANumber {
        /// The step whose loss is NaN.
        step: usize,
        /// The last step whose loss was read before.
        last: usize,
        /// That loss.
        loss: f64,
    },
    /// Gradients were infinite or NaN three times in a row; those updates were skipped.
    #[error(
        "the gradients are not finite at step `{step}`, for the third time in a row; nearest to the loss: {weight}\n  hint: lower `training.lr`, set `training.grad_clip`, or train with `--precision f32`"
    )]
    NotFinite {
        /// The step at which this was found.
        step: usize,
        /// The weight nearest to the loss whose gradient is not finite.
        weight: String,
    },
}

impl TrainError {
    fn not_a_number(step: usize, before: Option<&Logged>) -> Self {
        let (last, loss) = before.map_or((0, f64::NAN), |l| (l.step, l.loss));
        Self::NotANumber { step, last, loss }
    }
}

/// Trains `model` by its plan. `observe` sees every event and may break off after a step.
///
/// # Errors
/// If a batch cannot be loaded, the loss becomes NaN, or gradients stay infinite or NaN.
pub fn train<A, K>(
    mut model: Model<A, K>,
    device: &A::Device,
    mut run: Run,
    mut observe: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<Trained<Model<A, K>>, TrainError>
where
    A: AutodiffBackend<InnerBackend: mixlab_ops::Backend> + mixlab_ops::Backend,
    K: Block,
{
    let plan = model.plan().clone();
    let schedule = Schedule::new(&plan.training);
    let mut optimizer = Optimizer::<A::InnerBackend>::new(&model, &plan.training);
    A::seed(device, plan.training.seed as u64);
    let steps = plan.training.steps;
    let due = |step: usize, every: usize| step.is_multiple_of(every) || step + 1 == steps;
    let start = Instant::now();
    let mut watch = Watch::<A::InnerBackend>::new();
    let mut logs: Vec<Logged> = Vec::new();
    let mut phase = None;
    let mut done = 0;

    for step in 0..steps {
        let current = schedule.phase(step).map(|(index, _)| index);
        if let Some(index) = current.filter(|_| current != phase) {
            let _ = observe(Event::Phase(index));
        }
        phase = current;
        let begin = Instant::now();
        let batch = run.batches.next_batch()?;
        let data = begin.elapsed();
        let (tokens, targets) = model.upload(&batch, device);
        let loss = model.loss(tokens, targets, true);
        let lr = schedule.lr(step);
        let (updated, health) = optimizer.step::<A, _>(model, &mut loss.backward(), lr);
        model = updated;
        watch.push(loss.inner(), health);
        done = step + 1;
        let stop = observe(Event::Step(step)).is_break();
        let validate = due(step, run.val_every) && !run.validation.is_empty();
        if !(due(step, run.log_every) || validate || stop) {
            continue;
        }
        let loss = match watch.read() {
            Found::Loss(loss) => loss,
            Found::NotANumber(step) => return Err(TrainError::not_a_number(step, logs.last())),
            Found::Broken => {
                return Err(TrainError::NotFinite {
                    step,
                    weight: culprit(&model, &batch, device),
                });
            }
        };
        let mut timing = Timing { data, step: begin.elapsed() - data, ..Timing::default() };
        let validated = Instant::now();
        let val_loss = validate.then(|| mean_loss(&model, &run.validation, device));
        timing.validation = validated.elapsed();
        let logged = Logged {
            step,
            loss,
            val_loss,
            lr,
            grad_norm: watch.norm,
            skipped: watch.skipped,
            tokens: done * plan.training.batch_tokens,
            elapsed: start.elapsed(),
            timing,
        };
        logs.push(logged.clone());
        let reached = plan.training.target_val_loss.zip(val_loss).is_some_and(|(t, v)| v <= t);
        let stop = observe(Event::Logged(logged.clone())).is_break() || stop;
        if reached {
            let _ = observe(Event::TargetReached(logged));
        }
        if reached || stop {
            break;
        }
    }
    let elapsed = start.elapsed();
    Ok(Trained {
        steps: done,
        elapsed,
        device_memory: A::memory(device),
        ..Trained::of(model, &logs)
    })
}
