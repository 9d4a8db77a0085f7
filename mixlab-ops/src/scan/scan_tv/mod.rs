//! Causal moving average whose gate varies with time: the recurrence of minGRU (Feng et al., 2024).
//!
//! `h_t = a_t ⊙ h_{t−1} + (1 − a_t) ⊙ u_t`, `h_{−1} = 0`. With `s_t = g_t + a_{t+1} ⊙ s_{t+1}`, a
//! recurrence from the other end over the gradient `g` of `h`: `∂u_t = (1 − a_t) ⊙ s_t` and
//! `∂a_t = s_t ⊙ (h_{t−1} − u_t)`. Both run as a parallel prefix scan (Blelloch, 1990) and keep
//! nothing but `u`, `a` and `h`.

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "cube")]
use super::kernel::{self, Kind};
use super::{Origin, delayed, recurrence};
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// [`scan_tv`] has no attributes.
#[derive(Clone, Debug)]
pub struct ScanTv;

/// The gradients of [`ScanTv`], of its inputs, its output and the gradient of that; no attributes.
#[derive(Clone, Debug)]
pub struct ScanTvGradient;

/// All states `[B, T, C]` of the moving average of `u` `[B, T, C]` over `T` with the gates `gate`
/// `[B, T, C]`, used as they are: any real number will do, 0 takes `u` and 1 keeps the state.
pub fn scan_tv<B: Backend>(u: Tensor<B, 3>, gate: Tensor<B, 3>) -> Tensor<B, 3> {
    run(&ScanTv, [lower(u), lower(gate)], vec![])
}

impl Op<2> for ScanTv {
    const NAME: &'static str = "mixlab.scan_tv";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn outputs(&self, [u, gate]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("u", u, ["B", "T", "C"])?;
        axes.of("gate", gate, ["B", "T", "C"])?;
        Ok(vec![u.clone()])
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

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let ([u, gate], [h]) = (tape.inputs(), all(tape.outputs));
        all(B::execute(&ScanTvGradient, [u, gate, h, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::average(&inputs[0], &inputs[1], None)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [u, gate]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::states(u, gate, None, Kind::Varying)]
    }
}

impl Op<4> for ScanTvGradient {
    const NAME: &'static str = "mixlab.scan_tv_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [u, gate, h, grad]: &[Spec; 4], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        for (what, x) in [("u", u), ("gate", gate), ("h", h), ("grad", grad)] {
            axes.of(what, x, ["B", "T", "C"])?;
        }
        Ok(vec![u.clone(), gate.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 4],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [u, gate, h, grad] = inputs.map(lift::<B, 3>);
        let s = recurrence(delayed(gate.clone(), Origin::End), grad, Origin::End);
        let dgate = s.clone() * (delayed(h, Origin::Start) - u);
        vec![lower((-gate + 1.0) * s), lower(dgate)]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 4], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::average_gradient(inputs.each_ref(), None))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 4],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::gradient(inputs, None, Kind::Varying)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
