//! Exclusive self-attention: what attention found, less its projection on the position's own value.
//!
//! `z = y − (y·v / n) v` with `n = v·v + 10⁻⁸`, dot products over the head width. With `c = y·v / n`
//! and `e = g·v / n`: `∂y = g − e v` and `∂v = −c g − e (y − 2c v)`, summed over the query heads that
//! share `v`. Nothing but `y` and `v` is kept.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::plumbing::heads::{repeat_heads, sum_groups};
use crate::shape::divides;
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run, same_type};

/// [`xsa`] has no attributes.
#[derive(Clone, Debug)]
pub struct Xsa;

/// The gradients of [`Xsa`], of its inputs and the gradient of its output; no attributes.
#[derive(Clone, Debug)]
pub struct XsaGradient;

/// Removes from `y` `[B, H, T, hd]` its projection on `v` `[B, Hk, T, hd]`; `Hk` divides `H`, and
/// query head `h` looks at value head `⌊h·Hk/H⌋`.
pub fn xsa<B: Backend>(y: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    run(&Xsa, [lower(y), lower(v)], vec![])
}

/// `x·v / (v·v + 10⁻⁸)` of each position, `[B, H, T, 1]`.
fn along<B: burn::tensor::backend::Backend>(x: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    (x * v.clone()).sum_dim(3) / ((v.clone() * v).sum_dim(3) + 1e-8)
}

/// Checks the inputs of the forward.
fn axes(y: &Spec, v: &Spec) -> Result<Axes, Mismatch> {
    let mut axes = Axes::default();
    let [_, heads, ..] = axes.of("y", y, ["B", "H", "T", "hd"])?;
    let [_, groups, ..] = axes.of("v", v, ["B", "Hk", "T", "hd"])?;
    divides(groups, heads)?;
    same_type(&[("y", y), ("v", v)])?;
    Ok(axes)
}

impl Op<2> for Xsa {
    const NAME: &'static str = "mixlab.xsa";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn outputs(&self, [y, v]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        axes(y, v)?;
        Ok(vec![y.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [y, v]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (y, v) = (lift::<B, 4>(y), lift::<B, 4>(v));
        let v = repeat_heads(v, y.dims()[1]);
        let c = along(y.clone(), v.clone());
        vec![lower(y - v * c)]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let [y, v] = tape.inputs();
        all(B::execute(&XsaGradient, [y, v, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::xsa(&inputs[0], &inputs[1])])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [y, v]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::launch(y, v)]
    }
}

impl Op<3> for XsaGradient {
    const NAME: &'static str = "mixlab.xsa_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [y, v, grad]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        axes(y, v)?.of("grad", grad, ["B", "H", "T", "hd"])?;
        same_type(&[("y", y), ("grad", grad)])?;
        Ok(vec![y.clone(), v.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [y, v, g] = inputs.map(lift::<B, 4>);
        let (heads, groups) = (y.dims()[1], v.dims()[1]);
        let v = repeat_heads(v, heads);
        let c = along(y.clone(), v.clone());
        let e = along(g.clone(), v.clone());
        let dy = g.clone() - v.clone() * e.clone();
        let dv = (v * (c.clone() * 2.0) - y) * e - g * c;
        vec![lower(dy), lower(sum_groups(dv, groups))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::gradient(inputs).into())
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::launch_gradient(inputs)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
