//! Products of tiles in shared memory.
//!
//! Quads of a line are turned: quad `c` of a row lies at `c ^ y` for the unit row `y` (mod 8) that
//! has it, that of a column at `c ^ x`. So the units of a plane read from different banks.

use cubecl::prelude::*;

use super::tile::{COLUMNS, Tile};
use crate::plumbing::heads::row;

/// Quads of a row of weights.
const WEIGHTS: usize = COLUMNS / 4;
/// Quads that a plane can read from different banks at once.
const BANKS: usize = 8;

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

/// What a cube has in shared memory besides its rows.
#[derive(CubeType)]
pub(super) struct Buffers {
    /// A slice of columns.
    pub columns: SharedMemory<Quad>,
    /// `[rows, COLUMNS]`; or a quad of each unit.
    pub weights: SharedMemory<Quad>,
}

#[cube]
pub(super) fn buffers(#[comptime] tile: Tile) -> Buffers {
    Buffers {
        columns: SharedMemory::new(comptime!(COLUMNS * tile.line())),
        weights: SharedMemory::new(comptime!(tile.rows * WEIGHTS)),
    }
}

/// Where a unit stands in its cube: from the left, and from the top.
#[cube]
pub(super) fn place(#[comptime] tile: Tile) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    (unit % tile.across, unit / tile.across)
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

/// The rows of a cube, from `first` on, slice by slice.
#[cube]
pub(super) fn rows_of<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    head: Head,
    first: usize,
    #[comptime] tile: Tile,
) -> SharedMemory<Quad> {
    let line = comptime!(tile.line());
    let whole = comptime!(tile.line() * tile.slices);
    let mut rows = SharedMemory::<Quad>::new(comptime!(tile.rows * whole));
    for n in 0..comptime!(tile.rows * whole / tile.units()) {
        let number = n * comptime!(tile.units()) + UNIT_POS as usize;
        let (step, channel) = (number / whole, number % whole);
        let turned = (channel % line) ^ (step % comptime!(tile.down()) % BANKS.comptime());
        let at = (channel / line * tile.rows + step) * line + turned;
        rows[at] = quad(x, head, first + step, channel * 4);
    }
    rows
}

/// A slice of the columns from `first` on into shared memory.
#[cube]
pub(super) fn load<F: Float, N: Size>(
    columns: &mut SharedMemory<Quad>,
    x: &Tensor<Vector<F, N>>,
    head: Head,
    first: usize,
    slice: usize,
    #[comptime] tile: Tile,
) {
    let (line, each) = comptime!((tile.line(), 4 * tile.quads()));
    let count = comptime!(COLUMNS * line / tile.units());
    let mut quads = Array::<Quad>::new(count);
    #[unroll]
    for n in 0..count {
        let number = comptime!(n * tile.units()) + UNIT_POS as usize;
        let channel = slice * tile.depth + number % line * 4;
        quads[n] = quad(x, head, first + number / line, channel);
    }
    #[unroll]
    for n in 0..count {
        let number = comptime!(n * tile.units()) + UNIT_POS as usize;
        let (column, owner) = (number / line, number / comptime!(line * each));
        let at = (column % each * tile.across + owner) * line;
        columns[at + ((number % line) ^ owner)] = quads[n];
    }
}

/// Adds `rows · columnsᵀ` over a slice of channels to the unit's block: quads of columns, row by row.
#[cube]
pub(super) fn multiply(
    block: &mut Array<Quad>,
    rows: &SharedMemory<Quad>,
    columns: &SharedMemory<Quad>,
    slice: usize,
    #[comptime] tile: Tile,
) {
    let (line, quads) = comptime!((tile.line(), tile.quads()));
    let (x, y) = place(tile);
    let (row, column) = ((slice * tile.rows + y) * line, x * line);
    let turn = y % BANKS.comptime();
    let mut steps = Array::<Quad>::new(comptime!(4 * quads));
    for c in 0..line {
        let (row, column) = (row + (c ^ turn), column + (c ^ x));
        #[unroll]
        for n in 0..quads {
            let a = columns[column + comptime!(n * 4 * tile.across * line)];
            let b = columns[column + comptime!((n * 4 + 1) * tile.across * line)];
            let c = columns[column + comptime!((n * 4 + 2) * tile.across * line)];
            let d = columns[column + comptime!((n * 4 + 3) * tile.across * line)];
            #[unroll]
            for k in 0..4usize {
                let mut step = Quad::empty();
                step[0] = a[k];
                step[1] = b[k];
                step[2] = c[k];
                step[3] = d[k];
                steps[k * quads + n] = step;
            }
        }
        #[unroll]
        for i in 0..4usize {
            let value = rows[row + comptime!(i * tile.down() * line)];
            #[unroll]
            for k in 0..4usize {
                #[unroll]
                for n in 0..quads {
                    let at = comptime!(i * quads + n);
                    block[at] = fma(Quad::new(value[k]), steps[k * quads + n], block[at]);
                }
            }
        }
    }
}

