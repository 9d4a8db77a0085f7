//! `retnet`: causal attention that fades with distance, then a feed-forward tail.
//!
//! ```text
//! n = RMS(x; norm_scale);   q, k, v = heads(n·wq), heads(n·wk), heads(n·wv)
//! S_ij = q_i·k_j / √hd − γ (i − j),   γ = σ(decay), one a head
//! x ← x + merge( softmax(mask(S)) v )·wo
//! x ← x + silu(x·ff1)·ff2
//! ```
//!
//! Named after the retention of RetNet (Sun et al., 2023). Unlike there, scores pass through
//! `softmax`, the rate of fading is learned, and there is neither a rotation of positions nor a
//! group norm nor an output gate.
//!
//! Kept from mixlab 0.10.1: the feed-forward tail is `2D` wide whatever `mlp_mult` is and sees the
//! stream without a norm; `decay` is read and not used. All heads start with `γ = ½`, a factor of
//! `e^−½ ≈ 0.607` a token; `initial_decay` sets another factor between `e⁻¹ ≈ 0.368` and 1.
//!
//! ```json
//! {"type": "retnet", "heads": 4, "initial_decay": 0.9}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

use super::{Block, Flow, KeyValue, Scope, Time, constant, matrix, ones, sigmoid};
use crate::config::{BlockSpec, Reported};

/// Options of a `retnet` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Retnet {
    /// Stream width `D`.
    pub dim: usize,
    /// Heads `H`.
    pub heads: usize,
    /// Width of a head, `hd = D / H`.
    pub head_dim: usize,
    /// Start value of the rates of fading, before the sigmoid.
    pub decay: f32,
}

/// Weights of a `retnet` block.
#[derive(Module, Debug)]
pub struct RetnetWeights<B: Backend> {
    /// `[D]`, ones.
    pub norm_scale: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wq: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv: Param<Tensor<B, 2>>,
    /// `[H]`: the rates of fading before the sigmoid; zeros unless `initial_decay`.
    pub decay: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wo: Param<Tensor<B, 2>>,
    /// `[D, 2D]`.
    pub ff1: Param<Tensor<B, 2>>,
    /// `[2D, D]`.
    pub ff2: Param<Tensor<B, 2>>,
}

impl Block for Retnet {
    type Weights<B: Backend> = RetnetWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["retnet"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let heads = scope.heads(spec);
        let decay = initial_decay(spec, scope);
        let (dim, heads) = (scope.dim, heads?);
        Ok(Self { dim, heads, head_dim: dim / heads, decay: decay? })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn heads(&self) -> Option<usize> {
        Some(self.heads)
    }

    fn init<B: Backend>(&self, device: &B::Device) -> RetnetWeights<B> {
        let dim = self.dim;
        RetnetWeights {
            norm_scale: ones(dim, device),
            wq: matrix([dim, dim], device),
            wk: matrix([dim, dim], device),
            wv: matrix([dim, dim], device),
            decay: constant(self.heads, self.decay, device),
            wo: matrix([dim, dim], device),
            ff1: matrix([dim, 2 * dim], device),
            ff2: matrix([2 * dim, dim], device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &RetnetWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.norm(x.clone(), &w.norm_scale);
        let [q, keys, values] = [&w.wq, &w.wk, &w.wv]
            .map(|weight| flow.split_heads(flow.linear(n.clone(), weight), self.heads));
        let kv = flow.extend(KeyValue { keys, values });
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let y = flow.retain(q, kv, sigmoid(w.decay.val()), scale);
        let x = x + flow.project(flow.merge_heads(y), &w.wo);
        let n = flow.activation(x.clone());
        x + flow.project(activate(Activation::Silu, flow.linear(n, &w.ff1)), &w.ff2)
    }
}

/// The start value of the rates before the sigmoid: `p = −ln(initial_decay)` at `ln(p / (1 − p))`.
fn initial_decay(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<f32, Reported> {
    if spec.decay.is_some_and(|decay| decay != 0.0) {
        let message = "is not used, as in mixlab 0.10.1: heads start at a factor of `0.607` a token, or at `initial_decay`";
        scope.warn("decay", message);
    }
    let Some(factor) = spec.initial_decay else { return Ok(0.0) };
    let rate = -factor.ln();
    if rate > 0.0 && rate < 1.0 {
        return Ok((rate / (1.0 - rate)).ln() as f32);
    }
    let message = format!("`{factor}` is not between `0.3679` and `1`");
    let hint = "a head fades by e^−γ a token, where γ is a sigmoid; use for example `0.9`";
    Err(scope.error("initial_decay", message, hint))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{errors, layout_of, plan, warnings};

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let expected = "norm_scale [4], wq [4, 4], wk [4, 4], wv [4, 4], decay [2], wo [4, 4], \
            ff1 [4, 8], ff2 [8, 4]";
        assert_eq!(layout_of(&Retnet { dim: 4, heads: 2, head_dim: 2, decay: 0.0 }), expected);
    }

    fn start(decay: &str) -> f32 {
        plan::<Retnet>(&format!(r#"{{"type": "retnet", "heads": 2{decay}}}"#)).unwrap().decay
    }

    #[test]
    fn heads_start_at_the_factor_that_is_asked_for() {
        assert_eq!(start(""), 0.0);
        for factor in [0.37, 0.6, 0.95, 0.9999] {
            let logit = f64::from(start(&format!(r#", "initial_decay": {factor}"#)));
            let back = (-1.0 / (1.0 + (-logit).exp())).exp();
            assert!((back - factor).abs() < 1e-6, "{back} instead of {factor}");
        }
    }

    #[test]
    fn factors_that_no_rate_gives_are_errors() {
        for factor in ["0", "-0.5", "0.3678", "1", "1.5"] {
            let json = format!(r#"{{"type": "retnet", "heads": 2, "initial_decay": {factor}}}"#);
            let message = format!("`{factor}` is not between `0.3679` and `1`");
            assert_eq!(errors::<Retnet>(&json), [format!("blocks[0].initial_decay: {message}")]);
        }
    }

    #[test]
    fn the_field_that_nothing_uses_is_named() {
        assert_eq!(start(r#", "decay": 0.99"#), 0.0);
        let warned = |json: &str| warnings::<Retnet>(json).len();
        assert_eq!(warned(r#"{"type": "retnet", "heads": 2, "decay": 0.99}"#), 1);
        assert_eq!(warned(r#"{"type": "retnet", "heads": 2, "initial_decay": 0.99}"#), 0);
    }
}
