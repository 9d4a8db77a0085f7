//! A run in the middle.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use mixlab_ops::Backend;
use std::time::Duration;

use super::average::Averages;
use super::health::{Monitor, Reading};
use super::parameters::{self, Gradients, weights, with_weights};
use super::patience::Best;
use super::qat::fake_quantized;
use super::{
    Held, Logged, Optimizer, OptimizerPlan, OptimizerPlanError, Schedule, Snapshot, State,
    StateError, Timing, TrainError,
};
use crate::blocks::{Block, DropoutKey};
use crate::data::Batch;
use crate::model::Model;
use crate::plan::Qat;

/// What a step minimizes: the loss of weights that may be rounded, and `z_loss` times the mean
/// square of the logarithm of the softmax's denominator.
pub(super) struct Aim {
    /// The number of the step, by which dropout has its masks.
    pub step: usize,
    pub qat: Option<Qat>,
    pub z_loss: Option<f32>,
}

/// A model in training: with its optimizer, its place in the schedule, and what is known of its
/// losses.
pub struct Trainer<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> {
    /// Only away while it is updated.
    model: Option<Model<A, K>>,
    device: A::Device,
    optimizer: Optimizer<A::InnerBackend>,
    schedule: Schedule,
    averages: Option<Averages<A::InnerBackend>>,
    monitor: Monitor<A::InnerBackend>,
    best: Best,
    /// Seed of dropout.
    seed: u64,
    steps: usize,
    tokens: usize,
    /// What the last step saw, to explain what came of it.
    last: Option<Batch>,
}

impl<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> Trainer<A, K> {
    /// A run of the model's plan at its start.
    pub fn new(model: Model<A, K>, device: &A::Device) -> Self {
        let plan = OptimizerPlan::of(&model, &model.plan().training);
        Self::of(model, plan, device)
    }

    /// As [`Trainer::new`], with another way to update weights: `change` is given that of the config.
    ///
    /// ```
    /// # #[cfg(feature = "cpu")] {
    /// # use std::sync::Arc;
    /// # use burn::backend::Autodiff;
    /// # use burn_flex::Flex;
    /// # use mixlab_burn::{model::Model, plan::Plan, train::Trainer};
    /// # let json = r#"{"model_dim": 16, "vocab_size": 32, "seq_len": 8,
    /// #     "blocks": [{"type": "plain", "heads": 2}]}"#;
    /// # let plan = Arc::new(Plan::parse(json, "example.json", &[])?.plan);
    /// # let device = Default::default();
    /// let model: Model<Autodiff<Flex>> = Model::init(plan, &device);
    /// // Only attention learns.
    /// let trainer = Trainer::with_optimizer(model, &device, |mut plan| {
    ///     let attention = ["wq", "wk", "wv", "wo"];
    ///     for weight in &mut plan.weights {
    ///         if !attention.iter().any(|name| weight.name.ends_with(name)) {
    ///             weight.group = None;
    ///         }
    ///     }
    ///     plan
    /// })?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If what `change` returns is no plan for the model's weights.
    pub fn with_optimizer(
        model: Model<A, K>,
        device: &A::Device,
        change: impl FnOnce(OptimizerPlan) -> OptimizerPlan,
    ) -> Result<Self, OptimizerPlanError> {
        let plan = change(OptimizerPlan::of(&model, &model.plan().training));
        plan.check(&model)?;
        let trained = plan.weights.iter().map(|weight| weight.group.is_some());
        let model = model.map(&mut Freeze(trained.collect::<Vec<_>>().into_iter()));
        Ok(Self::of(model, plan, device))
    }

