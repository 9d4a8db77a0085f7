//! A run in the middle.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use mixlab_ops::Backend;
use std::time::Duration;

use super::health::{Found, Watch, blame, culprit};
use super::{Logged, Optimizer, Schedule, State, StateError, Timing, TrainError};
use crate::blocks::{Block, DropoutKey};
use crate::data::Batch;
use crate::model::{Model, Tokens};

/// A model in training: with its optimizer, its place in the schedule, and what is known of its
/// losses.
pub struct Trainer<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> {
    /// Only away while it is updated.
    model: Option<Model<A, K>>,
    device: A::Device,
    optimizer: Optimizer<A::InnerBackend>,
    schedule: Schedule,
    watch: Watch<A::InnerBackend>,
    /// Seed of dropout.
    seed: u64,
    steps: usize,
    tokens: usize,
    /// What the last step saw, to explain what came of it.
    last: Option<(Tokens<A>, Tensor<A, 1, Int>)>,
}

impl<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> Trainer<A, K> {
    /// A run of the model's plan at its start.
    pub fn new(model: Model<A, K>, device: &A::Device) -> Self {
        let training = &model.plan().training;
        Self {
            device: device.clone(),
            optimizer: Optimizer::new(&model, training, device),
            schedule: Schedule::new(training),
            watch: Watch::new(),
            seed: training.seed as u64,
            steps: 0,
            tokens: 0,
            last: None,
            model: Some(model),
        }
    }

    /// The run that `state` was taken of, `model` having the weights of that moment.
    ///
    /// # Errors
    /// If the state is not one of this model.
    pub fn resume(
        model: Model<A, K>,
        mut state: State,
        device: &A::Device,
    ) -> Result<Self, StateError> {
        let mut trainer = Self::new(model, device);
        trainer.steps = state.number("step")?;
        trainer.tokens = state.number("tokens")?;
        trainer.seed = state.number("seed")? as u64;
        trainer.watch = Watch::resume(&mut state, device)?;
        if trainer.steps > 0 {
            trainer.optimizer.resume(&mut state, device)?;
        }
        state.used_up()?;
        Ok(trainer)
    }

    /// Everything of the run but the model's weights and the position of its data; reads the device.
    pub fn state(&self) -> State {
        let mut state = State::default();
        state.set("step", self.steps);
        state.set("tokens", self.tokens);
        state.numbers.insert("seed".into(), self.seed);
        self.watch.save(&mut state);
        if self.steps > 0 {
            self.optimizer.save(&mut state);
        }
        state
    }

    /// Trains on one batch of rows as long as the plan's, however many. Does not wait for the device.
    ///
    /// # Errors
    /// If the batch does not fit the model; it is then left out.
    pub fn step(&mut self, batch: Batch) -> Result<(), TrainError> {
        let (plan, tokens) = (self.model().plan(), batch.x.len());
        batch.check(plan.seq_len, plan.vocab)?;
        let seen = self.model().upload(batch, &self.device);
        let model = self.model.take().expect("only away in here");
        let loss = model.loss(seen.0.clone(), seen.1.clone(), Some(self.dropout_key(self.steps)));
        let gradients = self.optimizer.gradients(&model, &mut loss.backward());
        // Between these two is the place of whatever treats gradients.
        let lr = self.schedule.lr(self.steps);
        let (model, health) = self.optimizer.apply(model, gradients, lr);
        self.model = Some(model);
        self.watch.push(loss.inner(), health);
        self.last = Some(seen);
        self.steps += 1;
        self.tokens += tokens;
        Ok(())
    }

    /// Waits for the last step, and tells of it; `None` if nothing was read since there was none.
    ///
    /// # Errors
    /// If the loss of a step since the last reading is NaN, or if three updates in a row were
    /// skipped because the gradients were infinite or NaN; another error if there was never an update.
    pub fn read(&mut self) -> Result<Option<Logged>, TrainError> {
        let before = self.watch.last;
        let Some(step) = self.steps.checked_sub(1) else { return Ok(None) };
        let loss = match self.watch.read() {
            None => return Ok(None),
            Some(Found::Loss(loss)) => loss,
            Some(Found::NotANumber(_) | Found::Broken) if self.watch.skipped == self.steps => {
                let loss = self.watch.last.map_or(f64::NAN, |(_, loss)| loss);
                let (cause, hint) = blame(self.model());
                return Err(TrainError::BrokenStart { step, loss, cause, hint });
            }
            Some(Found::NotANumber(step)) => {
                let (last, loss) = before.unwrap_or((0, f64::NAN));
                return Err(TrainError::NotANumber { step, last, loss });
            }
            Some(Found::Broken) => {
                return Err(TrainError::NotFinite { step, weight: self.culprit(step) });
            }
        };
        Ok(Some(Logged {
            step,
            loss,
            val_loss: None,
            lr: self.schedule.lr(step),
            grad_norm: self.watch.norm,
            skipped: self.watch.skipped,
            tokens: self.tokens,
            elapsed: Duration::ZERO,
            timing: Timing::default(),
        }))
    }

    /// The weight whose gradient was not finite in `step`, the last one, which changed no weight.
    fn culprit(&self, step: usize) -> String {
        let last = self.last.clone();
        last.map_or("unknown, for it was before the run was resumed".into(), |(tokens, targets)| {
            culprit(self.model(), tokens, targets, self.dropout_key(step))
        })
    }

    fn dropout_key(&self, step: usize) -> DropoutKey {
        DropoutKey { seed: self.seed, step, row: 0 }
    }

    /// The model as the last step left it.
    ///
    /// # Panics
    /// If a step panicked.
    pub fn model(&self) -> &Model<A, K> {
        self.model.as_ref().expect("only away during a step")
    }

    /// The model as the last step left it, and the end of the run.
    ///
    /// # Panics
    /// If a step panicked.
    pub fn into_model(self) -> Model<A, K> {
        self.model.expect("only away during a step")
    }

    /// Where the model is.
    pub fn device(&self) -> &A::Device {
        &self.device
    }

    /// The learning rates of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Steps done, which is also the number of the next one.
    pub fn steps(&self) -> usize {
        self.steps
    }
}
