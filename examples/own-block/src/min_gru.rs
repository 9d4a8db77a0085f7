//! `min_gru`: a recurrence whose gate does not read the state (Feng et al., 2024, "Were RNNs All We
//! Needed?").
//!
//! ```text
//! n = RMS(x; norm_scale);  z = σ(n·w_z)
//! h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ (n·w_h)_t
//! x ← x + h·wo
//! ```

use mixlab_burn::blocks::{Block, Flow, Scope, Time, matrix, ones};
use mixlab_burn::config::{BlockSpec, Reported};
use mixlab_burn::ops::{self, Activation, activate};

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

/// Options of a `min_gru` block.
#[derive(Clone, Debug, PartialEq)]
pub struct MinGru {
    dim: usize,
    inner: usize,
}

/// Weights of a `min_gru` block.
#[derive(Module, Debug)]
pub struct MinGruWeights<B: Backend> {
    norm_scale: Param<Tensor<B, 1>>,
    w_z: Param<Tensor<B, 2>>,
    w_h: Param<Tensor<B, 2>>,
    wo: Param<Tensor<B, 2>>,
}

impl Block for MinGru {
    type Weights<B: Backend> = MinGruWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["min_gru"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let inner = match spec.options.get("inner") {
            None => scope.dim,
            Some(value) => match value.as_u64() {
                Some(inner @ 1..) => scope.size("options.inner", inner as usize, scope.dim)?,
                _ => {
                    let message = format!("`{value}` is not a width");
                    return Err(scope.error("options.inner", message, "use 1 or more"));
                }
            },
        };
        Ok(Self { dim: scope.dim, inner })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> MinGruWeights<B> {
        MinGruWeights {
            norm_scale: ones(self.dim, device),
            w_z: matrix([self.dim, self.inner], device),
            w_h: matrix([self.dim, self.inner], device),
            wo: matrix([self.inner, self.dim], device),
        }
    }

    fn forward<B: ops::Backend>(
        &self,
        w: &MinGruWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.norm(x.clone(), &w.norm_scale);
        let keep = activate(Activation::Sigmoid, -flow.linear(n.clone(), &w.w_z));
        let h = flow.scan_tv(flow.linear(n, &w.w_h), keep);
        x + flow.project(h, &w.wo)
    }
}
