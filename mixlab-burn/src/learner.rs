//! Models in Burn's own `Learner`: batches for it, and what it calls.
//!
//! The optimizer, the schedule of the learning rate, metrics and checkpoints are Burn's here, not
//! those of the config's `training`, which [`train`](crate::train) follows.
//!
//! ```no_run
//! # #[cfg(feature = "cpu")] {
//! use burn::backend::Autodiff;
//! use burn::data::{dataloader::DataLoaderBuilder, dataset::InMemDataset};
//! use burn::optim::AdamWConfig;
//! use burn::train::metric::{LossMetric, PerplexityMetric};
//! use burn::train::{Learner, SupervisedTraining};
//! use burn_flex::Flex;
//! use mixlab_burn::{Plan, learner::RowBatcher};
//!
//! // Rows of T + 1 tokens.
//! let rows: Vec<Vec<i32>> = (0..64).map(|i| (i..i + 9).collect()).collect();
//! let model = Plan::load("model.json")?.init::<Autodiff<Flex>>(&Default::default());
//! let batcher = || RowBatcher::new(42);
//! let train = DataLoaderBuilder::new(batcher()).batch_size(8).build(InMemDataset::new(rows.clone()));
//! let valid = DataLoaderBuilder::new(batcher()).batch_size(8).build(InMemDataset::new(rows));
//! let learned = SupervisedTraining::new("run", train, valid)
//!     .metrics((LossMetric::new(), PerplexityMetric::new()))
//!     .num_epochs(2)
//!     .launch(Learner::new(model, AdamWConfig::new().init(), 1e-3));
//! # }
//! # Ok::<(), mixlab_burn::config::ConfigError>(())
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::batcher::Batcher;
use burn::module::{AutodiffModule, ModuleDisplay};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use burn::train::{InferenceStep, SequenceOutput, TrainOutput, TrainStep};
use mixlab_ops::cross_entropy;

use crate::blocks::{Block, DropoutKey};
use crate::model::{Model, Network, Tokens};

/// Rows of tokens and of those that follow, on a device.
#[derive(Clone, Debug)]
pub struct RowBatch<B: Backend> {
    /// What the model reads, `[B, T]`.
    pub tokens: Tokens<B>,
    /// The token after each of them, `[B, T]`.
    pub targets: Tensor<B, 2, Int>,
    /// The key of dropout in a step of training; none for a step without.
    pub key: Option<DropoutKey>,
}

/// Makes batches of rows of `T + 1` tokens, and numbers them for dropout.
#[derive(Debug)]
pub struct RowBatcher {
    seed: u64,
    made: AtomicUsize,
}

impl RowBatcher {
    /// A batcher whose dropout depends on `seed` and on how many batches it has made. (With several
    /// workers the batch that gets a number is not always the same.)
    pub fn new(seed: u64) -> Self {
        Self { seed, made: AtomicUsize::new(0) }
    }
}

impl<B: Backend> Batcher<B, Vec<i32>, RowBatch<B>> for RowBatcher {
    /// # Panics
    /// If rows differ in length, or have less than two tokens.
    fn batch(&self, rows: Vec<Vec<i32>>, device: &B::Device) -> RowBatch<B> {
        let width = rows.first().map_or(0, Vec::len);
        if let Some(row) = rows.iter().find(|row| row.len() != width || width < 2) {
            panic!(
                "a row of `{}` tokens in a batch of rows of `{width}`: all need as many, at least 2",
                row.len()
            );
        }
        let data = TensorData::new(rows.concat(), [rows.len(), width]);
        let all = Tensor::<B, 2, Int>::from_data(data, device);
        let step = self.made.fetch_add(1, Ordering::Relaxed);
        RowBatch {
            tokens: all.clone().narrow(1, 0, width - 1).into(),
            targets: all.narrow(1, 1, width - 1),
            key: Some(DropoutKey { seed: self.seed, step, row: 0 }),
        }
    }
}

impl<B: mixlab_ops::Backend, K: Block> Model<B, K> {
    /// Mean loss in nats and logits `[B, T, V]`; with dropout if there is a key for it.
    fn output(&self, batch: RowBatch<B>, key: Option<DropoutKey>) -> SequenceOutput<B> {
        let RowBatch { tokens, targets, .. } = batch;
        let [rows, columns] = targets.dims();
        let logits = self.logits(self.hidden(tokens, key));
        let loss = cross_entropy(logits.clone(), targets.clone().flatten(0, 1)).mean();
        let vocab = logits.dims()[1];
        SequenceOutput::new(loss, logits.reshape([rows, columns, vocab]), None, targets)
    }
}

impl<A, K> TrainStep for Network<A, K::Weights<A>, K>
where
    A: AutodiffBackend + mixlab_ops::Backend,
    K: Block,
    K::Weights<A>: AutodiffModule<A, InnerModule: ModuleDisplay>,
{
    type Input = RowBatch<A>;
    type Output = SequenceOutput<A>;

    fn step(&self, batch: RowBatch<A>) -> TrainOutput<SequenceOutput<A>> {
        let key = batch.key;
        let output = self.output(batch, key);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<B: mixlab_ops::Backend, K: Block> InferenceStep for Network<B, K::Weights<B>, K> {
    type Input = RowBatch<B>;
    type Output = SequenceOutput<B>;

    fn step(&self, batch: RowBatch<B>) -> SequenceOutput<B> {
        self.output(batch, None)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
