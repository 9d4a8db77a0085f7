//! Blocks: what a model is a stack of. One file each, registered by one line of
//! [`blocks!`](crate::blocks!).
//!
//! A block is a *config* — a plain struct of validated options that implements [`Block`] — and a
//! Burn module of *weights* whose field names, order and shapes are the names, order and shapes in
//! weight files. The config's `forward` takes the weights as an argument, because blocks may share
//! one set of weights and still differ in their options.
//!
//! [`blocks!`](crate::blocks!) makes one block type out of several, and the result is a [`Block`] again: a
//! downstream crate adds its own to the built-in ones by naming [`Builtin`] as a variant.

mod attend;
mod context;
mod param;
mod scope;
#[cfg(all(test, feature = "cpu"))]
pub(crate) mod testing;

pub mod bottleneck;
pub mod cross_attention;
pub mod custom;
pub mod mamba;
pub mod mamba3;
pub mod mlp;
pub mod perceiver;
pub mod plain;
pub mod retnet;
pub mod rwkv;
pub mod swiglu;
pub mod token_blend;

use std::any::Any;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::config::{BlockSpec, Reported};

pub(crate) use context::label;
pub use context::{DropoutKey, Flow, KeyValue, Memory, State, Time};
pub use param::{constant, matrix, ones, zeros};
pub(crate) use param::{scaled, sigmoid};
pub use scope::Scope;

/// Added to the mean square of every RMS norm.
pub const NORM_EPS: f32 = 1e-5;

/// Base of the wavelengths of rotary positions.
pub(crate) const ROPE_BASE: f32 = 10000.0;

/// The options of one block, as a plan holds them.
pub trait Block: Clone + core::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The block's parameters; field order is the order in weight files.
    type Weights<B: Backend>: Module<B> + ModuleDisplay;

    /// The JSON `type` names that this block answers to, lower case.
    fn types() -> Vec<&'static str>;

    /// Reads and checks the options.
    ///
    /// # Errors
    /// With what [`Scope::error`] returns, which knows the place: nothing fails without a report.
    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported>;

    /// The options as their own type: a set of block types hands out the one it holds.
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// How the block uses time: there is no safe guess.
    fn time(&self) -> Time;

    /// What in the block reads later positions, where that needs saying.
    fn looks_ahead(&self) -> Option<String> {
        None
    }

    /// What the block reads besides the stream that enters it, if anything: then it cannot be a
    /// module of its own ([`Plan::block`](crate::plan::Plan::block)).
    fn needs(&self) -> Option<String> {
        None
    }

    /// Whether the block can run on rows of `seq` tokens; with the length of its plan it can.
    ///
    /// # Errors
    /// With what does not fit.
    fn supports(&self, seq: usize) -> Result<(), String> {
        let _ = seq;
        Ok(())
    }

    /// The number of heads, if it has some: blocks of one weight group must have equally many.
    fn heads(&self) -> Option<usize> {
        None
    }

    /// Fresh weights: vectors at their start values, matrices still to be drawn.
    fn init<B: Backend>(&self, device: &B::Device) -> Self::Weights<B>;

    /// The weights with matrices drawn, if they are to start as they were drawn; a block in which one
    /// starts otherwise replaces it.
    fn drawn<B: Backend>(&self, weights: Self::Weights<B>) -> Self::Weights<B> {
        weights
    }

    /// Applies the block to the residual stream `x` `[N, D]`, rows in batch-major order.
    fn forward<B: mixlab_ops::Backend>(
        &self,
        weights: &Self::Weights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2>;
}

