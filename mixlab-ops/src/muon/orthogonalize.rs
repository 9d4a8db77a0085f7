//! The Newton–Schulz iteration.

use burn::tensor::{DType, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

#[cfg(feature = "cube")]
use crate::plumbing::cube::not_together;
use crate::{Axes, Backend, Mismatch, Op, Precision, Spec, lift, lower, run};

/// Coefficients of the quintic `aX + (bA + cA²)X`, `A = XXᵀ`.
pub(super) const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Attributes of [`orthogonalize`].
#[derive(Clone, Debug)]
pub struct Orthogonalize {
    /// Iterations.
    pub steps: usize,
    /// Format of the operands of its products.
    pub precision: Precision,
}

/// Drives all singular values of each matrix of `batch` `[S, R, C]` towards 1.
///
/// As in mixlab 0.10.1 the input is rounded to bfloat16 and divided by its Frobenius norm (plus
/// 10⁻⁷) first. A zero matrix stays zero.
pub fn orthogonalize<B: Backend>(
    batch: Tensor<B, 3>,
    steps: usize,
    precision: Precision,
) -> Tensor<B, 3> {
    run(&Orthogonalize { steps, precision }, [lower(batch)], vec![])
}

/// Rounds `x` to the nearest bfloat16, kept in its own type.
fn round_to_bf16<B: burn::tensor::backend::Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let dtype = x.dtype();
    if B::supports_dtype(&x.device(), DType::BF16) {
        return x.cast(DType::BF16).cast(dtype);
    }
    // Veltkamp's splitting: the high 8 of 24 significant bits.
    let scaled = x.clone() * 65_537.0;
    scaled.clone() - (scaled - x)
}

impl Op<1> for Orthogonalize {
    const NAME: &'static str = "mixlab.orthogonalize";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"steps":{},"precision":"{}"}}"#, self.steps, self.precision)
    }

    fn outputs(&self, [batch]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        Axes::default().of("batch", batch, ["S", "R", "C"])?;
        Ok(vec![batch.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [batch]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [a, b, c] = QUINTIC;
        let x = round_to_bf16(lift::<B, 3>(batch));
        let [s, rows, columns] = x.dims();
        let square_sum = (x.clone() * x.clone()).reshape([s, rows * columns]).sum_dim(1);
        let x = x / (square_sum.sqrt() + 1e-7).reshape([s, 1, 1]);
        let mut x = if rows > columns { x.swap_dims(1, 2) } else { x };
        let dtype = x.dtype();
        let product = |a, b| self.precision.product(a, b, dtype);
        for _ in 0..self.steps {
            let gram = product(x.clone(), x.clone().swap_dims(1, 2));
            let mix = gram.clone() * b + product(gram.clone(), gram) * c;
            x = x.clone() * a + product(mix, x);
        }
        vec![lower(if rows > columns { x.swap_dims(1, 2) } else { x })]
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, batch: &[CubeTensor<R>; 1]) -> Option<String> {
        not_together(batch)
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [batch]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![super::kernel::orthogonalize(self, batch)]
    }
}
