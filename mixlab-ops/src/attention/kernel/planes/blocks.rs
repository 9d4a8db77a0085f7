//! Blocks of a head in shared memory, and the fragments that are read there.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::super::tiles::{Head, Quad};
use super::{Planes, SIDE};
use crate::plumbing::heads::row;

/// Four halves side by side.
pub(super) type Halves<F> = Vector<F, Const<4>>;

/// Channels `channel…` of row `step`. Past the last row, that one; past the last channel, zero.
///
/// Without a branch, which would wait for the load.
#[cube]
fn halves<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    head: Head,
    step: usize,
    channel: usize,
) -> Halves<F> {
    let mut out = Halves::<F>::new(F::new(0.0));
    let size = N::value();
    let at = row(x, head.batch, head.head, min(step, head.rows - 1));
    #[unroll]
    for i in 0..comptime!(4 / size) {
        let wanted = channel + i * size;
        let v = x[at + min(wanted, head.width - size) / size];
        #[unroll]
        for n in 0..size {
            out[i * size + n] = select(wanted < head.width, v[n], F::new(0.0));
        }
    }
    out
}

/// The unit's share of `rows` rows from `first` on, on their way to shared memory.
#[cube]
pub(super) fn fetch<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    head: Head,
    first: usize,
    #[comptime] rows: usize,
    #[comptime] planes: Planes,
) -> Array<Halves<F>> {
    let (line, units) = comptime!((planes.width / 4, planes.units()));
    let count = comptime!(rows * line / units);
    let mut to = Array::<Halves<F>>::new(count);
    #[unroll]
    for n in 0..count {
        let number = UNIT_POS as usize + comptime!(n * units);
        to[n] = halves(x, head, first + number / line, number % line * 4);
    }
    to
}

/// Puts what [`fetch`] got into shared memory.
#[cube]
pub(super) fn put<F: Float>(
    to: &mut SharedMemory<Halves<F>>,
    from: &Array<Halves<F>>,
    #[comptime] rows: usize,
    #[comptime] planes: Planes,
) {
    let (line, units) = comptime!((planes.width / 4, planes.units()));
    #[unroll]
    for n in 0..comptime!(rows * line / units) {
        let number = UNIT_POS as usize + comptime!(n * units);
        to[number / line * comptime!(planes.row_pitch()) + number % line] = from[n];
    }
}

/// The operand `ident` that starts at quad `start` of `from`, whose rows are `pitch` quads apart.
#[cube]
pub(super) fn operand<F: Float>(
    from: &SharedMemory<Halves<F>>,
    start: usize,
    #[comptime] pitch: usize,
    #[comptime] ident: MatrixIdent,
    #[comptime] layout: MatrixLayout,
) -> Matrix<F> {
    // SAFETY: it is loaded before anything else.
    let matrix = unsafe { Matrix::<F>::uninitialized(ident, SIDE, SIDE, SIDE, layout) };
    cmma::load(&matrix, &from.slice(start, from.len()), comptime!((4 * pitch) as u32));
    matrix
}

/// A fragment of zeros to add to.
#[cube]
pub(super) fn nothing() -> Matrix<f32> {
    Matrix::<f32>::from_value(
        MatrixIdent::Accumulator,
        SIDE,
        SIDE,
        SIDE,
        MatrixLayout::Undefined,
        0.0f32,
    )
}

/// As many as a row has channels for.
#[cube]
pub(super) fn nothings(#[comptime] planes: Planes) -> Sequence<Matrix<f32>> {
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(planes.channels()) {
        sums.push(nothing());
    }
    sums
}

/// The plane's rows of the cube's, from `first` on, through `block`.
#[cube]
pub(super) fn rows_of<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    block: &mut SharedMemory<Halves<F>>,
    head: Head,
    first: usize,
    #[comptime] planes: Planes,
) -> Sequence<Matrix<F>> {
    let pitch = comptime!(planes.row_pitch());
    let mine = fetch(x, head, first, comptime!(planes.rows()), planes);
    sync_cube();
    put(block, &mine, comptime!(planes.rows()), planes);
    sync_cube();
    let mut rows = Sequence::<Matrix<F>>::new();
    #[unroll]
    for c in 0..comptime!(planes.channels()) {
        let start = UNIT_POS_Y as usize * comptime!(SIDE * pitch) + comptime!(c * SIDE / 4);
        rows.push(operand(block, start, pitch, MatrixIdent::A, MatrixLayout::RowMajor));
    }
    sync_cube();
    rows
}

