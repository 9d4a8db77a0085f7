//! Kernels: a cube of 256 units for each partial sum, added up in a fixed order.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::PARTS;
use crate::plumbing::cube::{contiguous, cubes, empty, vector_size};
use crate::plumbing::reduce::cube_sum;

const UNITS: usize = 256;

#[cube(launch_unchecked)]
fn add_squares_kernel<F: Float, N: Size>(
    before: &Array<f32>,
    x: &Array<Vector<F, N>>,
    after: &mut Array<f32>,
    #[define(F)] _dtype: StorageType,
) {
    let step = PARTS.comptime() * UNITS.comptime();
    let mut at = ABSOLUTE_POS;
    let mut sum = 0.0f32;
    while at < x.len() {
        let v = Vector::<f32, N>::cast_from(x[at]);
        let square = v * v;
        #[unroll]
        for i in 0..N::value() {
            sum += square[i];
        }
        at += step;
    }
    let sum = cube_sum(sum, UNITS);
    if UNIT_POS == 0 {
        after[CUBE_POS] = before[CUBE_POS] + sum;
    }
}

#[cube(launch_unchecked)]
fn factor_kernel(parts: &Array<f32>, out: &mut Array<f32>, bound: f32) {
    let unit = UNIT_POS as usize;
    let mut mine = 0.0f32;
    if unit < parts.len() {
        mine = parts[unit];
    }
    let sum = cube_sum(mine, UNITS);
    if unit == 0 {
        let norm = f32::sqrt(sum);
        // By its bits: some drivers assume that no number is infinite or NaN.
        let exponent = u32::reinterpret(sum) & 0x7f80_0000u32;
        out[0] = select(exponent == 0x7f80_0000u32, -1.0f32, min(bound / (norm + 1e-6), 1.0f32));
        out[1] = norm;
    }
}

/// `parts` with the squares of `x` added.
pub(super) fn add_squares<R: CubeRuntime>(parts: CubeTensor<R>, x: CubeTensor<R>) -> CubeTensor<R> {
    let x = contiguous(x);
    let after = empty(&parts, [PARTS], DType::F32);
    let (client, size, dtype) = (x.client.clone(), vector_size(&x), x.dtype);
    // SAFETY: there are `PARTS` cubes and as many partial sums, and `x` is read within its length.
    unsafe {
        add_squares_kernel::launch_unchecked::<R>(
            &client,
            cubes(PARTS),
            CubeDim::new_1d(UNITS as u32),
            size,
            parts.into_array_arg(),
            x.into_array_arg(),
            after.clone().into_array_arg(),
            dtype.into(),
        );
    }
    after
}

/// `[factor, norm]` from the partial sums.
pub(super) fn factor<R: CubeRuntime>(parts: CubeTensor<R>, bound: f32) -> CubeTensor<R> {
    let out = empty(&parts, [2], DType::F32);
    let client = parts.client.clone();
    // SAFETY: one cube of more units than there are parts, and two numbers out.
    unsafe {
        factor_kernel::launch_unchecked::<R>(
            &client,
            cubes(1),
            CubeDim::new_1d(UNITS as u32),
            parts.into_array_arg(),
            out.clone().into_array_arg(),
            bound.min(f32::MAX),
        );
    }
    out
}
