//! Causal exponential moving average with one decay per channel.
//!
//! `h_t = γ ⊙ h_{t−1} + (1 − γ) ⊙ u_t`, `h_{−1} = 0`. With `s_t = g_t + γ ⊙ s_{t+1}`, the same
//! recurrence from the other end over the gradient `g` of `h`: `∂u_t = (1 − γ) ⊙ s_t` and
//! `∂γ = Σ s_t ⊙ (h_{t−1} − u_t)` over batch and time. Both run as a parallel prefix scan
//! (Blelloch, 1990) and keep nothing but `u`, `γ` and `h`.

#[cfg(feature = "cpu")]
mod cpu;
mod fading_max;
#[cfg(feature = "cube")]
mod kernel;
mod matrix_scan;
mod recurrence;
mod scan_from;
mod scan_tv;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

pub use fading_max::{FadingMax, fading_max};
#[cfg(feature = "cube")]
use kernel::Kind;
pub use matrix_scan::{MatrixScan, MatrixScanGradient, matrix_scan};
use recurrence::{Origin, delayed, recurrence};
pub use scan_from::{
    Recurrence, ScanFrom, ScanFromGradient, matrix_scan_from, scan_from, scan_tv_from,
};
pub use scan_tv::{ScanTv, ScanTvGradient, scan_tv};

use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// [`scan`] has no attributes.
#[derive(Clone, Debug)]
pub struct Scan;

/// The gradients of [`Scan`], of its inputs, its output and the gradient of that; no attributes.
#[derive(Clone, Debug)]
pub struct ScanGradient;

/// All states `[B, T, C]` of the moving average of `u` `[B, T, C]` over `T` with decays `gate`
/// `[C]`, used as they are: 0 passes `u` through, 1 stays at zero.
pub fn scan<B: Backend>(u: Tensor<B, 3>, gate: Tensor<B, 1>) -> Tensor<B, 3> {
    run(&Scan, [lower(u), lower(gate)], vec![])
}

impl Op<2> for Scan {
    const NAME: &'static str = "mixlab.scan";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn outputs(&self, [u, gate]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("u", u, ["B", "T", "C"])?;
        axes.of("gate", gate, ["C"])?;
        Ok(vec![u.clone()])
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

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let ([u, gate], [h]) = (tape.inputs(), all(tape.outputs));
        all(B::execute(&ScanGradient, [u, gate, h, grad], vec![]))
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
        vec![kernel::states(u, gate, None, Kind::Constant)]
    }
}

impl Op<4> for ScanGradient {
    const NAME: &'static str = "mixlab.scan_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [u, gate, h, grad]: &[Spec; 4], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("gate", gate, ["C"])?;
        for (what, x) in [("u", u), ("h", h), ("grad", grad)] {
            axes.of(what, x, ["B", "T", "C"])?;
        }
        Ok(vec![u.clone(), gate.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, gate, h, grad]: [FloatTensor<B>; 4],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [u, h, grad] = [u, h, grad].map(lift::<B, 3>);
        let gate = lift::<B, 1>(gate).unsqueeze::<3>();
        let [b, t, c] = u.dims();
        let s = recurrence(gate.clone(), grad, Origin::End);
        let dgate = s.clone() * (delayed(h, Origin::Start) - u);
        let dgate = dgate.reshape([b * t, c]).sum_dim(0).squeeze_dim::<1>(0);
        vec![lower(s * (-gate + 1.0)), lower(dgate)]
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
        kernel::gradient(inputs, None, Kind::Constant)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
