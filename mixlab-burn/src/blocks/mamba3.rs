//! `mamba3` (also `gated_linear_ssm`): a moving average over time with an input and an output gate.
//!
//! ```text
//! n = RMS(x; norm_scale)
//! u = (n·w_ssm) ⊙ σ(n·w_dt)
//! h = scan(u, σ(scan_decay)),  h_t = g ⊙ h_{t−1} + (1 − g) ⊙ u_t
//! x ← x + (silu(n·w_gate) ⊙ h)·wo
//! ```
//!
//! Named after the line of Mamba models (Gu and Dao, 2023; Dao and Gu, 2024). Unlike there the step
//! size `w_dt` scales the input only: the decay `g` of a channel is learned and the same for every
//! token, and the state has one number a channel.
//!
//! Kept from mixlab 0.10.1: decays start at one half; `scan_decay` comes last in weight files.
//!
//! ```json
//! {"type": "mamba3"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, gated};

use super::{Block, Flow, Scope, Time, matrix, ones, sigmoid, zeros};
use crate::config::{BlockSpec, Reported};

/// Options of a `mamba3` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba3 {
    /// Stream width `D`.
    pub dim: usize,
    /// Width of the state, `I`.
    pub inner: usize,
}

/// Weights of a `mamba3` block.
#[derive(Module, Debug)]
pub struct Mamba3Weights<B: Backend> {
    /// `[D]`, ones.
    pub norm_scale: Param<Tensor<B, 1>>,
    /// `[D, I]`: output gate.
    pub w_gate: Param<Tensor<B, 2>>,
    /// `[D, I]`: input of the scan.
    pub w_ssm: Param<Tensor<B, 2>>,
    /// `[D, I]`: input gate.
    pub w_dt: Param<Tensor<B, 2>>,
    /// `[I, D]`.
    pub wo: Param<Tensor<B, 2>>,
    /// `[I]`, zeros: the decays before the sigmoid.
    pub scan_decay: Param<Tensor<B, 1>>,
}

impl Block for Mamba3 {
    type Weights<B: Backend> = Mamba3Weights<B>;

    fn types() -> Vec<&'static str> {
        vec!["mamba3", "gated_linear_ssm"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Ok(Self { dim: scope.dim, inner: scope.inner_dim(spec)? })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> Mamba3Weights<B> {
        let Self { dim, inner } = *self;
        Mamba3Weights {
            norm_scale: ones(dim, device),
            w_gate: matrix([dim, inner], device),
            w_ssm: matrix([dim, inner], device),
            w_dt: matrix([dim, inner], device),
            wo: matrix([inner, dim], device),
            scan_decay: zeros(inner, device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &Mamba3Weights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.norm(x.clone(), &w.norm_scale);
        let z = flow.linear(n.clone(), &w.w_gate);
        let (ssm, dt) = (flow.linear(n.clone(), &w.w_ssm), flow.linear(n, &w.w_dt));
        let h = flow.scan(gated(Activation::Sigmoid, dt, ssm), sigmoid(w.scan_decay.val()));
        x + flow.project(gated(Activation::Silu, z, h), &w.wo)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{apply, layout_of, plan};

    #[test]
    fn it_answers_to_both_names() {
        for name in ["mamba3", "gated_linear_ssm"] {
            let json = format!(r#"{{"type": "{name}", "inner_dim": 5}}"#);
            assert_eq!(plan::<Mamba3>(&json).unwrap(), Mamba3 { dim: 8, inner: 5 });
        }
    }

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let expected =
            "norm_scale [4], w_gate [4, 3], w_ssm [4, 3], w_dt [4, 3], wo [3, 4], scan_decay [3]";
        assert_eq!(layout_of(&Mamba3 { dim: 4, inner: 3 }), expected);
    }

    #[test]
    fn a_closed_input_gate_lets_old_input_fade_away() {
        // In a stream of width 1 the norm leaves the sign: 1, then −1. With w_dt = 50 the input gate
        // is open at +1 and shut at −1, where the state only halves.
        let weight = |name: &str| match name {
            "scan_decay" => 0.0,
            "w_dt" => 50.0,
            _ => 1.0,
        };
        let y = apply(&Mamba3 { dim: 1, inner: 1 }, &[vec![[1000.0], [-1000.0]]], weight);
        let silu = |z: f32| z / (1.0 + (-z).exp());
        let added = [y[0][0][0] - 1000.0, y[0][1][0] + 1000.0];
        assert!((added[0] - silu(1.0) * 0.5).abs() < 1e-4, "{added:?}");
        assert!((added[1] - silu(-1.0) * 0.25).abs() < 1e-4, "{added:?}");
    }
}
