//! Copies of operands that lie otherwise than Hopper's copy engine reads.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{empty, narrow, spread};

/// Rows and columns of the tiles that go through shared memory to be transposed, and units of a
/// cube; rows of a tile are one longer, so that its columns lie in different banks.
const TILE: usize = 32;
const TRANSPOSERS: usize = 256;

/// `to[b, c, r] = from[b, r, c]`; a cube takes a tile of matrix `CUBE_POS_Z`.
#[cube(launch_unchecked)]
fn transpose_kernel<F: Float>(
    from: &Array<F>,
    to: &mut Array<F>,
    rows: u32,
    columns: u32,
    from_row: u32,
    from_matrix: u32,
    to_row: u32,
    #[define(F)] _dtype: StorageType,
) {
    let pitch = comptime!(TILE + 1);
    let mut tile = SharedMemory::<F>::new(comptime!(TILE * (TILE + 1)));
    let (x, y) = (UNIT_POS as usize % TILE.comptime(), UNIT_POS as usize / TILE.comptime());
    let (rows, columns) = (rows as usize, columns as usize);
    let first_row = CUBE_POS_X as usize * TILE.comptime();
    let first_column = CUBE_POS_Y as usize * TILE.comptime();
    let matrix = CUBE_POS_Z as usize;
    #[unroll]
    for part in 0..comptime!(TILE * TILE / TRANSPOSERS) {
        let line = y + comptime!(part * TRANSPOSERS / TILE);
        let (row, column) = (first_row + line, first_column + x);
        if row < rows && column < columns {
            let at = matrix * from_matrix as usize + row * from_row as usize + column;
            tile[line * pitch + x] = from[at];
        }
    }
    sync_cube();
    #[unroll]
    for part in 0..comptime!(TILE * TILE / TRANSPOSERS) {
        let line = y + comptime!(part * TRANSPOSERS / TILE);
        let (row, column) = (first_row + x, first_column + line);
        if row < rows && column < columns {
            let at = (matrix * columns + column) * to_row as usize + row;
            to[at] = tile[x * pitch + line];
        }
    }
}

/// A copy of `x` `[…, n, k]`, whose neighbours along `n` are neighbours in memory, with those along
/// `k` next to each other and rows at multiples of `bytes`. `None` if `x` lies otherwise.
pub(super) fn transposed_copy<R: CubeRuntime>(
    x: &CubeTensor<R>,
    bytes: usize,
) -> Option<CubeTensor<R>> {
    let (shape, strides) = (x.meta.shape().to_vec(), x.meta.strides());
    let rank = shape.len();
    let (n, k, row) = (shape[rank - 2], shape[rank - 1], strides[rank - 1]);
    let (batch, matrix) = if rank == 3 { (shape[0], strides[0]) } else { (1, 0) };
    if strides[rank - 2] != 1 || rank > 3 {
        return None;
    }
    let padded = k.next_multiple_of(bytes / x.elem_size());
    let mut full = shape.clone();
    full[rank - 1] = padded;
    let y = empty(x, full, x.dtype);
    let tiles = |count: usize| narrow(count.div_ceil(TILE));
    let (client, dtype) = (x.client.clone(), x.dtype);
    // SAFETY: reads and writes stay within the rows and columns of each matrix, whose strides these
    // are.
    unsafe {
        transpose_kernel::launch_unchecked::<R>(
            &client,
            CubeCount::Static(tiles(k), tiles(n), narrow(batch)),
            CubeDim::new_1d(TRANSPOSERS as u32),
            x.clone().into_array_arg(),
            y.clone().into_array_arg(),
            narrow(k),
            narrow(n),
            narrow(row),
            narrow(matrix),
            narrow(padded),
            dtype.into(),
        );
    }
    let mut view = y;
    *view.meta.shape_mut() = shape.into();
    Some(view)
}

#[cube(launch_unchecked)]
fn pad_rows_kernel<F: Float>(
    x: &Array<F>,
    y: &mut Array<F>,
    width: u32,
    padded: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < x.len() {
        let (row, column) = (ABSOLUTE_POS / width as usize, ABSOLUTE_POS % width as usize);
        y[row * padded as usize + column] = x[ABSOLUTE_POS];
    }
}

/// A copy of `x`, a tensor without gaps, whose rows start at multiples of `bytes`.
pub(super) fn with_padded_rows<R: CubeRuntime>(x: CubeTensor<R>, bytes: usize) -> CubeTensor<R> {
    let mut shape = x.meta.shape().to_vec();
    let last = shape.len() - 1;
    let width = shape[last];
    let padded = width.next_multiple_of(bytes / x.elem_size());
    shape[last] = padded;
    let y = empty(&x, shape, x.dtype);
    let (cubes, cube) = spread(x.meta.num_elements(), 256);
    let (client, dtype, meta) = (x.client.clone(), x.dtype, x.meta.shape().clone());
    // SAFETY: every row of `y` is at least as long as a row of `x`.
    unsafe {
        pad_rows_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            x.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(width),
            narrow(padded),
            dtype.into(),
        );
    }
    let mut view = y;
    *view.meta.shape_mut() = meta;
    view
}
