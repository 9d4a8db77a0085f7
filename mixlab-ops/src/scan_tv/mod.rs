//! Causal moving average whose gate varies with time: the recurrence of minGRU (Feng et al., 2024).
//!
//! `h_t = a_t ⊙ h_{t−1} + (1 − a_t) ⊙ u_t`, `h_{−1} = 0`. With `s_t = g_t + a_{t+1} ⊙ s_{t+1}`, a
//! recurrence from the other end over the gradient `g` of `h`: `∂u_t = (1 − a_t) ⊙ s_t` and
//! `∂a_t = s_t ⊙ (h_{t−1} − u_t)`. Both run as a parallel prefix scan (Blelloch, 1990) and keep
//! nothing but `u`, `a` and `h`.

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::scan::{Origin, delayed, recurrence};
use crate::{Backend, Op, Spec, Tape, lift, lower};

/// [`scan_tv`] has no attributes.
#[derive(Clone, Debug)]
pub struct ScanTv;

/// All states `[B, T, C]` of the moving average of `u` `[B, T, C]` over `T` with the gates `gate`
/// `[B, T, C]`, used as they are: any real number will do, 0 takes `u` and 1 keeps the state.
pub fn scan_tv<B: Backend>(u: Tensor<B, 3>, gate: Tensor<B, 3>) -> Tensor<B, 3> {
    let outputs = B::execute(&ScanTv, [lower(u), lower(gate)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

impl Op<2> for ScanTv {
    const NAME: &'static str = "mixlab.scan_tv";
    const GRADIENT: bool = true;

    fn outputs(&self, [u, _]: &[Spec; 2]) -> Vec<Spec> {
        vec![u.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, gate]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (u, gate) = (lift::<B, 3>(u), lift::<B, 3>(gate));
        let x = (-gate.clone() + 1.0) * u;
        vec![lower(recurrence(gate, x, Origin::Start))]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [u, gate] = tape.inputs.map(lift::<B, 3>);
        let h = lift::<B, 3>(tape.outputs[0].clone());
        let s = recurrence(delayed(gate.clone(), Origin::End), lift(grad), Origin::End);
        let dgate = s.clone() * (delayed(h, Origin::Start) - u);
        [lower((-gate + 1.0) * s), lower(dgate)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
