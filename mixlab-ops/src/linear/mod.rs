//! The product of a stream with a weight matrix, in a chosen precision.
//!
//! `y = x W`, `∂x = g Wᵀ`, `∂W = xᵀ g`. In bf16 all three products have bfloat16 operands; inputs,
//! results and the weight itself stay in their own type.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::{DType, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Backend, Op, Spec, Tape, all, lift, lower};

/// Number format of the operands of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 32-bit floats; the backend may round operands to TensorFloat-32 (10-bit mantissa).
    Tf32,
    /// bfloat16.
    Bf16,
}

impl core::fmt::Display for Precision {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Attributes of [`linear`].
#[derive(Clone, Debug)]
pub struct Linear {
    /// Format of the operands.
    pub precision: Precision,
}

/// The gradients of [`Linear`], of its inputs and the gradient of its output.
#[derive(Clone, Debug)]
pub struct LinearGradient {
    /// Format of the operands.
    pub precision: Precision,
}

/// `x W` for `x` `[N, K]` and `weight` `[K, M]`.
pub fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    precision: Precision,
) -> Tensor<B, 2> {
    let outputs = B::execute(&Linear { precision }, [lower(x), lower(weight)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

impl Precision {
    fn product<B: burn::tensor::backend::Backend>(
        self,
        a: Tensor<B, 2>,
        b: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        match self {
            Self::F32 | Self::Tf32 => a.matmul(b),
            Self::Bf16 => {
                let dtype = a.dtype();
                a.cast(DType::BF16).matmul(b.cast(DType::BF16)).cast(dtype)
            }
        }
    }
}

impl Op<2> for Linear {
    const NAME: &'static str = "mixlab.linear";
    const GRADIENT: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"precision":"{}"}}"#, self.precision)
    }

    fn outputs(&self, [x, weight]: &[Spec; 2]) -> Vec<Spec> {
        vec![Spec { shape: [x.shape[0], weight.shape[1]].into(), dtype: x.dtype }]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, weight]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![lower(self.precision.product::<B>(lift(x), lift(weight)))]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [x, weight] = tape.inputs;
        all(B::execute(&LinearGradient { precision: self.precision }, [x, weight, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        (self.precision != Precision::Bf16).then(|| vec![cpu::linear(inputs)])
    }
}

impl Op<3> for LinearGradient {
    const NAME: &'static str = "mixlab.linear_gradient";

    fn attributes(&self) -> String {
        Linear { precision: self.precision }.attributes()
    }

    fn outputs(&self, [x, weight, _]: &[Spec; 3]) -> Vec<Spec> {
        vec![x.clone(), weight.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [x, weight, g] = inputs.map(lift::<B, 2>);
        let dx = self.precision.product(g.clone(), weight.transpose());
        vec![lower(dx), lower(self.precision.product(x.transpose(), g))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        (self.precision != Precision::Bf16).then(|| cpu::gradient(inputs).into())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