    fn of(model: Model<A, K>, plan: OptimizerPlan, device: &A::Device) -> Self {
        let training = &model.plan().training;
        Self {
            device: device.clone(),
            optimizer: Optimizer::of(plan, training.precision, device),
            schedule: Schedule::new(training),
            averages: training.average.map(Averages::new),
            monitor: Monitor::new(),
            best: Best::new(),
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
        state: State,
        device: &A::Device,
    ) -> Result<Self, StateError> {
        let mut trainer = Self::new(model, device);
        trainer.restore(state)?;
        Ok(trainer)
    }

    /// Makes this the run that `state` was taken of; the model has the weights of that moment, and the
    /// optimizer the plan.
    ///
    /// # Errors
    /// If the state is not one of this run; part of it may then be restored.
    pub fn restore(&mut self, mut state: State) -> Result<(), StateError> {
        self.steps = state.number("step")?;
        self.tokens = state.number("tokens")?;
        self.seed = state.number("seed")? as u64;
        self.monitor = Monitor::resume(&mut state, &self.device)?;
        self.best = Best::resume(&mut state)?;
        if self.steps > 0 {
            self.optimizer.resume(&mut state, &self.device)?;
        }
        if let Some(averages) = &mut self.averages {
            averages.resume(self.optimizer.plan(), &mut state, &self.device)?;
        }
        state.used_up()
    }

    /// Everything of the run but the model's weights and the position of its data; reads the device.
    pub fn state(&self) -> State {
        self.snapshot().into_state()
    }

    /// Everything of the run but the position of its data, to be read from the device bit by bit.
    pub fn snapshot(&self) -> Snapshot<A::InnerBackend> {
        let plan = self.optimizer.plan();
        let named = plan.weights.iter().zip(weights::<A, _>(self.model()));
        let tensors = named.map(|(weight, x)| Held::new(weight.name.clone(), x, &weight.shape));
        let mut snapshot = Snapshot::new(tensors.collect());
        snapshot.number("step", self.steps);
        snapshot.number("tokens", self.tokens);
        snapshot.numbers.insert("seed".into(), self.seed);
        self.monitor.save(&mut snapshot);
        self.best.save(&mut snapshot);
        if self.steps > 0 {
            self.optimizer.save(&mut snapshot);
        }
        if let Some(averages) = &self.averages {
            averages.save(plan, &mut snapshot);
        }
        snapshot
    }

    /// Trains on one batch of rows as long as the plan's, however many. Does not wait for the device.
    ///
    /// # Errors
    /// If the batch does not fit the model; it is then left out.
    pub fn step(&mut self, batch: Batch) -> Result<(), TrainError> {
        let lr = self.schedule.lr(self.steps);
        self.step_at(batch, lr, self.aim(self.steps).qat)?;
        let step = self.steps - 1;
        if self.averages.as_ref().is_some_and(|averages| averages.is_due(step)) {
            let weights = weights::<A, _>(self.model());
            self.averages.as_mut().expect("it is due").update(weights);
        }
        Ok(())
    }

    /// Trains on one batch at a learning rate, with fake quantization if there is a rule for it.
    pub(super) fn step_at(
        &mut self,
        batch: Batch,
        lr: f32,
        qat: Option<Qat>,
    ) -> Result<(), TrainError> {
        let plan = self.model().plan();
        batch.check(plan.seq_len, plan.vocab)?;
        let aim = Aim { qat, ..self.aim(self.steps) };
        let model = self.model.take().expect("only away in here");
        let device = self.device.clone();
        let (loss, model, health) = A::awake(&device, || {
            let (loss, gradients) = self.pass(&model, &batch, &aim);
            // Between these two is the place of whatever treats gradients.
            let (model, health) = self.optimizer.apply(model, gradients, lr);
            (loss, model, health)
        });
        self.model = Some(model);
        self.monitor.push(loss, health);
        self.steps += 1;
        self.tokens += batch.x.len();
        self.last = Some(batch);
        Ok(())
    }

    /// Mean loss `[1]` of `batch` and the gradients of what is minimized, part by part.
    pub(super) fn pass(
        &self,
        model: &Model<A, K>,
        batch: &Batch,
        aim: &Aim,
    ) -> (Tensor<A::InnerBackend, 1>, Gradients<A::InnerBackend>) {
        let rounded = aim.qat.map(|qat| fake_quantized::<A, _>(model, &qat));
        let model = rounded.as_ref().unwrap_or(model);
        let part = |model: &Model<A, K>, part: Batch, row: usize| {
            let (tokens, targets) = model.upload(part, &self.device);
            let key = Some(DropoutKey { seed: self.seed, step: aim.step, row });
            parameters::join(model);
            let (loss, minimized) = match aim.z_loss {
                None => (model.loss(tokens, targets, key), None),
                Some(weight) => {
                    let (loss, z) = model.loss_and_z(tokens, targets, key);
                    let sum = loss.clone() + z * weight;
                    (loss, Some(sum))
                }
            };
            let mut grads = minimized.unwrap_or_else(|| loss.clone()).backward();
            (loss.inner(), self.optimizer.gradients(model, &mut grads))
        };
        let parts = batch.split(model.plan().training.grad_accum_steps);
        if parts.len() == 1 {
            return part(model, batch.clone(), 0);
        }
        let (mut losses, mut sum, mut row) = (Vec::new(), None, 0);
        for rows in parts {
            let (first, count) = (row, rows.batch);
            row += count;
            let share = count as f32 / batch.batch as f32;
            let (loss, gradients) = part(&parameters::renewed(model), rows, first);
            losses.push(loss * share);
            sum = Some(Gradients::add(sum, gradients, share));
        }
        (Tensor::cat(losses, 0).sum(), sum.expect("a batch has rows"))
    }

    /// Waits for the last step, and tells of it; `None` if nothing was read since there was none.
    ///
    /// # Errors
    /// If the loss of a step since the last reading is NaN, or if three updates in a row were
    /// skipped because the gradients were infinite or NaN; another error if there was never an update.
    pub fn read(&mut self) -> Result<Option<Logged>, TrainError> {
        let before = self.monitor.last;
        let Some(step) = self.steps.checked_sub(1) else { return Ok(None) };
        let loss = match self.monitor.read() {
            None => return Ok(None),
            Some(Reading::Loss(loss)) => loss,
            Some(Reading::NotANumber(_) | Reading::Broken)
                if self.monitor.skipped == self.steps =>
            {
                let loss = self.monitor.last.map_or(f64::NAN, |(_, loss)| loss);
                return Err(self.broken_start(step, loss));
            }
            Some(Reading::NotANumber(step)) => {
                let (last, loss) = before.unwrap_or((0, f64::NAN));
                return Err(TrainError::NotANumber { step, last, loss, hint: self.slower() });
            }
            Some(Reading::Broken) => return Err(self.broken_gradients(step)),
        };
        Ok(Some(Logged {
            step,
            loss,
            val_loss: None,
            average_val_loss: None,
            lr: self.schedule.lr(step),
            grad_norm: self.monitor.norm,
            skipped: self.monitor.skipped,
            tokens: self.tokens,
            elapsed: Duration::ZERO,
            timing: Timing::default(),
        }))
    }

    /// What is minimized at `step`.
    pub(super) fn aim(&self, step: usize) -> Aim {
        let training = &self.model().plan().training;
        let qat = training.qat.filter(|qat| step >= qat.start);
        Aim { step, qat, z_loss: training.z_loss }
    }

    /// What the last step was trained on, unless that was before the run was resumed.
    pub(super) fn last_batch(&self) -> Option<&Batch> {
        self.last.as_ref()
    }

    /// Takes in a validation loss; whether the patience of the plan is at its end.
    pub(super) fn is_stale(&mut self, val_loss: f64) -> bool {
        let patience = self.model().plan().training.patience;
        self.best.is_stale(val_loss, patience)
    }

    /// Loss of the first step of the run, and of the last one that was read.
    pub(super) fn losses(&self) -> (Option<f64>, Option<f64>) {
        (self.monitor.first, self.monitor.last.map(|(_, loss)| loss))
    }

    /// The model as the last step left it.
    ///
    /// # Panics
    /// If a step panicked.
    pub fn model(&self) -> &Model<A, K> {
        self.model.as_ref().expect("only away during a step")
    }

    /// The model with the average of its weights, if the plan has them averaged and there is one.
    pub fn averaged(&self) -> Option<Model<A, K>> {
        let values = self.averages.as_ref()?.values()?;
        Some(with_weights::<A, _>(self.model(), values.clone()))
    }

    /// The run with other weights for those that its steps left, for example their averages; optimizer
    /// and schedule go on from where they are.
    pub fn with_model(self, model: Model<A, K>) -> Self {
        Self { model: Some(model), ..self }
    }

    /// The model as the last step left it, and the end of the run.
    ///
    /// # Panics
    /// If a step panicked.
    pub fn into_model(self) -> Model<A, K> {
        self.model.expect("only away during a step")
    }

    /// How weights are updated.
    pub fn optimizer(&self) -> &OptimizerPlan {
        self.optimizer.plan()
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

/// Says of each weight whether it has a gradient.
struct Freeze<I>(I);

impl<A: AutodiffBackend, I: Iterator<Item = bool>> ModuleMapper<A> for Freeze<I> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        param.set_require_grad(self.0.next().expect("one for each weight"))
    }
}
