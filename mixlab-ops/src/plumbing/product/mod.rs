//! Matrix products in a chosen precision; on GPU backends, which kernel multiplies, by precision,
//! hardware and shape.
//!
//! | precision | CUDA, Hopper | CUDA, other cards | elsewhere |
//! |---|---|---|---|
//! | bf16 | `hopper.cu` | `portable`, by matrix units | `portable` if there are matrix units, else cubek's |
//! | tf32 | `hopper.cu` | cubek's tensor-core kernels, which round operands | as f32 |
//! | f32 | `hopper.cu`, each operand as three bf16 in six products; small ones `portable` | `portable` | `portable` |
//!
//! Nothing is tuned at run time: one shape, one kernel, the same in every run.

#[cfg(feature = "cuda")]
mod copies;
#[cfg(feature = "cuda")]
mod hopper;
#[cfg(feature = "cube")]
mod kernel;
#[cfg(feature = "cube")]
mod parts;
#[cfg(feature = "cube")]
mod portable;

use burn::tensor::{DType, Tensor};

#[cfg(feature = "cube")]
pub(crate) use kernel::{Rows, operand, product, read_twice, transposed};

/// Number format of the operands of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats. On an H100 a large product is a sum of products of bfloat16s or TF32s that
    /// together hold all bits of its operands: as exact, but an infinity among them gives NaN.
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

impl Precision {
    /// Type of the operands.
    pub(crate) fn operand(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// `a b` as a tensor of type `out`.
    pub(crate) fn product<B: burn::tensor::backend::Backend, const D: usize>(
        self,
        a: Tensor<B, D>,
        b: Tensor<B, D>,
        out: DType,
    ) -> Tensor<B, D> {
        a.cast(self.operand()).matmul(b.cast(self.operand())).cast(out)
    }
}

/// Shapes `(n, k, m)` of `[n, k] · [k, m]`: rows that are no multiples of 16 bytes, edges of all
/// tiles, and depths that are split (`hopper::tests` holds that all are reached).
#[cfg(all(test, feature = "cube"))]
pub(crate) const RAGGED: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (7, 64, 130),
    (130, 257, 7),
    (257, 7, 64),
    (64, 130, 257),
    (1, 2734, 130),
    (2734, 64, 7),
    (257, 2734, 64),
    (2734, 1, 2734),
    (7, 257, 4100),
];
