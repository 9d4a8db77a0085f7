//! `mamba` (also `legacy_mamba`): a gated moving average over time.
//!
//! ```text
//! z, u = halves of x·in_proj
//! h = scan(u·conv_w, σ(scan_decay)),  h_t = g ⊙ h_{t−1} + (1 − g) ⊙ u_t
//! x ← x + (h ⊙ silu(z))·out_proj
//! ```
//!
//! Named after Mamba (Gu and Dao, 2023), whose gated frame it keeps. Unlike there nothing is
//! selective: the decay `g` of a channel is learned and the same for every token, and the state has
//! one number a channel.
//!
//! Kept from mixlab 0.10.1: there is no norm; `conv_w` is a dense matrix over channels that mixes no
//! time steps; decays start at one half.
//!
//! ```json
//! {"type": "mamba", "inner_dim": 96}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, gated};

use super::{Block, Flow, Scope, Time, matrix, sigmoid, zeros};
use crate::config::{BlockSpec, Reported};

/// Options of a `mamba` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Stream width `D`.
    pub dim: usize,
    /// Width of the state, `I`.
    pub inner: usize,
}

/// Weights of a `mamba` block.
#[derive(Module, Debug)]
pub struct MambaWeights<B: Backend> {
    /// `[D, 2I]`: gate, then input of the scan.
    pub in_proj: Param<Tensor<B, 2>>,
    /// `[I, I]`.
    pub conv_w: Param<Tensor<B, 2>>,
    /// `[I, D]`.
    pub out_proj: Param<Tensor<B, 2>>,
    /// `[I]`, zeros: the decays before the sigmoid.
    pub scan_decay: Param<Tensor<B, 1>>,
}

impl Block for Mamba {
    type Weights<B: Backend> = MambaWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["mamba", "legacy_mamba"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Ok(Self { dim: scope.dim, inner: scope.inner_dim(spec)? })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> MambaWeights<B> {
        let Self { dim, inner } = *self;
        MambaWeights {
            in_proj: matrix([dim, 2 * inner], device),
            conv_w: matrix([inner, inner], device),
            out_proj: matrix([inner, dim], device),
            scan_decay: zeros(inner, device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &MambaWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let (n, inner) = (flow.activation(x.clone()), self.inner);
        let z = flow.linear_part(n.clone(), &w.in_proj, 0..inner);
        let u = flow.linear_part(n, &w.in_proj, inner..2 * inner);
        let u = flow.linear(u, &w.conv_w);
        let h = flow.scan(u, sigmoid(w.scan_decay.val()));
        x + flow.project(gated(Activation::Silu, z, h), &w.out_proj)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{apply, layout_of, plan};

    #[test]
    fn the_state_is_as_wide_as_the_stream_unless_said_otherwise() {
        let of = |json: &str| plan::<Mamba>(json).unwrap();
        assert_eq!(of(r#"{"type": "mamba"}"#), Mamba { dim: 8, inner: 8 });
        assert_eq!(of(r#"{"type": "mamba", "inner_dim": -1}"#), Mamba { dim: 8, inner: 8 });
        assert_eq!(of(r#"{"type": "legacy_mamba", "inner_dim": 6}"#), Mamba { dim: 8, inner: 6 });
    }

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let expected = "in_proj [4, 6], conv_w [3, 3], out_proj [3, 4], scan_decay [3]";
        assert_eq!(layout_of(&Mamba { dim: 4, inner: 3 }), expected);
    }

    #[test]
    fn the_state_halves_with_each_token() {
        // All weights 1: z = u = x, and the decay of one half below makes h_t = h_{t−1}/2 + u_t/2.
        let weight = |name: &str| if name == "scan_decay" { 0.0 } else { 1.0 };
        let y = apply(&Mamba { dim: 1, inner: 1 }, &[vec![[2.0], [1.0], [4.0]]], weight);
        let silu = |z: f32| z / (1.0 + (-z).exp());
        let h = [1.0, 1.0, 2.5];
        for (t, (x, [y])) in [2.0f32, 1.0, 4.0].into_iter().zip(&y[0]).enumerate() {
            let expected = x + h[t] * silu(x);
            assert!((y - expected).abs() < 1e-6, "token {t}: {y} instead of {expected}");
        }
    }
}