/// Puts `rows · columnsᵀ` into the plane's rows of `scores`.
#[cube]
pub(super) fn multiply<F: Float>(
    scores: &mut SharedMemory<Quad>,
    rows: &Sequence<Matrix<F>>,
    columns: &SharedMemory<Halves<F>>,
    #[comptime] planes: Planes,
) {
    let pitch = comptime!(planes.row_pitch());
    #[unroll]
    for n in 0..comptime!(planes.across()) {
        let sum = nothing();
        #[unroll]
        for c in 0..comptime!(planes.channels()) {
            let start = comptime!(n * SIDE * pitch + c * SIDE / 4).runtime();
            let column = operand(columns, start, pitch, MatrixIdent::B, MatrixLayout::ColMajor);
            cmma::execute(rows.index(c), &column, &sum, &sum);
        }
        show(scores, &sum, n, planes);
    }
}

/// Puts a sum into the plane's rows of `scores`, as their fragment `n`.
#[cube]
pub(super) fn show(
    scores: &mut SharedMemory<Quad>,
    sum: &Matrix<f32>,
    #[comptime] n: usize,
    #[comptime] planes: Planes,
) {
    let pitch = comptime!(planes.score_pitch());
    let start = UNIT_POS_Y as usize * comptime!(SIDE * pitch) + comptime!(n * SIDE / 4);
    cmma::store(
        &mut scores.slice_mut(start, comptime!(planes.rows() * pitch)),
        sum,
        comptime!((4 * pitch) as u32),
        MatrixLayout::RowMajor,
    );
}

/// Adds `weights · columns` to `sums`.
#[cube]
pub(super) fn accumulate<F: Float>(
    sums: &Sequence<Matrix<f32>>,
    weights: &SharedMemory<Halves<F>>,
    columns: &SharedMemory<Halves<F>>,
    #[comptime] planes: Planes,
) {
    let (pitch, weight_pitch) = comptime!((planes.row_pitch(), planes.weight_pitch()));
    #[unroll]
    for n in 0..comptime!(planes.across()) {
        let start = UNIT_POS_Y as usize * comptime!(SIDE * weight_pitch) + comptime!(n * SIDE / 4);
        let rows = operand(weights, start, weight_pitch, MatrixIdent::A, MatrixLayout::RowMajor);
        #[unroll]
        for c in 0..comptime!(planes.channels()) {
            let start = comptime!(n * SIDE * pitch + c * SIDE / 4).runtime();
            let column = operand(columns, start, pitch, MatrixIdent::B, MatrixLayout::RowMajor);
            cmma::execute(&rows, &column, sums.index(c), sums.index(c));
        }
    }
}

/// The unit's row of the cube's, and which half of the columns it has of it.
#[cube]
pub(super) fn place() -> (usize, usize) {
    let (unit, side) = (UNIT_POS_X as usize, SIDE.comptime());
    (UNIT_POS_Y as usize * side + unit % side, unit / side)
}

/// What the two units of a row have.
#[cube]
pub(super) fn both(shown: &SharedMemory<f32>) -> (f32, f32) {
    let (unit, side) = (UNIT_POS_X as usize, SIDE.comptime());
    let at = UNIT_POS_Y as usize * comptime!(2 * SIDE) + unit % side;
    (shown[at], shown[at + side])
}

/// The sum of what the two units of a row have.
#[cube]
pub(super) fn sum_of_both(shown: &mut SharedMemory<f32>, mine: f32) -> f32 {
    sync_cube();
    shown[UNIT_POS as usize] = mine;
    sync_cube();
    let (left, right) = both(shown);
    left + right
}