/// Puts the unit's block of weights into shared memory.
#[cube]
pub(super) fn put_weights(
    weights: &mut SharedMemory<Quad>,
    block: &Array<Quad>,
    #[comptime] tile: Tile,
) {
    let quads = comptime!(tile.quads());
    let (x, y) = place(tile);
    let turn = y % BANKS.comptime();
    #[unroll]
    for i in 0..4usize {
        let row = (y + comptime!(i * tile.down())) * WEIGHTS.comptime();
        #[unroll]
        for n in 0..quads {
            weights[row + ((x * quads + n) ^ turn)] = block[i * quads + n];
        }
    }
}

/// Adds the weights times a slice of columns to `sums`: of each quad of channels, the unit's four
/// rows.
#[cube]
pub(super) fn accumulate(
    sums: &mut Array<Quad>,
    buffers: &Buffers,
    #[comptime] slice: usize,
    #[comptime] tile: Tile,
) {
    let (quads, channels) = comptime!((tile.quads(), tile.channels()));
    let (x, y) = place(tile);
    let turn = y % BANKS.comptime();
    let mut mine = Array::<Quad>::new(4usize);
    for s in 0..WEIGHTS.comptime() {
        #[unroll]
        for i in 0..4usize {
            let row = (y + comptime!(i * tile.down())) * WEIGHTS.comptime();
            mine[i] = buffers.weights[row + (s ^ turn)];
        }
        let owner = s / quads;
        let column = (s % quads * comptime!(4 * tile.across) + owner) * comptime!(tile.line());
        let column = column + (x ^ owner);
        #[unroll]
        for k in 0..4usize {
            #[unroll]
            for n in 0..channels {
                let skipped = comptime!((k * tile.line() + n) * tile.across);
                let value = buffers.columns[column + skipped];
                #[unroll]
                for i in 0..4usize {
                    let at = comptime!((slice * channels + n) * 4 + i);
                    sums[at] = fma(Quad::new(mine[i][k]), value, sums[at]);
                }
            }
        }
    }
}

/// Lets the units of a row see each other's quad: a number for each of their rows.
#[cube]
pub(super) fn exchange(weights: &mut SharedMemory<Quad>, mine: Quad) {
    weights[UNIT_POS as usize] = mine;
    sync_cube();
}

/// The largest number of each row that [`exchange`] showed.
#[cube]
pub(super) fn exchanged_max(weights: &SharedMemory<Quad>, #[comptime] tile: Tile) -> Quad {
    let (_, y) = place(tile);
    let mut most = weights[y * tile.across];
    #[unroll]
    for x in 1..comptime!(tile.across) {
        most = max(most, weights[y * tile.across + x]);
    }
    most
}

/// What [`exchange`] showed, added up over each row.
#[cube]
pub(super) fn exchanged_sum(weights: &SharedMemory<Quad>, #[comptime] tile: Tile) -> Quad {
    let (_, y) = place(tile);
    let mut sum = Quad::new(0.0f32);
    #[unroll]
    for x in 0..comptime!(tile.across) {
        sum += weights[y * tile.across + x];
    }
    sum
}

/// First of the channels of quad `n` of a slice that the unit has.
#[cube]
pub(super) fn channel(
    #[comptime] slice: usize,
    #[comptime] n: usize,
    #[comptime] tile: Tile,
) -> usize {
    let (x, _) = place(tile);
    comptime!(slice * tile.depth + n * tile.across * 4) + x * 4
}

/// Writes `sums`, as [`accumulate`] left them, to the rows from `first` on.
#[cube]
pub(super) fn store_sums<F: Float, N: Size>(
    to: &mut Tensor<Vector<F, N>>,
    sums: &Array<Quad>,
    head: Head,
    first: usize,
    #[comptime] tile: Tile,
) {
    let (_, y) = place(tile);
    #[unroll]
    for slice in 0..comptime!(tile.slices) {
        #[unroll]
        for n in 0..comptime!(tile.channels()) {
            #[unroll]
            for i in 0..4usize {
                let step = first + y + comptime!(i * tile.down());
                let sum = sums[comptime!((slice * tile.channels() + n) * 4 + i)];
                store(to, head, step, channel(slice, n, tile), sum);
            }
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
