//! `token_blend`: each channel of each token takes a learned share of the token before it.
//!
//! ```text
//! g = σ(x·w_gate)
//! x ← (1 − g) ⊙ x + g ⊙ shift(x)
//! ```
//!
//! `shift` moves each row of the batch one token on and puts zeros before its first token. The idea
//! is the token shift of RWKV (Peng et al., 2023); unlike there, the share depends on the token, as
//! in its later data-dependent form (Peng et al., 2024), and is that of a full matrix.
//!
//! Kept from mixlab 0.10.1: the block has neither a norm nor a residual path, so it replaces the
//! stream.
//!
//! ```json
//! {"type": "token_blend"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

use super::{Block, Flow, Scope, Time, matrix};
use crate::config::{BlockSpec, Reported};

/// Options of a `token_blend` block.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBlend {
    /// Stream width `D`.
    pub dim: usize,
}

/// Weights of a `token_blend` block.
#[derive(Module, Debug)]
pub struct TokenBlendWeights<B: Backend> {
    /// `[D, D]`.
    pub w_gate: Param<Tensor<B, 2>>,
}

impl Block for TokenBlend {
    type Weights<B: Backend> = TokenBlendWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["token_blend"]
    }

    fn plan(_: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Ok(Self { dim: scope.dim })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> TokenBlendWeights<B> {
        TokenBlendWeights { w_gate: matrix([self.dim, self.dim], device) }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &TokenBlendWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.activation(x.clone());
        let g = activate(Activation::Sigmoid, flow.project(n, &w.w_gate));
        x.clone() * (-g.clone() + 1.0) + g * flow.shift(x)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{apply, layout_of};

    #[test]
    fn a_row_starts_with_a_share_of_nothing() {
        let block = TokenBlend { dim: 2 };
        // Zero weights make every share one half.
        let rows = [vec![[1.0, 2.0], [3.0, 6.0]], vec![[8.0, 4.0], [0.0, 2.0]]];
        let expected = [[[0.5, 1.0], [2.0, 4.0]], [[4.0, 2.0], [4.0, 3.0]]];
        assert_eq!(apply(&block, &rows, |_| 0.0), expected);
    }

    #[test]
    fn its_only_weight_is_the_gate() {
        assert_eq!(layout_of(&TokenBlend { dim: 3 }), "w_gate [3, 3]");
    }
}
