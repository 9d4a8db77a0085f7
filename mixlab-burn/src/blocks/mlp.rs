//! `mlp`: a feed-forward layer with one hidden activation.
//!
//! ```text
//! n = RMS(x; ffn_norm_scale)
//! x ← x + act(n·w_up)·w_down
//! ```
//!
//! `activation` is `silu` (default), `gelu` (tanh form), `relu`, or `leaky_relu_sq` (the square of a
//! leaky ReLU with slope `leaky_slope`, default 0.5; So et al., 2021, "Primer", square a plain ReLU).
//! `block_scales` and `dropout` do not act on this block, as in mixlab 0.10.1.
//!
//! ```json
//! {"type": "mlp", "activation": "gelu"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

use super::{Block, Flow, Scope, Time, matrix, ones};
use crate::config::{BlockSpec, Reported};

/// Options of an `mlp` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// Stream width `D`.
    pub dim: usize,
    /// Hidden width `F`.
    pub ffn: usize,
    /// Hidden activation.
    pub activation: Activation,
}

/// Weights of an `mlp` block.
#[derive(Module, Debug)]
pub struct MlpWeights<B: Backend> {
    /// `[D]`, ones.
    pub ffn_norm_scale: Param<Tensor<B, 1>>,
    /// `[D, F]`.
    pub w_up: Param<Tensor<B, 2>>,
    /// `[F, D]`.
    pub w_down: Param<Tensor<B, 2>>,
}

/// Slope of `leaky_relu_sq` when none, or 0, is given.
const DEFAULT_SLOPE: f32 = 0.5;

impl Block for Mlp {
    type Weights<B: Backend> = MlpWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["mlp"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let slope = spec.leaky_slope.unwrap_or(0.0);
        let activation = match spec.activation.as_deref().unwrap_or("silu") {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "leaky_relu_sq" if slope == 0.0 => {
                if spec.leaky_slope.is_some() {
                    scope.warn("leaky_slope", "`0` means the default, `0.5`");
                }
                Activation::LeakyReluSquared { slope: DEFAULT_SLOPE }
            }
            "leaky_relu_sq" => Activation::LeakyReluSquared { slope },
            _ => Activation::Silu,
        };
        Ok(Self { dim: scope.dim, ffn: scope.ffn, activation })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> MlpWeights<B> {
        MlpWeights {
            ffn_norm_scale: ones(self.dim, device),
            w_up: matrix([self.dim, self.ffn], device),
            w_down: matrix([self.ffn, self.dim], device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &MlpWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.norm(x.clone(), &w.ffn_norm_scale);
        x + flow.project(activate(self.activation, flow.linear(n, &w.w_up)), &w.w_down)
    }
}
