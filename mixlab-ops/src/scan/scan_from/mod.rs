//! Recurrences that go on from a state, as if the sequence were the rest of a longer one.
//!
//! [`scan`](fn@crate::scan), [`scan_tv`](fn@crate::scan_tv) and
//! [`matrix_scan`](fn@crate::matrix_scan) with `h_{−1}` given in place of zero. The gradients are
//! theirs, with that `h_{−1}` before the first step; and with `s_t`, what flows back into step `t`,
//! `∂h_{−1} = a_0 ⊙ s_0`.

use burn::tensor::{Shape, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "cube")]
use super::kernel::{self, Kind};
use super::matrix_scan::widen;
use super::{Origin, delayed, matrix_scan, recurrence, scan, scan_tv};
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// Which recurrence goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// [`scan`](fn@crate::scan): `u` `[B, T, C]`, gates `[C]`, state `[B, C]`.
    Scan,
    /// [`scan_tv`](fn@crate::scan_tv): `u` `[B, T, C]`, gates `[B, T, C]`, state `[B, C]`.
    ScanTv,
    /// [`matrix_scan`](fn@crate::matrix_scan): updates `[B, T, Da, Db]`, gates `[B, T, Da]`, state
    /// `[B, Da, Db]`.
    MatrixScan,
}

/// Attributes of [`scan_from`], [`scan_tv_from`] and [`matrix_scan_from`].
#[derive(Clone, Debug)]
pub struct ScanFrom {
    /// The recurrence.
    pub of: Recurrence,
}

/// The gradients of [`ScanFrom`], of its inputs, its output and the gradient of that.
#[derive(Clone, Debug)]
pub struct ScanFromGradient {
    /// The recurrence.
    pub of: Recurrence,
}

/// All states `[B, T, C]` of [`scan`](fn@crate::scan) of `u` `[B, T, C]` with decays `gate` `[C]`,
/// where `state` `[B, C]` is the one before the first step; without one it is that very scan.
pub fn scan_from<B: Backend>(
    u: Tensor<B, 3>,
    gate: Tensor<B, 1>,
    state: Option<Tensor<B, 2>>,
) -> Tensor<B, 3> {
    let Some(state) = state else { return scan(u, gate) };
    run(&ScanFrom { of: Recurrence::Scan }, [lower(u), lower(gate), lower(state)], vec![])
}

/// All states `[B, T, C]` of [`scan_tv`](fn@crate::scan_tv) of `u` `[B, T, C]` with the gates `gate`
/// `[B, T, C]`, where `state` `[B, C]` is the one before the first step; without one it is that very
/// scan.
pub fn scan_tv_from<B: Backend>(
    u: Tensor<B, 3>,
    gate: Tensor<B, 3>,
    state: Option<Tensor<B, 2>>,
) -> Tensor<B, 3> {
    let Some(state) = state else { return scan_tv(u, gate) };
    run(&ScanFrom { of: Recurrence::ScanTv }, [lower(u), lower(gate), lower(state)], vec![])
}

/// All states `[B, T, Da, Db]` of [`matrix_scan`](fn@crate::matrix_scan) with updates `update`
/// `[B, T, Da, Db]` and gates `gate` `[B, T, Da]`, where `state` `[B, Da, Db]` is the one before the
/// first step; without one it is that very scan.
pub fn matrix_scan_from<B: Backend>(
    update: Tensor<B, 4>,
    gate: Tensor<B, 3>,
    state: Option<Tensor<B, 3>>,
) -> Tensor<B, 4> {
    let Some(state) = state else { return matrix_scan(update, gate) };
    let inputs = [lower(update), lower(gate), lower(state)];
    run(&ScanFrom { of: Recurrence::MatrixScan }, inputs, vec![])
}

/// `x` `[B, T, …]`, or a state `[B, …]` with `t = 1`, as `[B, T, C]`.
fn flat<B: burn::tensor::backend::Backend>(x: FloatTensor<B>, t: usize) -> Tensor<B, 3> {
    let shape = x.shape();
    let channels = shape.num_elements() / (shape[0] * t);
    lift(B::float_reshape(x, Shape::new([shape[0], t, channels])))
}

