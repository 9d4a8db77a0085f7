//! Causal exponential moving average with one decay per channel.
//!
//! `h_t = γ ⊙ h_{t−1} + (1 − γ) ⊙ u_t`, `h_{−1} = 0`. With `s_t = g_t + γ ⊙ s_{t+1}`, the same
//! recurrence from the other end over the gradient `g` of `h`: `∂u_t = (1 − γ) ⊙ s_t` and
//! `∂γ = Σ s_t ⊙ (h_{t−1} − u_t)` over batch and time. Both run as a parallel prefix scan
//! (Blelloch, 1990) and keep nothing but `u`, `γ` and `h`.

mod recurrence;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};

pub(crate) use recurrence::{Origin, delayed, recurrence};

use crate::{Backend, Op, Spec, Tape, lift, lower};

/// [`scan`] has no attributes.
#[derive(Clone, Debug)]
pub struct Scan;

/// All states `[B, T, C]` of the moving average of `u` `[B, T, C]` over `T` with decays `gate`
/// `[C]`, used as they are: 0 passes `u` through, 1 stays at zero.
pub fn scan<B: Backend>(u: Tensor<B, 3>, gate: Tensor<B, 1>) -> Tensor<B, 3> {
    let outputs = B::execute(&Scan, [lower(u), lower(gate)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

impl Op<2> for Scan {
    const NAME: &'static str = "mixlab.scan";
    const GRADIENT: bool = true;

    fn outputs(&self, [u, _]: &[Spec; 2]) -> Vec<Spec> {
        vec![u.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, gate]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (u, gate) = (lift::<B, 3>(u), lift::<B, 1>(gate).unsqueeze::<3>());
        let x = u * (-gate.clone() + 1.0);
        vec![lower(recurrence(gate, x, Origin::Start))]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [u, gate] = tape.inputs;
        let (u, gate) = (lift::<B, 3>(u), lift::<B, 1>(gate).unsqueeze::<3>());
        let [b, t, c] = u.dims();
        let h = lift::<B, 3>(tape.outputs[0].clone());
        let s = recurrence(gate.clone(), lift(grad), Origin::End);
        let dgate = s.clone() * (delayed(h, Origin::Start) - u);
        let dgate = dgate.reshape([b * t, c]).sum_dim(0).squeeze_dim::<1>(0);
        [lower(s * (-gate + 1.0)), lower(dgate)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
