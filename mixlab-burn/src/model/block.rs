//! One block as a module of its own, for models that are made of other things too.

use core::marker::PhantomData;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Distribution, Tensor, backend::Backend};
use mixlab_ops::Precision;

use super::format;
use crate::blocks::{Block, Builtin, DropoutKey, Flow};
use crate::config::ConfigError;
use crate::plan::Plan;
use crate::weights::WeightInit;

/// A block with weights `W`, and how it runs. Name it through [`BlockModule`].
#[derive(Module, Debug)]
pub struct BlockWeights<B: Backend, W: Module<B>, K: Sync> {
    /// Its weights, under the names that they have in weight files.
    pub weights: W,
    #[module(skip)]
    block: K,
    #[module(skip)]
    precision: Option<Precision>,
    #[module(skip)]
    dim: usize,
    backend: PhantomData<B>,
}

/// One block of type `K` on backend `B`, as a field of anybody's module.
///
/// Its parameters are drawn at their first use, from the random numbers of the device as those of
/// Burn's own layers are: `B::seed` repeats them. (A whole [`Model`](super::Model) draws its own from
/// the seed of its plan.)
///
/// ```
/// # #[cfg(feature = "cpu")] {
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Tensor, backend::Backend};
/// use mixlab_burn::{BlockModule, ops};
///
/// #[derive(Module, Debug)]
/// struct Mine<B: Backend> {
///     project: Linear<B>,
///     block: BlockModule<B>,
/// }
///
/// impl<B: ops::Backend> Mine<B> {
///     /// `[B, T, 4]` to `[B, T, 8]`.
///     fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
///         self.block.forward(self.project.forward(x))
///     }
/// }
///
/// let device = Default::default();
/// let mine = Mine::<burn_flex::Flex> {
///     project: LinearConfig::new(4, 8).init(&device),
///     block: BlockModule::from_json(r#"{"type": "plain", "heads": 2}"#, 8, &device)?,
/// };
/// assert_eq!(mine.forward(Tensor::ones([2, 5, 4], &device)).dims(), [2, 5, 8]);
/// # }
/// # Ok::<(), mixlab_burn::config::ConfigError>(())
/// ```
pub type BlockModule<B, K = Builtin> = BlockWeights<B, <K as Block>::Weights<B>, K>;

impl<B: Backend> BlockModule<B> {
    /// A block for a stream of width `dim` from its JSON object, as it stands in the `blocks` of a
    /// config; what a config says beside its blocks has its default. [`Plan::block`] is for a block of
    /// a whole config, and of any set of block types.
    ///
    /// # Errors
    /// All mistakes at once, each with its line and the way out. One is a block that reads more than
    /// the stream that enters it: keys of another block, a stream of another, or the embedding.
    pub fn from_json(json: &str, dim: usize, device: &B::Device) -> Result<Self, ConfigError> {
        Plan::of_block(json, dim)?.block(0, device)
    }
}

impl<B: Backend, K: Block> BlockModule<B, K> {
    /// The block of a plan, with weights that are still to be drawn.
    pub(crate) fn new(plan: &Plan<K>, block: &K, device: &B::Device) -> Self {
        Self {
            weights: block.drawn(block.init::<B>(device).map(&mut Draw(plan.training.weight_init))),
            block: block.clone(),
            precision: plan.training.precision,
            dim: plan.dim,
            backend: PhantomData,
        }
    }

    /// The block's options.
    pub fn block(&self) -> &K {
        &self.block
    }
}

impl<B: mixlab_ops::Backend, K: Block> BlockModule<B, K> {
    /// The stream `[B, T, D]` after the block. Nothing is dropped.
    ///
    /// # Panics
    /// If `D` is not the width that the block was made for, if there are no rows or no tokens in them,
    /// or if the block cannot run on rows of `T` tokens ([`Block::supports`]).
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.pass(x, None)
    }

    /// [`BlockModule::forward`] in training: with the dropout of the config, if it has some. Blocks
    /// that are to drop different elements need different seeds in their keys.
    ///
    /// # Panics
    /// As [`BlockModule::forward`].
    pub fn forward_with_dropout(&self, x: Tensor<B, 3>, key: DropoutKey) -> Tensor<B, 3> {
        self.pass(x, Some(key))
    }

    fn pass(&self, x: Tensor<B, 3>, key: Option<DropoutKey>) -> Tensor<B, 3> {
        let ([batch, seq, dim], device) = (x.dims(), x.device());
        let width = self.dim;
        assert!(dim == width, "a stream `[{batch}, {seq}, {dim}]` for a block of width `{width}`");
        assert!(batch * seq > 0, "a stream `[{batch}, {seq}, {dim}]` has nothing to run on");
        if let Err(problem) = self.block.supports(seq) {
            panic!("the block cannot run on rows of `{seq}` tokens: {problem}");
        }
        let mut flow = Flow::new(batch, seq);
        flow.dropout_key = key;
        flow.precision = format::precision::<B>(self.precision, &device);
        flow.activations = format::activations::<B>(self.precision, &device);
        let dtype = x.dtype();
        let x = x.reshape([batch * seq, dim]).cast(DType::F32);
        let x = self.block.forward(&self.weights, x, &mut flow);
        x.cast(dtype).reshape([batch, seq, dim])
    }
}

/// Has every matrix drawn by a rule when it is first used.
struct Draw(WeightInit);

impl<B: Backend> ModuleMapper<B> for Draw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let [rows, columns, ..] = param.lazy_shape()[..] else { return param };
        let distribution = match self.0 {
            WeightInit::Normal { std } => Distribution::Normal(0.0, std),
            WeightInit::XavierUniform => {
                let limit = WeightInit::xavier_limit(rows, columns);
                Distribution::Uniform(-limit, limit)
            }
        };
        param.init_mapper(move |zeros| {
            zeros.random_like(distribution).set_require_grad(zeros.is_require_grad())
        })
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
