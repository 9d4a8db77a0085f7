//! `swiglu`: a gated feed-forward layer (Shazeer, 2020, "GLU Variants Improve Transformer").
//!
//! ```text
//! n = RMS(x; ffn_norm_scale)
//! x ← x + drop( ((σ(n·w_gate) ⊙ (n·w_up))·w_down) [⊙ mlp_scale] )
//! ```
//!
//! Differs from the paper's SwiGLU in its gate, which is the plain sigmoid of a GLU, as in mixlab
//! 0.10.1; the name is kept so that configs keep their meaning. Under `parallel_residual` `n` is that
//! of the `plain` block before, and there is no `ffn_norm_scale`.
//!
//! ```json
//! {"type": "swiglu"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, gated};

use super::{Block, Flow, Scope, Time, matrix, ones, scaled};
use crate::config::{BlockSpec, Reported};

/// Options of a `swiglu` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Swiglu {
    /// Stream width `D`.
    pub dim: usize,
    /// Hidden width `F`.
    pub ffn: usize,
    /// Whether the normed stream is that of the block before.
    pub parallel: bool,
    /// Whether the branch ends in a learned scale.
    pub block_scales: bool,
    /// Dropout rate of the branch.
    pub dropout: f32,
}

/// Weights of a `swiglu` block.
#[derive(Module, Debug)]
pub struct SwigluWeights<B: Backend> {
    /// `[D]`, ones; unless the norm is that of the block before.
    pub ffn_norm_scale: Option<Param<Tensor<B, 1>>>,
    /// `[D, F]`.
    pub w_gate: Param<Tensor<B, 2>>,
    /// `[D, F]`.
    pub w_up: Param<Tensor<B, 2>>,
    /// `[F, D]`.
    pub w_down: Param<Tensor<B, 2>>,
    /// `[D]`, ones; with `block_scales`.
    pub mlp_scale: Option<Param<Tensor<B, 1>>>,
}

impl Block for Swiglu {
    type Weights<B: Backend> = SwigluWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["swiglu"]
    }

    fn plan(_: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let Scope { dim, ffn, parallel, block_scales, dropout, .. } = *scope;
        Ok(Self { dim, ffn, parallel, block_scales, dropout })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn needs(&self) -> Option<String> {
        self.parallel.then(|| "the norm of the block before it (`parallel_residual`)".into())
    }

    fn init<B: Backend>(&self, device: &B::Device) -> SwigluWeights<B> {
        SwigluWeights {
            ffn_norm_scale: (!self.parallel).then(|| ones(self.dim, device)),
            w_gate: matrix([self.dim, self.ffn], device),
            w_up: matrix([self.dim, self.ffn], device),
            w_down: matrix([self.ffn, self.dim], device),
            mlp_scale: self.block_scales.then(|| ones(self.dim, device)),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &SwigluWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = match &w.ffn_norm_scale {
            Some(scale) => flow.norm(x.clone(), scale),
            None => flow.shared_norm(),
        };
        let (gate, up) = (flow.linear(n.clone(), &w.w_gate), flow.linear(n, &w.w_up));
        let y = flow.project(gated(Activation::Sigmoid, gate, up), &w.w_down);
        x + flow.dropout(scaled(y, &w.mlp_scale), self.dropout)
    }
}
