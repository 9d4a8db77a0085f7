//! Training, top to bottom.
//!
//! [`Trainer`] is a run in the middle: it takes one step for each batch, reads the device when asked
//! to, and can be put down as a [`State`] and taken up again. [`train`] is the loop over it, from
//! the step that the trainer stands at to the last one of its plan.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use std::sync::Arc;
//! use burn::backend::Autodiff;
//! use burn_flex::Flex;
//! use mixlab_burn::data::Batch;
//! use mixlab_burn::{model::Model, plan::Plan, train::Trainer};
//!
//! let json = r#"{
//!     "model_dim": 16, "vocab_size": 32, "seq_len": 8,
//!     "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
//!     "training": {"steps": 2, "batch_tokens": 16}
//! }"#;
//! let plan = Arc::new(Plan::parse(json, "example.json", &[])?.plan);
//! let device = Default::default();
//! let model: Model<Autodiff<Flex>> = Model::init(plan.clone(), &device);
//! let mut trainer = Trainer::new(model, &device);
//! let tokens: Vec<u16> = (0..17).collect();
//! while trainer.steps() < plan.training.steps {
//!     trainer.step(Batch::from_tokens(&tokens, plan.seq_len)?)?;
//! }
//! let logged = trainer.read()?.expect("steps since the last reading");
//! assert!(logged.loss < 5.0);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod average;
mod error;
mod event;
mod explain;
mod health;
mod optimizer;
pub(crate) mod parameters;
mod patience;
mod qat;
mod state;
mod trainer;
mod ttt;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::tensor::backend::AutodiffBackend;
use mixlab_ops::Backend;

use crate::blocks::Block;
use crate::data::{Batch, Batches, Position, Prefetch};
use crate::eval::mean_loss;

pub use crate::plan::Schedule;
pub use error::TrainError;
pub use event::{Event, Logged, Timing, Trained};
pub use health::Health;
pub use optimizer::{Assignment, Optimizer, OptimizerGroup, OptimizerPlan, OptimizerPlanError};
pub use parameters::Gradients;
pub use qat::fake_quantized;
pub use state::{Held, Snapshot, State, StateError};
pub use trainer::Trainer;
pub use ttt::{Adapters, TestTimeTraining};

/// What a run reads and when it reports.
pub struct Run<S = Prefetch> {
    /// Training batches.
    pub batches: S,
    /// Validation batches; empty for no validation.
    pub validation: Vec<Batch>,
    /// The loss is read and reported every so many steps, and at the first and last step.
    pub log_every: usize,
    /// The validation loss is computed every so many steps, and at the first and last step.
    pub val_every: usize,
}

/// A run between two steps: what a checkpoint is made of.
pub struct Pause<'a, A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> {
    /// The run.
    pub trainer: &'a Trainer<A, K>,
    /// Where its batches stand, if they can be resumed there.
    pub position: Option<Position>,
    /// Whether the loop ends here.
    pub last: bool,
}

/// Trains by the plan of the trainer's model, from the step that it stands at. `observe` sees every
/// event and may break off after a step. Whatever happens, the trainer then has what was trained.
///
/// # Errors
/// If a batch cannot be loaded, the loss becomes NaN, or gradients stay infinite or NaN.
pub fn train<A, K, S>(
    trainer: &mut Trainer<A, K>,
    run: Run<S>,
    observe: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<Trained, TrainError>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
    S: Batches,
{
    train_and_save(trainer, run, observe, |_| Ok(()))
}

/// As [`train`]; `save` is called after every step, last of all, and after none if there are no more.
///
/// # Errors
/// As [`train`], and those of `save`.
pub fn train_and_save<A, K, S>(
    trainer: &mut Trainer<A, K>,
    mut run: Run<S>,
    mut observe: impl FnMut(Event) -> ControlFlow<()>,
    mut save: impl FnMut(Pause<'_, A, K>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> Result<Trained, TrainError>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
    S: Batches,
{
    let plan = trainer.model().plan().clone();
    let steps = plan.training.steps;
    let due = |step: usize, every: usize| step.is_multiple_of(every) || step + 1 == steps;
    let start = Instant::now();
    let mut logs: Vec<Logged> = Vec::new();

    while trainer.steps() < steps {
        let step = trainer.steps();
        if let Some(phase) = trainer.schedule().phase_begun(step) {
            let _ = observe(Event::Phase(phase));
        }
        if step > 0 && plan.training.qat.is_some_and(|qat| qat.start == step) {
            let _ = observe(Event::FakeQuantization(step));
        }
        let begin = Instant::now();
        let batch = run.batches.next_batch()?;
        let data = begin.elapsed();
        let _ = observe(Event::Loaded(step));
        trainer.step(batch)?;
        let submit = begin.elapsed() - data;
        let mut stop = observe(Event::Step(step)).is_break();
        if plan.training.average.is_some_and(|average| average.start == step) {
            let _ = observe(Event::Averaging(step));
        }
        let validate = due(step, run.val_every) && !run.validation.is_empty();
        if due(step, run.log_every) || validate || stop {
            let mut logged = trainer.read()?.expect("a step since the last reading");
            let wait = begin.elapsed() - data - submit;
            logged.timing = Timing { data, submit, wait, validation: Duration::ZERO };
            if validate {
                validated(trainer, &run.validation, &mut logged);
            }
            logged.elapsed = start.elapsed();
            logs.push(logged.clone());
            stop |= observe(Event::Logged(logged.clone())).is_break();
            if let Some(reason) = enough(trainer, logged) {
                let _ = observe(reason);
                stop = true;
            }
        }
        let last = stop || step + 1 == steps;
        save(Pause { trainer, position: run.batches.position(), last })?;
        if stop {
            break;
        }
    }
    let (first, last) = trainer.losses();
    let trained = Trained::of(&logs);
    Ok(Trained {
        first_loss: first.unwrap_or(trained.first_loss),
        last_loss: last.unwrap_or(trained.last_loss),
        steps: trainer.steps(),
        elapsed: start.elapsed(),
        device_memory: A::memory(trainer.device()),
        ..trained
    })
}

/// Adds the validation losses to a logged step, and how long they took.
fn validated<A, K>(trainer: &Trainer<A, K>, batches: &[Batch], logged: &mut Logged)
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    let begin = Instant::now();
    logged.val_loss = Some(mean_loss(trainer.model(), batches, trainer.device()));
    let averaged = trainer.averaged();
    logged.average_val_loss = averaged.map(|model| mean_loss(&model, batches, trainer.device()));
    logged.timing.validation = begin.elapsed();
}

/// Whether the validation loss of a logged step ends the run.
fn enough<A, K>(trainer: &mut Trainer<A, K>, logged: Logged) -> Option<Event>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    let loss = logged.val_loss?;
    let target = trainer.model().plan().training.target_val_loss;
    let stale = trainer.is_stale(loss);
    if target.is_some_and(|target| loss <= target) {
        Some(Event::TargetReached(logged))
    } else {
        stale.then_some(Event::OutOfPatience(logged))
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
