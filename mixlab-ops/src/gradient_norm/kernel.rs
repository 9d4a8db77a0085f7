//! Kernels: a cube of 256 units for each partial sum, added up in a fixed order.

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::PARTS;
use crate::plumbing::cube::{contiguous, cubes, empty, flat_vector_size, per_launch};
use crate::plumbing::reduce::cube_sum;

const UNITS: usize = 256;

#[cube(launch_unchecked)]
fn add_squares_kernel<N: Size>(
    before: &Array<f32>,
    tensors: &Sequence<Array<Vector<f32, N>>>,
    after: &mut Array<f32>,
    #[comptime] count: usize,
) {
    let step = PARTS.comptime() * UNITS.comptime();
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..count {
        let x = tensors.index(k);
        let mut at = ABSOLUTE_POS;
        while at < x.len() {
            let square = x[at] * x[at];
            #[unroll]
            for i in 0..N::value() {
                sum += square[i];
            }
            at += step;
        }
    }
    let sum = cube_sum(sum, UNITS);
    if UNIT_POS == 0 {
        after[CUBE_POS] = before[CUBE_POS] + sum;
    }
}

#[cube(launch_unchecked)]
fn factor_kernel(parts: &Array<f32>, out: &mut Array<f32>, bound: f32) {
    let unit = UNIT_POS as usize;
    let mut partial = 0.0f32;
    if unit < parts.len() {
        partial = parts[unit];
    }
    let sum = cube_sum(partial, UNITS);
    if unit == 0 {
        let norm = f32::sqrt(sum);
        // By its bits: some drivers assume that no number is infinite or NaN.
        let exponent = u32::reinterpret(sum) & 0x7f80_0000u32;
        out[0] = select(exponent == 0x7f80_0000u32, -1.0f32, min(bound / (norm + 1e-6), 1.0f32));
        out[1] = norm;
    }
}

/// The first of `inputs` with the squares of the others added.
pub(super) fn add_squares<R: CubeRuntime>(inputs: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let mut inputs = inputs.into_iter();
    let mut parts = inputs.next().expect("the partial sums");
    let tensors: Vec<_> = inputs.map(|x| contiguous(cast(x, DType::F32))).collect();
    let client = parts.client.clone();
    for tensors in tensors.chunks(per_launch(&parts, 1, 2)) {
        let after = empty(&parts, [PARTS], DType::F32);
        let size = tensors.iter().map(flat_vector_size).min().expect("chunks are not empty");
        // SAFETY: there are `PARTS` cubes and as many partial sums, and each tensor is read within
        // its length.
        unsafe {
            add_squares_kernel::launch_unchecked::<R>(
                &client,
                cubes(PARTS),
                CubeDim::new_1d(UNITS as u32),
                size,
                parts.into_array_arg(),
                tensors.iter().cloned().map(CubeTensor::into_array_arg).collect(),
                after.clone().into_array_arg(),
                tensors.len(),
            );
        }
        parts = after;
    }
    parts
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