impl Recurrence {
    fn attributes(self) -> String {
        let name = match self {
            Self::Scan => "scan",
            Self::ScanTv => "scan_tv",
            Self::MatrixScan => "matrix_scan",
        };
        format!(r#"{{"of":"{name}"}}"#)
    }

    /// Checks a tensor that is as long as the input: that, the states or their gradient.
    fn stream(self, axes: &mut Axes, what: &str, x: &Spec) -> Result<(), Mismatch> {
        match self {
            Self::Scan | Self::ScanTv => axes.of(what, x, ["B", "T", "C"]).map(|_| ()),
            Self::MatrixScan => axes.of(what, x, ["B", "T", "Da", "Db"]).map(|_| ()),
        }
    }

    /// Checks the inputs of the forward.
    fn axes(self, [u, gate, state]: [&Spec; 3]) -> Result<Axes, Mismatch> {
        let mut axes = Axes::default();
        self.stream(&mut axes, "u", u)?;
        match self {
            Self::Scan => drop(axes.of("gate", gate, ["C"])?),
            Self::ScanTv => drop(axes.of("gate", gate, ["B", "T", "C"])?),
            Self::MatrixScan => drop(axes.of("gate", gate, ["B", "T", "Da"])?),
        }
        match self {
            Self::Scan | Self::ScanTv => drop(axes.of("state", state, ["B", "C"])?),
            Self::MatrixScan => drop(axes.of("state", state, ["B", "Da", "Db"])?),
        }
        Ok(axes)
    }

    /// Whether a step takes `(1 − a) u`, and not `u`.
    fn averages(self) -> bool {
        self != Self::MatrixScan
    }

    /// The gate of each channel of the flattened input `[B, T, C]`; `[1, 1, C]` if it stays the same.
    fn gates<B: burn::tensor::backend::Backend>(
        self,
        gate: FloatTensor<B>,
        shape: &Shape,
    ) -> Tensor<B, 3> {
        match self {
            Self::Scan => lift::<B, 1>(gate).unsqueeze(),
            Self::ScanTv => lift(gate),
            Self::MatrixScan => widen(gate, shape[3]),
        }
    }

    /// The gradient of the gates as they were given, from that of each channel's.
    fn collect<B: burn::tensor::backend::Backend>(
        self,
        dgate: Tensor<B, 3>,
        shape: &Shape,
    ) -> FloatTensor<B> {
        let [b, t, c] = dgate.dims();
        match self {
            Self::Scan => lower(dgate.reshape([b * t, c]).sum_dim(0).squeeze_dim::<1>(0)),
            Self::ScanTv => lower(dgate),
            Self::MatrixScan => {
                let rows = dgate.reshape([b, t, shape[2], shape[3]]);
                lower(rows.sum_dim(3).squeeze_dim::<3>(3))
            }
        }
    }

    #[cfg(feature = "cube")]
    fn kind(self) -> Kind {
        match self {
            Self::Scan => Kind::Constant,
            Self::ScanTv => Kind::Varying,
            Self::MatrixScan => Kind::Rows,
        }
    }
}

impl Op<3> for ScanFrom {
    const NAME: &'static str = "mixlab.scan_from";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.of.attributes()
    }

    fn outputs(&self, [u, gate, state]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        self.of.axes([u, gate, state])?;
        Ok(vec![u.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, gate, state]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let shape = u.shape();
        let t = shape[1];
        let gate = self.of.gates(gate, &shape);
        let u = flat::<B>(u, t);
        let x = if self.of.averages() { (-gate.clone() + 1.0) * u } else { u };
        let kept = gate.clone().narrow(1, 0, 1) * flat::<B>(state, 1);
        let start = x.clone().narrow(1, 0, 1) + kept;
        let x = if t > 1 { Tensor::cat(vec![start, x.narrow(1, 1, t - 1)], 1) } else { start };
        vec![B::float_reshape(lower(recurrence(gate, x, Origin::Start)), shape)]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 3>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 3] {
        let ([u, gate, state], [h]) = (tape.inputs(), all(tape.outputs));
        let inputs = [u, gate, state, h, grad];
        all(B::execute(&ScanFromGradient { of: self.of }, inputs, vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, [u, gate, state]: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![if self.of.averages() {
            cpu::average(u, gate, Some(state))
        } else {
            matrix_scan::cpu::states(u, gate, Some(state))
        }])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [u, gate, state]: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::states(u, gate, Some(state), self.of.kind())]
    }
}

impl Op<5> for ScanFromGradient {
    const NAME: &'static str = "mixlab.scan_from_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.of.attributes()
    }

    fn outputs(&self, inputs: &[Spec; 5], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [u, gate, state, h, grad] = inputs;
        let mut axes = self.of.axes([u, gate, state])?;
        self.of.stream(&mut axes, "h", h)?;
        self.of.stream(&mut axes, "grad", grad)?;
        Ok(inputs[..3].to_vec())
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, gate, state, h, grad]: [FloatTensor<B>; 5],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (shape, of_state) = (u.shape(), state.shape());
        let t = shape[1];
        let gate = self.of.gates(gate, &shape);
        let [u, h, grad] = [u, h, grad].map(|x| flat::<B>(x, t));
        let next = if self.of == Recurrence::Scan {
            gate.clone()
        } else {
            delayed(gate.clone(), Origin::End)
        };
        let s = recurrence(next, grad, Origin::End);
        let state = flat::<B>(state, 1);
        let before = if t > 1 { Tensor::cat(vec![state, h.narrow(1, 0, t - 1)], 1) } else { state };
        let (du, slope) = if self.of.averages() {
            ((-gate.clone() + 1.0) * s.clone(), before - u)
        } else {
            (s.clone(), before)
        };
        let dgate = self.of.collect(s.clone() * slope, &shape);
        let dstate = gate.narrow(1, 0, 1) * s.narrow(1, 0, 1);
        let [du, dstate] =
            [(du, shape), (dstate, of_state)].map(|(x, shape)| B::float_reshape(lower(x), shape));
        vec![du, dgate, dstate]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 5], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [u, gate, state, h, g] = inputs;
        Some(if self.of.averages() {
            cpu::average_gradient([u, gate, h, g], Some(state))
        } else {
            matrix_scan::cpu::gradient([gate, h, g], Some(state))
        })
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [u, gate, state, h, g]: [CubeTensor<R>; 5],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::gradient([u, gate, h, g], Some(state), self.of.kind())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
