//! Training on what is evaluated: the losses of a batch, with steps on it before or after.
//!
//! A number that comes of `lora` is of tokens that the adapters have seen: it says how well they fit a
//! batch, not how well the model predicts.

mod lora;

use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use mixlab_ops::Backend;

use super::{TrainError, Trainer};
use crate::blocks::{Block, DropoutKey};
use crate::data::Batch;
use crate::model::Model;
use crate::plan::{Qat, TestTime, TestTimeMode};
use crate::random::Generator;

pub use lora::Adapters;

/// A model that is trained on each batch that it scores, by the rule of its plan.
///
/// ```
/// # #[cfg(feature = "cpu")] {
/// # use std::sync::Arc;
/// # use burn::backend::Autodiff;
/// # use burn_flex::Flex;
/// # use mixlab_burn::data::Batch;
/// # use mixlab_burn::{model::Model, plan::Plan, train::{TestTimeTraining, Trainer}};
/// # let json = r#"{"model_dim": 16, "vocab_size": 32, "seq_len": 8,
/// #     "blocks": [{"type": "plain", "heads": 2}],
/// #     "training": {"batch_tokens": 16, "ttt_steps": 2, "ttt_lr": 1e-3}}"#;
/// # let plan = Arc::new(Plan::parse(json, "example.json", &[])?.plan);
/// # let device = Default::default();
/// # let tokens: Vec<u16> = (0..17).collect();
/// let model: Model<Autodiff<Flex>> = Model::init(plan.clone(), &device);
/// let rule = plan.training.ttt.expect("the config asks for it");
/// let mut evaluation = TestTimeTraining::new(Trainer::new(model, &device), rule);
/// let losses = evaluation.losses(&Batch::from_tokens(&tokens, plan.seq_len)?)?;
/// assert_eq!(losses.len(), 16);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestTimeTraining<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> {
    trainer: Trainer<A, K>,
    rule: TestTime,
    /// Fake quantization, as training left it.
    qat: Option<Qat>,
    /// Where adapters start.
    generator: Generator,
}

impl<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> TestTimeTraining<A, K> {
    /// Goes on from `trainer`, whose optimizer takes the steps of `full`.
    pub fn new(trainer: Trainer<A, K>, rule: TestTime) -> Self {
        let last = trainer.steps().saturating_sub(1);
        let training = &trainer.model().plan().training;
        let qat = training.qat.filter(|qat| last >= qat.start);
        let generator = Generator::new(training.seed);
        Self { trainer, rule, qat, generator }
    }

    /// The loss of each token of `batch` in nats, row by row.
    ///
    /// # Errors
    /// If the batch does not fit the model, or training on it breaks down.
    pub fn losses(&mut self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        let plan = self.trainer.model().plan();
        batch.check(plan.seq_len, plan.vocab)?;
        match self.rule.mode {
            TestTimeMode::Full => {
                let losses = scored(self.trainer.model(), batch, self.trainer.device());
                for _ in 0..self.rule.steps {
                    self.trainer.step_at(batch.clone(), self.rule.lr, self.qat)?;
                }
                self.trainer.read()?;
                Ok(losses)
            }
            TestTimeMode::Lora { rank } => {
                let plan = self.trainer.optimizer();
                let start = Adapters::drawn(plan, rank, &mut self.generator, self.trainer.device());
                let adapters = self.adapted(batch, start);
                let model = adapters.on(self.trainer.model());
                Ok(scored(&model, batch, self.trainer.device()))
            }
        }
    }

    /// Mean loss of all tokens of `batches` in nats, one after the other.
    ///
    /// # Errors
    /// As [`TestTimeTraining::losses`].
    pub fn mean_loss(&mut self, batches: &[Batch]) -> Result<f64, TrainError> {
        let (mut sum, mut count) = (0.0, 0);
        for batch in batches {
            let losses = self.losses(batch)?;
            sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            count += losses.len();
        }
        Ok(sum / count as f64)
    }

    /// The adapters that `start` becomes by the steps of the rule on `batch`; the model stays as it is.
    pub fn adapted(
        &self,
        batch: &Batch,
        mut start: Adapters<A::InnerBackend>,
    ) -> Adapters<A::InnerBackend> {
        let model = self.trainer.model();
        let seed = model.plan().training.seed as u64;
        for step in 0..self.rule.steps {
            let adapted = start.on(model);
            let (tokens, targets) = model.upload(batch.clone(), self.trainer.device());
            let key = Some(DropoutKey { seed, step, row: 0 });
            let mut grads = adapted.loss(tokens, targets, key).backward();
            start.step::<A, _>(&adapted, &mut grads, self.rule.lr);
        }
        start
    }

    /// The model as the last batch left it.
    pub fn model(&self) -> &Model<A, K> {
        self.trainer.model()
    }

    /// The run that this went on from, with the steps taken since.
    pub fn into_trainer(self) -> Trainer<A, K> {
        self.trainer
    }
}

/// The loss of each token, without dropout.
fn scored<B: Backend, K: Block>(
    model: &Model<B, K>,
    batch: &Batch,
    device: &B::Device,
) -> Vec<f32> {
    let model = model.clone().no_grad();
    let (tokens, targets) = model.upload(batch.clone(), device);
    let losses = model.losses(tokens, targets, None).into_data().convert::<f32>();
    losses.into_vec().expect("converted to f32 above")
}
