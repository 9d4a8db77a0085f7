//! Products of tiles in shared memory, one block of four by four numbers a unit.
//!
//! A cube has [`ROWS`] rows of a head, queries or keys, and walks along the other ones in tiles of
//! [`COLUMNS`]. Unit `u` has rows `4⌊u/8⌋…` and columns `4(u mod 8)…` of a tile of scores, and as
//! many channels of each [`DEPTH`] of the sums.

use cubecl::prelude::*;

use crate::plumbing::heads::row;

/// Rows of a cube.
pub(super) const ROWS: usize = 64;
/// Rows of the other side that are looked at together.
pub(super) const COLUMNS: usize = 32;
/// Channels in shared memory at once.
pub(super) const DEPTH: usize = 32;
/// Units of a cube.
pub(super) const UNITS: usize = 128;
/// Rows of units.
const ROW_QUADS: usize = ROWS / 4;
/// Units of a row.
pub(super) const ACROSS: usize = COLUMNS / 4;

/// Four numbers side by side.
pub(super) type Quad = Vector<f32, Const<4>>;

/// Sizes of the tensors of a launch.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    /// `H`.
    pub heads: u32,
    /// `Hk`.
    pub groups: u32,
    /// `Tq`.
    pub queries: u32,
    /// `Tk`.
    pub keys: u32,
    /// `hd`.
    pub width: u32,
    /// Tiles of rows that a head has.
    pub tiles: u32,
    /// Cubes that have work.
    pub cubes: u32,
}

/// A head of a tensor, as one operand of products.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Head {
    pub batch: usize,
    pub head: usize,
    /// How many rows it has.
    pub rows: usize,
    /// How many channels.
    pub width: usize,
}

/// The shared memory of a cube, 26 KB.
#[derive(CubeType)]
pub(super) struct Buffers {
    /// Rows, transposed: `[DEPTH, ROWS]`.
    pub rows: SharedMemory<Quad>,
    /// Columns, transposed: `[DEPTH, COLUMNS]`.
    pub columns: SharedMemory<Quad>,
    /// Weights, transposed: `[COLUMNS, ROWS]`.
    pub weights: SharedMemory<Quad>,
    /// What the weights multiply: `[COLUMNS, DEPTH]`.
    pub values: SharedMemory<Quad>,
    /// A number of each unit for each of its rows: `[ROWS, ACROSS]`.
    pub scratch: SharedMemory<f32>,
}

#[cube]
pub(super) fn buffers() -> Buffers {
    Buffers {
        rows: SharedMemory::new(comptime!(DEPTH * ROW_QUADS)),
        columns: SharedMemory::new(comptime!(DEPTH * ACROSS)),
        weights: SharedMemory::new(comptime!(COLUMNS * ROW_QUADS)),
        values: SharedMemory::new(comptime!(COLUMNS * DEPTH / 4)),
        scratch: SharedMemory::new(comptime!(ROWS * ACROSS)),
    }
}

/// Channels `channel…` of row `step`. Past the last row, that one; past the last channel, zero.
///
/// Without a branch, which would wait for the load.
#[cube]
pub(super) fn quad<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    head: Head,
    step: usize,
    channel: usize,
) -> Quad {
    let mut out = Quad::new(0.0f32);
    let size = N::value();
    let at = row(x, head.batch, head.head, min(step, head.rows - 1));
    #[unroll]
    for i in 0..comptime!(4 / size) {
        let wanted = channel + i * size;
        let there = select(wanted < head.width, 1.0f32, 0.0f32);
        let v = x[at + min(wanted, head.width - size) / size];
        #[unroll]
        for n in 0..size {
            out[i * size + n] = f32::cast_from(v[n]) * there;
        }
    }
    out
}

/// Writes channels `channel…` of row `step`, unless they are outside of the head.
#[cube]
pub(super) fn store<F: Float, N: Size>(
    x: &mut Tensor<Vector<F, N>>,
    head: Head,
    step: usize,
    channel: usize,
    values: Quad,
) {
    let size = N::value();
    if step < head.rows {
        let at = row(x, head.batch, head.head, step);
        #[unroll]
        for i in 0..comptime!(4 / size) {
            if channel + i * size < head.width {
                let mut v = Vector::<F, N>::empty();
                #[unroll]
                for n in 0..size {
                    v[n] = F::cast_from(values[i * size + n]);
                }
                x[at + channel / size + i] = v;
            }
        }
    }
}

