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

mod error;
mod event;
mod health;
mod optimizer;
mod parameters;
mod schedule;
mod state;
mod trainer;

use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use mixlab_ops::Backend;

use crate::blocks::Block;
use crate::data::{Batch, Batches, Prefetch};
use crate::eval::mean_loss;

pub use error::TrainError;
pub use event::{Event, Logged, Timing, Trained};
pub use health::Health;
pub use optimizer::Optimizer;
pub use parameters::Gradients;
pub use schedule::Schedule;
pub use state::{State, StateError};
pub use trainer::Trainer;

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

/// Trains by the plan of the trainer's model, from the step that it stands at. `observe` sees every
/// event and may break off after a step. Whatever happens, the trainer then has what was trained.
///
/// # Errors
/// If a batch cannot be loaded, the loss becomes NaN, or gradients stay infinite or NaN.
pub fn train<A, K, S>(
    trainer: &mut Trainer<A, K>,
    mut run: Run<S>,
    mut observe: impl FnMut(Event) -> ControlFlow<()>,
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
        let begin = Instant::now();
        let batch = run.batches.next_batch()?;
        let data = begin.elapsed();
        trainer.step(batch)?;
        let mut stop = observe(Event::Step(step)).is_break();
        let validate = due(step, run.val_every) && !run.validation.is_empty();
        if !(due(step, run.log_every) || validate || stop) {
            continue;
        }
        let mut logged = trainer.read()?.expect("a step since the last reading");
        logged.timing = Timing { data, step: begin.elapsed() - data, ..Timing::default() };
        let validated = Instant::now();
        logged.val_loss =
            validate.then(|| mean_loss(trainer.model(), &run.validation, trainer.device()));
        logged.timing.validation = validated.elapsed();
        logged.elapsed = start.elapsed();
        logs.push(logged.clone());
        stop |= observe(Event::Logged(logged.clone())).is_break();
        let target = plan.training.target_val_loss.zip(logged.val_loss);
        if target.is_some_and(|(target, loss)| loss <= target) {
            let _ = observe(Event::TargetReached(logged));
            break;
        }
        if stop {
            break;
        }
    }
    Ok(Trained {
        steps: trainer.steps(),
        elapsed: start.elapsed(),
        device_memory: A::memory(trainer.device()),
        ..Trained::of(&logs)
    })
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
