//! The product of a stream with a weight matrix, in a chosen precision.
//!
//! `y = x W`, `∂x = g Wᵀ`, `∂W = xᵀ g`. In bf16 all three products have bfloat16 operands; inputs,
//! results and the weight itself stay in their own type.

use burn::tensor::{DType, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::{Backend, Op, Spec, Tape, lift, lower};

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

/// `x W` for `x` `[N, K]` and `weight` `[K, M]`.
pub fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    precision: Precision,
) -> Tensor<B, 2> {
    let outputs = B::execute(&Linear { precision }, [lower(x), lower(weight)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

impl Linear {
    fn product<B: burn::tensor::backend::Backend>(
        &self,
        a: Tensor<B, 2>,
        b: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        match self.precision {
            Precision::F32 | Precision::Tf32 => a.matmul(b),
            Precision::Bf16 => {
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
        vec![lower(self.product::<B>(lift(x), lift(weight)))]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [x, weight] = tape.inputs.map(lift::<B, 2>);
        let g = lift::<B, 2>(grad);
        let dx = self.product(g.clone(), weight.transpose());
        [lower(dx), lower(self.product(x.transpose(), g))]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
