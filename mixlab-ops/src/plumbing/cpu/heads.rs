//! Tensors `[B, H, T, hd]` as they come from a stream `[B, T, H, hd]`: read by strides, and written
//! so that going back to the stream copies nothing.

use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;

use super::matrix::Matrix;

/// A tensor `[B, H, T, hd]` whose last axis is contiguous.
pub(crate) struct Heads {
    tensor: FlexTensor,
    /// `[B, H, T, hd]`.
    pub dims: [usize; 4],
    strides: [usize; 3],
}

impl Heads {
    /// A view of `x` of rank 4; copies only what a view cannot describe.
    pub fn new(x: &FlexTensor) -> Self {
        let strides = x.layout().strides();
        let readable =
            strides.iter().all(|s| *s >= 0) && (strides[3] == 1 || x.layout().shape()[3] == 1);
        let tensor = if readable { x.clone() } else { x.to_contiguous() };
        let dims = tensor.layout().shape().dims::<4>();
        let strides = core::array::from_fn(|axis| tensor.layout().strides()[axis] as usize);
        Self { tensor, dims, strides }
    }

    fn from(&self, [b, h, t]: [usize; 3]) -> &[f32] {
        let at = b * self.strides[0] + h * self.strides[1] + t * self.strides[2];
        &self.tensor.storage()[self.tensor.layout().start_offset() + at..]
    }

    /// The channels of head `h` at position `t` of batch row `b`.
    #[inline(always)]
    pub fn row(&self, b: usize, h: usize, t: usize) -> &[f32] {
        &self.from([b, h, t])[..self.dims[3]]
    }

    /// Head `h` of batch row `b` as a matrix `[T, hd]`.
    pub fn matrix(&self, b: usize, h: usize) -> Matrix<'_> {
        let [_, _, rows, columns] = self.dims;
        let data = self.from([b, h, 0]);
        Matrix { data, rows, columns, row_stride: self.strides[2], column_stride: 1 }
    }
}

/// A stream `[B, T, H·hd]` in memory, seen as `[B, H, T, hd]`.
pub(crate) fn streamed(data: Vec<f32>, [b, h, t, hd]: [usize; 4]) -> FlexTensor {
    let strides = [t * h * hd, hd, h * hd, 1].map(|s| s as isize);
    let layout = Layout::new(Shape::new([b, h, t, hd]), strides.to_vec(), 0);
    FlexTensor::new(Bytes::from_elems(data), layout, DType::F32)
}

/// Matrices `[T, hd]` of every batch row and head, in that order, as a streamed `[B, H, T, hd]`.
pub(crate) fn joined(parts: &[&[f32]], dims: [usize; 4]) -> FlexTensor {
    let [b, h, t, hd] = dims;
    assert_eq!(parts.len(), b * h, "one part for each head");
    let mut data = Vec::with_capacity(b * h * t * hd);
    for (batch, i) in (0..b * t).map(|n| (n / t, n % t)) {
        for part in &parts[batch * h..(batch + 1) * h] {
            data.extend_from_slice(&part[i * hd..(i + 1) * hd]);
        }
    }
    streamed(data, dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plumbing::cpu::tensor;

    #[test]
    fn a_view_reads_what_the_tensor_says() {
        let [b, h, t, hd] = [2, 3, 5, 4];
        let stream = tensor((0..b * t * h * hd).map(|i| i as f32).collect(), [b, t, h, hd]);
        let x = stream.permute(&[0, 2, 1, 3]).narrow(2, 1, 3);
        let expected = x.to_contiguous();
        let heads = Heads::new(&x);
        assert_eq!(heads.dims, [b, h, 3, hd]);
        for (n, row) in expected.storage::<f32>().chunks(hd).enumerate() {
            assert_eq!(heads.row(n / 3 / h, n / 3 % h, n % 3), row);
        }
        let flipped = Heads::new(&stream.permute(&[0, 2, 3, 1]));
        assert_eq!(flipped.row(0, 1, 2), [6.0, 18.0, 30.0, 42.0, 54.0]);
    }

    #[test]
    fn joined_heads_are_a_stream() {
        let parts: Vec<Vec<f32>> = (0..6).map(|n| vec![n as f32; 10]).collect();
        let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        let x = joined(&parts, [2, 3, 5, 2]);
        assert!(x.permute(&[0, 2, 1, 3]).is_contiguous());
        assert_eq!(&x.storage::<f32>()[..7], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 0.0]);
        let back = x.to_contiguous();
        assert_eq!(&back.storage::<f32>()[50..], parts[5]);
    }
}
