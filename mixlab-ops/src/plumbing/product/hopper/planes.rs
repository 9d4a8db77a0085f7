//! 32-bit floats as sums of three bfloat16s: the way of f32 to matrix instructions.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, empty, narrow, spread};
use crate::plumbing::product::transposed;

/// Planes of a 32-bit float: three times the 8 bits of a bfloat16's mantissa.
pub const PLANES: usize = 3;

/// Plane `p` of `[rows, width]` matrices: what planes before it lack of `x`, as bfloat16s. Rows of the
/// planes are `to_row` long. Lengths are in vectors.
#[cube(launch_unchecked)]
fn planes_kernel<F: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    planes: &mut Array<Vector<F, N>>,
    rows: u32,
    width: u32,
    from_row: u32,
    from_matrix: u32,
    to_row: u32,
    plane: u32,
    #[define(F)] _dtype: StorageType,
) {
    let (row, column) = (ABSOLUTE_POS / width as usize, ABSOLUTE_POS % width as usize);
    let to = row * to_row as usize + column;
    if to < plane as usize {
        let (matrix, row) = (row / rows as usize, row % rows as usize);
        let mut rest = x[matrix * from_matrix as usize + row * from_row as usize + column];
        #[unroll]
        for p in 0..comptime!(PLANES) {
            let part = Vector::<F, N>::cast_from(rest);
            planes[p * plane as usize + to] = part;
            rest -= Vector::cast_from(part);
        }
    }
}

/// `x` `[…, n, k]` in f32 as [`PLANES`] planes `[planes · …, n, k]`, one after the other, that lie as
/// the copy engine reads them.
pub fn planes<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let rank = x.meta.shape().num_dims();
    let [n, k] = [x.meta.strides()[rank - 2], x.meta.strides()[rank - 1]];
    if n == 1 && k != 1 {
        return transposed(planes(transposed(x)));
    }
    let x = if k == 1 { x } else { contiguous(x) };
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let [rows, width, from_row] = [shape[rank - 2], shape[rank - 1], strides[rank - 2]];
    let (batch, from_matrix) = if rank == 3 { (shape[0], strides[0]) } else { (1, 0) };
    let to_row = width.next_multiple_of(16 / DType::BF16.size());
    let mut y = empty(&x, [PLANES * batch, rows, to_row], DType::BF16);
    let start = x.handle.offset_start.unwrap_or(0) as usize / x.elem_size();
    let whole = |n: &usize| {
        [width, from_row, from_matrix, start].iter().all(|length| length.is_multiple_of(*n))
    };
    let size = [4, 2].into_iter().find(whole).unwrap_or(1);
    let (cubes, cube) = spread(batch * rows * width / size, 256);
    let client = x.client.clone();
    let length = |elements: usize| narrow(elements / size);
    // SAFETY: rows of `x` are as long as these strides say, and those of a plane no shorter; units
    // past the last row stop.
    unsafe {
        planes_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            x.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(rows),
            length(width),
            length(from_row),
            length(from_matrix),
            length(to_row),
            length(batch * rows * to_row),
            DType::BF16.into(),
        );
    }
    y.meta.shape = [PLANES * batch, rows, width].into();
    y
}