/// [`DEPTH`] channels of the `4 · quads` rows from `first` on, transposed.
#[cube]
fn load_transposed<F: Float, N: Size>(
    to: &mut SharedMemory<Quad>,
    x: &Tensor<Vector<F, N>>,
    head: Head,
    first: usize,
    channel: usize,
    #[comptime] quads: usize,
) {
    let unit = UNIT_POS as usize;
    if unit < comptime!(quads * DEPTH / 4) {
        let (four, depth) = (unit % quads, unit / quads * 4);
        let step = first + four * 4;
        let a = quad(x, head, step, channel + depth);
        let b = quad(x, head, step + 1, channel + depth);
        let c = quad(x, head, step + 2, channel + depth);
        let d = quad(x, head, step + 3, channel + depth);
        #[unroll]
        for i in 0..4usize {
            let mut across = Quad::empty();
            across[0] = a[i];
            across[1] = b[i];
            across[2] = c[i];
            across[3] = d[i];
            to[(depth + i) * quads + four] = across;
        }
    }
}

/// Adds `rows · columnsᵀ` over all channels to the unit's block, one quad a row.
#[cube]
pub(super) fn multiply<F: Float, N: Size>(
    block: &mut Array<Quad>,
    buffers: &mut Buffers,
    rows: &Tensor<Vector<F, N>>,
    columns: &Tensor<Vector<F, N>>,
    of_rows: Head,
    of_columns: Head,
    first_row: usize,
    first_column: usize,
    #[comptime] slices: usize,
) {
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
    for slice in 0..slices {
        let channel = slice * DEPTH.comptime();
        load_transposed(&mut buffers.rows, rows, of_rows, first_row, channel, ROW_QUADS);
        load_transposed(&mut buffers.columns, columns, of_columns, first_column, channel, ACROSS);
        sync_cube();
        for k in 0..DEPTH.comptime() {
            let a = buffers.rows[k * ROW_QUADS.comptime() + down];
            let b = buffers.columns[k * ACROSS.comptime() + across];
            #[unroll]
            for i in 0..4usize {
                block[i] += Quad::new(a[i]) * b;
            }
        }
        sync_cube();
    }
}

/// Puts the unit's block of weights into shared memory.
#[cube]
pub(super) fn put_weights(block: &Array<Quad>, buffers: &mut Buffers) {
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
    #[unroll]
    for j in 0..4usize {
        let mut column = Quad::empty();
        #[unroll]
        for i in 0..4usize {
            column[i] = block[i][j];
        }
        buffers.weights[(across * 4 + j) * ROW_QUADS.comptime() + down] = column;
    }
}

/// Adds weights times the [`COLUMNS`] rows of `x` from `first` on to `sums`: of each slice of
/// [`DEPTH`] channels, the unit has four rows of a quad.
#[cube]
pub(super) fn accumulate<F: Float, N: Size>(
    sums: &mut Array<Quad>,
    buffers: &mut Buffers,
    x: &Tensor<Vector<F, N>>,
    head: Head,
    first: usize,
    #[comptime] slices: usize,
) {
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
    #[unroll]
    for slice in 0..slices {
        #[unroll]
        for i in 0..comptime!(COLUMNS * DEPTH / 4 / UNITS) {
            let at = i * UNITS.comptime() + unit;
            let (step, channel) = (at / comptime!(DEPTH / 4), at % comptime!(DEPTH / 4) * 4);
            buffers.values[at] = quad(x, head, first + step, comptime!(slice * DEPTH) + channel);
        }
        sync_cube();
        for k in 0..COLUMNS.comptime() {
            let a = buffers.weights[k * ROW_QUADS.comptime() + down];
            let b = buffers.values[k * comptime!(DEPTH / 4) + across];
            #[unroll]
            for i in 0..4usize {
                sums[slice * 4 + i] += Quad::new(a[i]) * b;
            }
        }
        sync_cube();
    }
}

/// Writes `sums`, as [`accumulate`] left them, to the rows from `first` on.
#[cube]
pub(super) fn store_sums<F: Float, N: Size>(
    x: &mut Tensor<Vector<F, N>>,
    sums: &Array<Quad>,
    head: Head,
    first: usize,
    #[comptime] slices: usize,
) {
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
    #[unroll]
    for slice in 0..slices {
        #[unroll]
        for i in 0..4usize {
            let channel = comptime!(slice * DEPTH) + across * 4;
            store(x, head, first + down * 4 + i, channel, sums[slice * 4 + i]);
        }
    }
}

/// `count` quads of zeros.
#[cube]
pub(super) fn zeros(#[comptime] count: usize) -> Array<Quad> {
    let mut quads = Array::<Quad>::new(count);
    #[unroll]
    for i in 0..count {
        quads[i] = Quad::new(0.0f32);
    }
    quads
}
