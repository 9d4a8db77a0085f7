//! The norm of all gradients together, and the factor that bounds it, without asking the device.
//!
//! `‖g‖ = √Σ g²` over every weight, `f = min(1, c / (‖g‖ + 10⁻⁶))` (Pascanu et al., 2013). If the
//! sum is not finite, `f = −1`: the sign for an update to do nothing.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{DType, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::plumbing::list::{execute_group, group};
use crate::{Backend, Mismatch, Op, Spec, all, lift, lower};

/// How many partial sums there are.
const PARTS: usize = 128;

/// Sums the squares of tensors of any shape onto partial sums. Inputs: the partial sums, the tensors;
/// output: the new partial sums.
#[derive(Clone, Debug)]
pub struct SquareSum;

/// The factor from the partial sums.
#[derive(Clone, Debug)]
pub struct ClipFactor {
    /// Bound of the norm; infinite for none.
    pub bound: f32,
}

/// `[factor, norm]` of the gradients `grads`, of any shapes, for a norm of at most `bound`; the
/// factor is −1 if the norm is not finite. `None` if there are no gradients.
pub fn clip_factor<'a, B: Backend>(
    grads: impl Iterator<Item = &'a FloatTensor<B>>,
    bound: Option<f32>,
) -> Option<Tensor<B, 1>>
where
    FloatTensor<B>: 'a,
{
    let grads: Vec<&FloatTensor<B>> = grads.collect();
    let device = B::float_device(grads.first()?);
    let mut parts = lower(Tensor::<B, 1>::zeros([PARTS], (&device, DType::F32)));
    let mut grads = grads.into_iter().cloned();
    while let Some(group) = group(&mut grads) {
        let inputs = core::iter::once(parts).chain(group).collect();
        [parts] = all(execute_group::<B, _, 2, 5, 17>(&SquareSum, inputs));
    }
    let op = ClipFactor { bound: bound.unwrap_or(f32::INFINITY) };
    Some(lift(B::execute(&op, [parts], vec![]).pop()?))
}

/// Checks that `parts` has room for the partial sums.
fn partial_sums(parts: &Spec) -> Result<(), Mismatch> {
    let expected = Spec::new([PARTS], DType::F32);
    Mismatch::unless(*parts == expected, || format!("`parts` should be {expected}"))
}

impl<const N: usize> Op<N> for SquareSum {
    const NAME: &'static str = "mixlab.square_sum";
    const KERNEL: bool = true;

    fn outputs(&self, inputs: &[Spec; N], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let parts = inputs.first().ok_or_else(|| Mismatch::new("it has no inputs"))?;
        partial_sums(parts)?;
        Ok(vec![parts.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let mut parts = lift::<B, 1>(inputs[0].clone());
        let rest = Tensor::zeros([PARTS - 1], (&parts.device(), DType::F32));
        for x in &inputs[1..] {
            let count = x.shape().num_elements();
            let x = lift::<B, 1>(B::float_reshape(x.clone(), [count].into())).cast(DType::F32);
            parts = parts + Tensor::cat(vec![(x.clone() * x).sum(), rest.clone()], 0);
        }
        vec![lower(parts)]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; N], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::add_squares(inputs)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; N],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::add_squares(inputs.into())]
    }
}

impl Op<1> for ClipFactor {
    const NAME: &'static str = "mixlab.clip_factor";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"bound":{:e}}}"#, self.bound)
    }

    fn outputs(&self, [parts]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        partial_sums(parts)?;
        Ok(vec![Spec::new([2], DType::F32)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [parts]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let norm = lift::<B, 1>(parts).sum().sqrt();
        // An infinite bound has no factor but 1.
        let factor = if self.bound.is_finite() {
            (norm.ones_like() * self.bound / (norm.clone() + 1e-6)).clamp_max(1.0)
        } else {
            norm.ones_like()
        };
        let broken = norm.clone().is_finite().bool_not();
        vec![lower(Tensor::cat(vec![factor.mask_fill(broken, -1.0), norm], 0))]
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [parts]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::factor(parts, self.bound)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
