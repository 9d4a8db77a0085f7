//! `perceiver`: a few latents read the row, exchange what they found, and are read by the row.
//!
//! ```text
//! l = latent_init, one copy a batch row                                    [B·L, D]
//! l ← l + attend(l, x; *_cross)
//! l ← l + attend(l, l; *_self)      masked, with rotated queries and keys
//! x ← x + attend(x, l; *_broad)
//! x ← x + silu(x·ff1)·ff2
//! attend(a, b) = merge( softmax(heads(a·wq)·heads(b·wk)ᵀ / √hd)·heads(b·wv) )·wo
//! ```
//!
//! Named after Perceiver (Jaegle et al., 2021); the way back is the decoder of Perceiver IO (Jaegle
//! et al., 2021). Unlike there, there are no norms, and the latents' own attention is masked: each
//! latent sees those before it.
//!
//! Kept from mixlab 0.10.1: the latents see the whole row, so *every position sees the future*, and
//! the loss is not that of a language model (a config with this block gets a warning);
//! `latent_init` starts and is trained like any matrix; the feed-forward tail is `2D` wide
//! whatever `mlp_mult` is.
//!
//! ```json
//! {"type": "perceiver", "heads": 4, "num_latents": 16}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

use super::attend::Attend;
use super::{Block, Flow, Scope, Time, matrix};
use crate::config::{BlockSpec, Reported};

/// Options of a `perceiver` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Perceiver {
    /// Stream width `D`.
    pub dim: usize,
    /// Heads `H` of all three attentions.
    pub heads: usize,
    /// Number of latents, `L`.
    pub latents: usize,
}

/// Weights of a `perceiver` block.
#[derive(Module, Debug)]
pub struct PerceiverWeights<B: Backend> {
    /// `[L, D]`.
    pub latent_init: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wq_cross: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk_cross: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv_cross: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wo_cross: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wq_self: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk_self: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv_self: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wo_self: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wq_broad: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk_broad: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv_broad: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wo_broad: Param<Tensor<B, 2>>,
    /// `[D, 2D]`.
    pub ff1: Param<Tensor<B, 2>>,
    /// `[2D, D]`.
    pub ff2: Param<Tensor<B, 2>>,
}

/// Latents of a `perceiver` when a config gives none.
const DEFAULT_LATENTS: usize = 32;

impl Block for Perceiver {
    type Weights<B: Backend> = PerceiverWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["perceiver"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Self::with_default(DEFAULT_LATENTS, spec, scope)
    }

    fn time(&self) -> Time {
        Time::Whole
    }

    fn heads(&self) -> Option<usize> {
        Some(self.heads)
    }

    fn init<B: Backend>(&self, device: &B::Device) -> PerceiverWeights<B> {
        let dim = self.dim;
        let square = || matrix([dim, dim], device);
        PerceiverWeights {
            latent_init: matrix([self.latents, dim], device),
            wq_cross: square(),
            wk_cross: square(),
            wv_cross: square(),
            wo_cross: square(),
            wq_self: square(),
            wk_self: square(),
            wv_self: square(),
            wo_self: square(),
            wq_broad: square(),
            wk_broad: square(),
            wv_broad: square(),
            wo_broad: square(),
            ff1: matrix([dim, 2 * dim], device),
            ff2: matrix([2 * dim, dim], device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &PerceiverWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let [cross, own, broad] = w.attentions(self.heads);
        let l = w.latent_init.val().expand::<3, _>([flow.batch, self.latents, self.dim]);
        let l = l.reshape([flow.batch * self.latents, self.dim]);
        let l = l.clone() + cross.full(l, x.clone(), flow);
        let l = l.clone() + own.causal(l, flow);
        let x = x.clone() + broad.full(x, l, flow);
        let n = flow.activation(x.clone());
        x + flow.project(activate(Activation::Silu, flow.linear(n, &w.ff1)), &w.ff2)
    }
}

impl Perceiver {
    /// Reads the options; `latents` is the number of latents if the config gives none.
    pub(super) fn with_default(
        latents: usize,
        spec: &BlockSpec,
        scope: &mut Scope<'_>,
    ) -> Result<Self, Reported> {
        let heads = scope.rotary_heads(spec)?;
        let given = spec.num_latents.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let each = scope.batch.max(1) * scope.dim;
        let latents = scope.size("num_latents", given.unwrap_or(latents), each)?;
        Ok(Self { dim: scope.dim, heads, latents })
    }
}

impl<B: Backend> PerceiverWeights<B> {
    /// Latents over the row, latents over latents, the row over latents.
    fn attentions(&self, heads: usize) -> [Attend<'_, B>; 3] {
        let Self { wq_cross, wk_cross, wv_cross, wo_cross, .. } = self;
        let Self { wq_self, wk_self, wv_self, wo_self, .. } = self;
        let Self { wq_broad, wk_broad, wv_broad, wo_broad, .. } = self;
        [
            Attend { wq: wq_cross, wk: wk_cross, wv: wv_cross, wo: wo_cross, heads },
            Attend { wq: wq_self, wk: wk_self, wv: wv_self, wo: wo_self, heads },
            Attend { wq: wq_broad, wk: wk_broad, wv: wv_broad, wo: wo_broad, heads },
        ]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{apply_with, errors, layout_of, plan};

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let expected = "latent_init [3, 4], wq_cross [4, 4], wk_cross [4, 4], wv_cross [4, 4], \
            wo_cross [4, 4], wq_self [4, 4], wk_self [4, 4], wv_self [4, 4], wo_self [4, 4], \
            wq_broad [4, 4], wk_broad [4, 4], wv_broad [4, 4], wo_broad [4, 4], ff1 [4, 8], \
            ff2 [8, 4]";
        assert_eq!(layout_of(&Perceiver { dim: 4, heads: 2, latents: 3 }), expected);
    }

    #[test]
    fn it_has_32_latents_unless_a_positive_number_is_given() {
        for (latents, expected) in
            [("", 32), (r#", "num_latents": -1"#, 32), (r#", "num_latents": 5"#, 5)]
        {
            let json = format!(r#"{{"type": "perceiver", "heads": 2{latents}}}"#);
            assert_eq!(plan::<Perceiver>(&json).unwrap().latents, expected);
        }
    }

    #[test]
    fn heads_of_odd_width_cannot_rotate() {
        let json = r#"{"type": "perceiver", "heads": 8}"#;
        let message = "blocks[0].heads: head width `1` is odd, and rotation needs pairs";
        assert_eq!(errors::<Perceiver>(json), [message]);
    }

    #[test]
    fn latents_with_equal_scores_hand_back_the_mean_of_the_row() {
        // Zero query and key weights make all attention uniform; identities elsewhere. Each latent
        // then is the mean of the row, and twice that after its own attention.
        let block = Perceiver { dim: 2, heads: 1, latents: 2 };
        let identity = |name: &str| name.starts_with("wv") || name.starts_with("wo");
        let weights =
            |name: &str, at: usize| if identity(name) && at.is_multiple_of(3) { 1.0 } else { 0.0 };
        let y = apply_with(&block, &[vec![[1.0, 2.0], [3.0, 6.0], [2.0, 1.0]]], weights);
        assert_eq!(y, [[[5.0, 8.0], [7.0, 12.0], [6.0, 7.0]]]);
    }
}
