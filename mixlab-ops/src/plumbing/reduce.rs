//! Sums in a fixed order: over the units of a cube, through shared memory and so the same on every
//! plane width, and over the first axis of a tensor.

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::cube::{empty, narrow, spread};

/// The sum of `mine` over the `units` (a power of two) units of a cube, in each of them, added up
/// in a fixed order.
#[cube]
pub(crate) fn cube_sum(mine: f32, #[comptime] units: usize) -> f32 {
    let mut shared = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = mine;
    let rounds = comptime!(units.ilog2());
    #[unroll]
    for round in 0..rounds {
        let half = comptime!(units >> (round + 1));
        sync_cube();
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
    }
    sync_cube();
    shared[0]
}

#[cube(launch_unchecked)]
fn sum_first_kernel<F: Float>(
    x: &Array<f32>,
    y: &mut Array<F>,
    rows: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < y.len() {
        let mut sum = 0.0f32;
        for row in 0..rows as usize {
            sum += x[row * y.len() + ABSOLUTE_POS];
        }
        y[ABSOLUTE_POS] = F::cast_from(sum);
    }
}

/// `x`, f32 and in row-major order, summed over its first axis, as `shape` and `dtype`.
pub(crate) fn sum_first<R: CubeRuntime>(
    x: CubeTensor<R>,
    shape: Shape,
    dtype: DType,
) -> CubeTensor<R> {
    let y = empty(&x, shape, dtype);
    let (rows, client) = (x.meta.shape()[0], x.client.clone());
    let (count, cube) = spread(y.meta.num_elements(), 128);
    // SAFETY: `x` has `rows` rows of as many elements as `y`, and units past the end do nothing.
    unsafe {
        sum_first_kernel::launch_unchecked::<R>(
            &client,
            count,
            cube,
            x.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(rows),
            dtype.into(),
        );
    }
    y
}
