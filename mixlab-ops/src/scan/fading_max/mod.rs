//! The largest of all numbers so far, each lowered with the steps since it was there.
//!
//! `m_t = max(m_{t−1} + r, u_t)`, `m_{−1} = −∞`: with `r = ln g` the largest logarithm among terms that
//! a recurrence with the gate `g` adds up, and so what to measure them by. Sums of exponentials that
//! are kept relative to a maximum which does not fade underflow long after it has lost its weight.
//!
//! It is a point of reference: no gradient flows through it.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use super::kernel::{self, Kind};
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, lift, lower, run};

/// [`fading_max`] has no attributes.
#[derive(Clone, Debug)]
pub struct FadingMax;

/// All fading maxima `[B, T, C]` of `u` `[B, T, C]` over `T`, which change by `rate` `[C]` a step.
/// Numbers must exceed −10³⁰. The result is constant for gradients.
pub fn fading_max<B: Backend>(u: Tensor<B, 3>, rate: Tensor<B, 1>) -> Tensor<B, 3> {
    run(&FadingMax, [lower(u.detach()), lower(rate.detach())], vec![])
}

impl Op<2> for FadingMax {
    const NAME: &'static str = "mixlab.fading_max";
    const GRADIENT: bool = true;
    const KEEPS: [bool; 2] = [false; 2];
    const KERNEL: bool = true;

    fn outputs(&self, [u, rate]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("u", u, ["B", "T", "C"])?;
        axes.of("rate", rate, ["C"])?;
        Ok(vec![u.clone()])
    }

    /// Twice as many steps back with each round.
    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [u, rate]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (mut m, rate) = (lift::<B, 3>(u), lift::<B, 1>(rate).unsqueeze::<3>());
        let t = m.dims()[1];
        let mut steps = 1;
        while steps < t {
            let earlier = m.clone().narrow(1, 0, t - steps) + rate.clone() * steps as f64;
            let later = m.clone().narrow(1, steps, t - steps).max_pair(earlier);
            m = Tensor::cat(vec![m.narrow(1, 0, steps), later], 1);
            steps *= 2;
        }
        vec![lower(m)]
    }

    fn gradient<B: Backend>(&self, _: Tape<B, 2>, _: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        unreachable!("its inputs are detached")
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::fading_max(&inputs[0], &inputs[1])])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [u, rate]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::states(u, rate, None, Kind::Maximum)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
