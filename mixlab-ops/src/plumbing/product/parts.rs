//! The sum of products of parts of the depth.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{empty, narrow, spread, vector_size};

/// The sum over parts: `[parts, …]` to one.
#[cube(launch_unchecked)]
fn sum_parts_kernel<F: Float, N: Size>(
    parts: &Array<Vector<f32, N>>,
    sum: &mut Array<Vector<F, N>>,
    matrix: u32,
    count: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < sum.len() {
        let (matrix, count) = (matrix as usize, count as usize);
        let first = ABSOLUTE_POS / matrix * matrix * count + ABSOLUTE_POS % matrix;
        let mut total = parts[first];
        for part in 1..count {
            total += parts[first + part * matrix];
        }
        sum[ABSOLUTE_POS] = Vector::cast_from(total);
    }
}

/// `parts` `[batch · count, m, n]` as `shape`, which holds `batch` matrices: each the sum, in order,
/// of `count` neighbours.
pub(super) fn sum_parts<R: CubeRuntime>(
    parts: CubeTensor<R>,
    count: usize,
    shape: Vec<usize>,
    dtype: DType,
) -> CubeTensor<R> {
    let sum = empty(&parts, shape, dtype);
    let rank = sum.meta.shape().num_dims();
    let matrix = sum.meta.shape()[rank - 2] * sum.meta.shape()[rank - 1];
    let size = vector_size(&parts);
    let (cubes, cube) = spread(sum.meta.num_elements() / size, 256);
    let client = sum.client.clone();
    // SAFETY: `parts` has `count` times as many elements as `sum`, and units past its end stop.
    unsafe {
        sum_parts_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            parts.into_array_arg(),
            sum.clone().into_array_arg(),
            narrow(matrix / size),
            narrow(count),
            dtype.into(),
        );
    }
    sum
}