/// Makes one block type of several: an enum of their configs, an enum of their weights, and the
/// [`Block`] implementation that dispatches between them. [`Block`] must be in scope.
///
/// ```
/// # #[cfg(feature = "cpu")] {
/// use burn::module::{Module, Param};
/// use burn::tensor::{Int, Tensor, backend::Backend};
/// use mixlab_burn::blocks::{Block, Builtin, Flow, Scope, Time, ones};
/// use mixlab_burn::config::{BlockSpec, Reported};
/// use mixlab_burn::{ops, plan::Plan};
///
/// /// `x ← gain ⊙ x`
/// #[derive(Clone, Debug, PartialEq)]
/// struct Gain {
///     dim: usize,
/// }
///
/// #[derive(Module, Debug)]
/// struct GainWeights<B: Backend> {
///     gain: Param<Tensor<B, 1>>,
/// }
///
/// impl Block for Gain {
///     type Weights<B: Backend> = GainWeights<B>;
///
///     fn types() -> Vec<&'static str> {
///         vec!["gain"]
///     }
///
///     fn plan(_: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
///         Ok(Self { dim: scope.dim })
///     }
///
///     fn time(&self) -> Time {
///         Time::Streaming
///     }
///
///     fn init<B: Backend>(&self, device: &B::Device) -> GainWeights<B> {
///         GainWeights { gain: ones(self.dim, device) }
///     }
///
///     fn forward<B: ops::Backend>(
///         &self,
///         w: &GainWeights<B>,
///         x: Tensor<B, 2>,
///         _: &mut Flow<B>,
///     ) -> Tensor<B, 2> {
///         x * w.gain.val().unsqueeze()
///     }
/// }
///
/// mixlab_burn::blocks! {
///     /// The built-in blocks and mine.
///     Blocks, BlocksWeights {
///         Builtin: Builtin,
///         Gain: Gain,
///     }
/// }
///
/// let json = r#"{"model_dim": 8, "vocab_size": 9, "seq_len": 4,
///                "blocks": [{"type": "gain"}, {"type": "swiglu"}]}"#;
/// let plan = Plan::<Blocks>::parse(json, "example.json", &[])?.plan;
/// let device = Default::default();
/// let model = plan.init::<burn_flex::Flex>(&device);
/// let ids = Tensor::<burn_flex::Flex, 2, Int>::from_ints([[1, 2, 3, 4]], &device);
/// assert_eq!(model.forward(ids).dims(), [4, 9]);
/// # }
/// # Ok::<(), mixlab_burn::config::ConfigError>(())
/// ```
#[macro_export]
macro_rules! blocks {
    ($(#[$doc:meta])* $vis:vis $set:ident, $weights:ident { $($variant:ident: $config:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        $vis enum $set {
            $(#[doc = concat!("See [`", stringify!($config), "`].")] $variant($config)),+
        }

        #[doc = concat!("The weights of one [`", stringify!($set), "`].")]
        #[derive(burn::module::Module, Debug)]
        $vis enum $weights<B: burn::tensor::backend::Backend> {
            $(#[doc = concat!("Weights of [`", stringify!($config), "`].")]
            $variant(<$config as Block>::Weights<B>)),+
        }

        impl $crate::blocks::Block for $set {
            type Weights<B: burn::tensor::backend::Backend> = $weights<B>;

            fn types() -> Vec<&'static str> {
                [$(<$config as $crate::blocks::Block>::types()),+].concat()
            }

            fn plan(
                spec: &$crate::config::BlockSpec,
                scope: &mut $crate::blocks::Scope<'_>,
            ) -> Result<Self, $crate::config::Reported> {
                $(if <$config as $crate::blocks::Block>::types().contains(&spec.kind.as_str()) {
                    return <$config as $crate::blocks::Block>::plan(spec, scope).map(Self::$variant);
                })+
                Err(scope.unknown_type(&spec.kind, &Self::types()))
            }

            fn as_any(&self) -> &dyn std::any::Any {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::as_any(config)),+
                }
            }

            fn time(&self) -> $crate::blocks::Time {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::time(config)),+
                }
            }

            fn looks_ahead(&self) -> Option<String> {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::looks_ahead(config)),+
                }
            }

            fn needs(&self) -> Option<String> {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::needs(config)),+
                }
            }

            fn supports(&self, seq: usize) -> Result<(), String> {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::supports(config, seq)),+
                }
            }

            fn heads(&self) -> Option<usize> {
                match self {
                    $(Self::$variant(config) => $crate::blocks::Block::heads(config)),+
                }
            }

            fn init<B: burn::tensor::backend::Backend>(&self, device: &B::Device) -> $weights<B> {
                match self {
                    $(Self::$variant(config) => {
                        $weights::$variant($crate::blocks::Block::init(config, device))
                    })+
                }
            }

            fn drawn<B: burn::tensor::backend::Backend>(
                &self,
                weights: $weights<B>,
            ) -> $weights<B> {
                match (self, weights) {
                    $((Self::$variant(config), $weights::$variant(weights)) => {
                        $weights::$variant($crate::blocks::Block::drawn(config, weights))
                    })+
                    #[allow(unreachable_patterns)]
                    _ => unreachable!("a plan pairs each block with weights of its own type"),
                }
            }

            fn forward<B: $crate::ops::Backend>(
                &self,
                weights: &$weights<B>,
                x: burn::tensor::Tensor<B, 2>,
                flow: &mut $crate::blocks::Flow<B>,
            ) -> burn::tensor::Tensor<B, 2> {
                match (self, weights) {
                    $((Self::$variant(config), $weights::$variant(weights)) => {
                        $crate::blocks::Block::forward(config, weights, x, flow)
                    })+
                    #[allow(unreachable_patterns)]
                    _ => unreachable!("a plan pairs each block with weights of its own type"),
                }
            }
        }
    };
}

blocks! {
    /// The block types that come with this crate.
    pub Builtin, BuiltinWeights {
        Plain: plain::Plain,
        Swiglu: swiglu::Swiglu,
        Mlp: mlp::Mlp,
        Mamba: mamba::Mamba,
        Mamba3: mamba3::Mamba3,
        Retnet: retnet::Retnet,
        Rwkv: rwkv::Rwkv,
        Perceiver: perceiver::Perceiver,
        Bottleneck: bottleneck::Bottleneck,
        CrossAttention: cross_attention::CrossAttention,
        TokenBlend: token_blend::TokenBlend,
        Custom: custom::Custom,
    }
}
