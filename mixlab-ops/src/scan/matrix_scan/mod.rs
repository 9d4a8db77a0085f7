//! Matrix-valued linear recurrence with a gate per row: the state of gated linear attention (Yang
//! et al., 2024).
//!
//! `H_t = diag(a_t) H_{t−1} + U_t`, `H_{−1} = 0`. With `S_t = G_t + diag(a_{t+1}) S_{t+1}`, a
//! recurrence from the other end over the gradient `G` of `H`: `∂U_t = S_t`, and `∂a_t` sums each
//! row of `S_t ⊙ H_{t−1}`. Both run as a parallel prefix scan (Blelloch, 1990).

#[cfg(feature = "cpu")]
pub(crate) mod cpu;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use super::kernel::{self, Kind};
use super::{Origin, delayed, recurrence};
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// [`matrix_scan`] has no attributes.
#[derive(Clone, Debug)]
pub struct MatrixScan;

/// The gradients of [`MatrixScan`], of its gates, its output and the gradient of that; no attributes.
#[derive(Clone, Debug)]
pub struct MatrixScanGradient;

/// All states `[B, T, Da, Db]` of a matrix that at each step is multiplied by `gate` `[B, T, Da]`,
/// row by row, and then grows by `update` `[B, T, Da, Db]`. Gates may be any real number.
pub fn matrix_scan<B: Backend>(update: Tensor<B, 4>, gate: Tensor<B, 3>) -> Tensor<B, 4> {
    run(&MatrixScan, [lower(update), lower(gate)], vec![])
}

/// `gate` `[B, T, Da]` for each element of the flattened matrices, `[B, T, Da·Db]`.
pub(crate) fn widen<B: burn::tensor::backend::Backend>(
    gate: FloatTensor<B>,
    db: usize,
) -> Tensor<B, 3> {
    let gate = lift::<B, 3>(gate);
    let [b, t, da] = gate.dims();
    gate.unsqueeze_dim::<4>(3).expand([b, t, da, db]).reshape([b, t, da * db])
}

impl Op<2> for MatrixScan {
    const NAME: &'static str = "mixlab.matrix_scan";
    const GRADIENT: bool = true;
    const KEEPS: [bool; 2] = [false, true];
    const KERNEL: bool = true;

    fn outputs(&self, [update, gate]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("update", update, ["B", "T", "Da", "Db"])?;
        axes.of("gate", gate, ["B", "T", "Da"])?;
        Ok(vec![update.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [update, gate]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let update = lift::<B, 4>(update);
        let [b, t, da, db] = update.dims();
        let h = recurrence(widen(gate, db), update.reshape([b, t, da * db]), Origin::Start);
        vec![lower(h.reshape([b, t, da, db]))]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [_, gate] = tape.inputs;
        let (gate, [h]) = (gate.expect("kept"), all(tape.outputs));
        all(B::execute(&MatrixScanGradient, [gate, h, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::states(&inputs[0], &inputs[1], None)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [update, gate]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::states(update, gate, None, Kind::Rows)]
    }
}

impl Op<3> for MatrixScanGradient {
    const NAME: &'static str = "mixlab.matrix_scan_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [gate, h, grad]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("gate", gate, ["B", "T", "Da"])?;
        axes.of("h", h, ["B", "T", "Da", "Db"])?;
        axes.of("grad", grad, ["B", "T", "Da", "Db"])?;
        Ok(vec![h.clone(), gate.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [gate, h, grad]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (h, grad) = (lift::<B, 4>(h), lift::<B, 4>(grad));
        let [b, t, da, db] = grad.dims();
        let next = delayed(widen(gate, db), Origin::End);
        let s = recurrence(next, grad.reshape([b, t, da * db]), Origin::End);
        let h = h.reshape([b, t, da * db]);
        let dgate = (s.clone() * delayed(h, Origin::Start)).reshape([b, t, da, db]);
        vec![lower(s.reshape([b, t, da, db])), lower(dgate.sum_dim(3).squeeze_dim::<3>(3))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::gradient(inputs.each_ref(), None))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [gate, h, g]: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::gradient([h.clone(), gate, h, g], None, Kind::Rows)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
