//! The product of a stream with a weight matrix, in a chosen precision.
//!
//! `y = x W`, `∂x = g Wᵀ`, `∂W = xᵀ g`. In bf16 all three products have bfloat16 operands and sums in
//! f32; `∂x` has the type of `x`, and `∂W` that of the weight.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::{DType, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use crate::plumbing::product::{Rows, operand, product, read_twice, transposed};
use crate::shape::float;
use crate::{Axes, Backend, Mismatch, Op, Precision, Spec, Tape, all, lift, lower, run};

/// Attributes of [`linear`].
#[derive(Clone, Debug)]
pub struct Linear {
    /// Format of the operands.
    pub precision: Precision,
    /// Type of the result; that of `x` if `None`.
    pub output: Option<DType>,
}

/// The gradients of [`Linear`], of its inputs and the gradient of its output.
#[derive(Clone, Debug)]
pub struct LinearGradient {
    /// Format of the operands.
    pub precision: Precision,
}

/// `x W` for `x` `[N, K]` and `weight` `[K, M]`, in the type of `x`.
pub fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    precision: Precision,
) -> Tensor<B, 2> {
    run(&Linear { precision, output: None }, [lower(x), lower(weight)], vec![])
}

/// [`linear`] with a result of type `output`: matrix products sum in f32, so that a wider type than
/// that of `x` keeps more.
pub fn linear_to<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    precision: Precision,
    output: DType,
) -> Tensor<B, 2> {
    run(&Linear { precision, output: Some(output) }, [lower(x), lower(weight)], vec![])
}

impl Op<2> for Linear {
    const NAME: &'static str = "mixlab.linear";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"precision":"{}"}}"#, self.precision)
    }

    fn outputs(&self, [x, weight]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        let [n, _] = axes.of("x", x, ["N", "K"])?;
        let [_, m] = axes.of("weight", weight, ["K", "M"])?;
        Ok(vec![Spec::new([n, m], float(self.output.unwrap_or(x.dtype))?)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, weight]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (x, weight) = (lift::<B, 2>(x), lift::<B, 2>(weight));
        let output = self.output.unwrap_or(x.dtype());
        vec![lower(self.precision.product(x, weight, output))]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let [x, weight] = tape.inputs();
        all(B::execute(&LinearGradient { precision: self.precision }, [x, weight, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        (self.precision != Precision::Bf16).then(|| vec![cpu::linear(inputs)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x, weight]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let output = self.output.unwrap_or(x.dtype);
        vec![product(x, weight, self.precision, output, Rows::Aligned)]
    }
}

impl Op<3> for LinearGradient {
    const NAME: &'static str = "mixlab.linear_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        Linear { precision: self.precision, output: None }.attributes()
    }

    fn outputs(&self, [x, weight, grad]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("x", x, ["N", "K"])?;
        axes.of("weight", weight, ["K", "M"])?;
        axes.of("grad", grad, ["N", "M"])?;
        Ok(vec![x.clone(), weight.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [x, weight, g] = inputs.map(lift::<B, 2>);
        let (dx, dweight) = (x.dtype(), weight.dtype());
        let dx = self.precision.product(g.clone(), weight.transpose(), dx);
        vec![lower(dx), lower(self.precision.product(x.transpose(), g, dweight))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        (self.precision != Precision::Bf16).then(|| cpu::gradient(inputs).into())
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x, weight, g]: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let (dx, dw) = (x.dtype, weight.dtype);
        let operand = |x| operand(x, self.precision);
        let g = read_twice(operand(g), self.precision);
        // In their own order: a cast of a transposed view reads memory in strides.
        let [x, weight] = [x, weight].map(|x| transposed(operand(x)));
        vec![
            product(g.clone(), weight, self.precision, dx, Rows::Aligned),
            product(x, g, self.precision, dw, Rows::Dense),
        ]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
