//! Tensors `[B, H, T, hd]`: heads that share others, and what kernels take, which is any memory order
//! as long as the channels of a head stand side by side.

#[cfg(feature = "cube")]
pub(crate) use kernels::{channels_at_once, empty_like, heads, row};

use burn::tensor::Tensor;

/// `x` `[B, Hk, T, hd]` as `[B, heads, T, hd]`, each head repeated `heads / Hk` times in a row.
pub(crate) fn repeat_heads<B: burn::tensor::backend::Backend>(
    x: Tensor<B, 4>,
    heads: usize,
) -> Tensor<B, 4> {
    let [b, hk, t, hd] = x.dims();
    if hk == heads {
        return x;
    }
    x.reshape([b, hk, 1, t, hd]).expand([b, hk, heads / hk, t, hd]).reshape([b, heads, t, hd])
}

/// The reverse of [`repeat_heads`]: sums each group of heads.
pub(crate) fn sum_groups<B: burn::tensor::backend::Backend>(
    x: Tensor<B, 4>,
    groups: usize,
) -> Tensor<B, 4> {
    let [b, h, t, hd] = x.dims();
    if h == groups {
        return x;
    }
    x.reshape([b, groups, h / groups, t, hd]).sum_dim(2).squeeze_dim(2)
}

#[cfg(feature = "cube")]
mod kernels {
    use burn::tensor::DType;
    use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
    use cubecl::prelude::*;

    use crate::plumbing::cube::{contiguous, empty};

    /// `x` as `dtype`, a copy unless its channels stand side by side.
    pub(crate) fn heads<R: CubeRuntime>(x: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
        let x = if x.dtype == dtype { x } else { burn_cubecl::kernel::cast(x, dtype) };
        if x.meta.shape()[3] == 1 || x.meta.strides()[3] == 1 { x } else { contiguous(x) }
    }

    /// How many channels of each of `tensors`, all of one type, a unit can load at once: up to four.
    pub(crate) fn channels_at_once<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> usize {
        let first = tensors[0];
        let fits = |n: usize| {
            tensors.iter().all(|x| {
                let axes = x.meta.shape().iter().zip(x.meta.strides().iter()).take(3);
                let rows =
                    axes.filter(|(length, _)| **length > 1).all(|(_, s)| s.is_multiple_of(n));
                rows && x.meta.shape()[3].is_multiple_of(n)
            })
        };
        let sizes = first.client.io_optimized_vector_sizes(first.dtype.size());
        sizes.filter(|n| *n <= 4 && fits(*n)).max().unwrap_or(1)
    }

    /// A new tensor of the shape and, if that has no gaps, the memory order of `x`: what follows may
    /// see it through the same swapped axes.
    pub(crate) fn empty_like<R: CubeRuntime>(x: &CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
        let (shape, strides) = (x.meta.shape(), x.meta.strides());
        let mut order: Vec<usize> = (0..shape.num_dims()).collect();
        order.sort_by_key(|&axis| core::cmp::Reverse((strides[axis], shape[axis])));
        let ordered: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &axis)| back[axis] = at);
        let last = shape.num_dims() - 1;
        if order[last] != last {
            return empty(x, shape.clone(), dtype);
        }
        let mut new = empty(x, ordered, dtype);
        new.meta.permute(&back).expect("a permutation of the axes");
        new
    }

    /// Index of the first vector of a row of `x`.
    #[cube]
    pub(crate) fn row<F: Float, N: Size>(
        x: &Tensor<Vector<F, N>>,
        batch: usize,
        head: usize,
        step: usize,
    ) -> usize {
        (batch * x.stride(0) + head * x.stride(1) + step * x.stride(2)) / N::value()
    }
}
