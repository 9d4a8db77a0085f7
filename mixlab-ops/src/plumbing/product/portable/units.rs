//! The kernel for matrix units: a tile of the result in the matrices of a cube's planes.
//!
//! Stages of the depth go through shared memory as they lie; while one is multiplied the
//! next one is on its way to registers. The result leaves through shared memory, so that its edges
//! can be cut.

use cubecl::cmma::{Matrix, MatrixIdent, MatrixLayout, execute, load, store};
use cubecl::prelude::*;

use super::lines::{Lines, Sizes, place};
use super::packs::{Packing, Slab, fetch, put};
use super::tile::Tile;

/// Units of a plane.
pub(super) const WIDTH: usize = 32;

/// Elements of the largest square that a plane multiplies at once.
pub(super) const SQUARE: usize = 16 * 16;

/// A matrix unit: `[side, depth] · [depth, side]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unit {
    pub side: usize,
    pub depth: usize,
}

/// The fragment at `place` along the tile and step `deep` of the stage.
#[cube]
fn fragment<S: Numeric, F: Float, P: Size>(
    stage: &SharedMemory<Vector<S, P>>,
    place: usize,
    #[comptime] deep: usize,
    #[comptime] slab: Slab,
    #[comptime] ident: MatrixIdent,
    #[comptime] unit: Unit,
) -> Matrix<F> {
    let (pitch, pack) = comptime!((slab.pitch(), slab.packing.pack()));
    let start = if comptime!(slab.along) {
        place * pitch + comptime!(deep / pack)
    } else {
        comptime!(deep * pitch) + place / pack
    };
    let layout = comptime!(if slab.along == matches!(ident, MatrixIdent::A) {
        MatrixLayout::RowMajor
    } else {
        MatrixLayout::ColMajor
    });
    let side = comptime!(unit.side);
    // SAFETY: it is loaded before anything else.
    let matrix = unsafe { Matrix::<F>::uninitialized(ident, side, side, unit.depth, layout) };
    // In elements of the memory, whatever the matrix has.
    let step = comptime!((pitch * slab.packing.elements) as u32);
    load(&matrix, &stage.slice(start, comptime!(slab.held())), step);
    matrix
}

/// Part `p` of matrix `b` of `a b`, as matrix `b · parts + p` of `y`. Operands are halves of type `F`,
/// read as elements of type `S` ([`Packing`]), `P` to a pack; `of_a` and `of_b` count elements.
#[cube(launch_unchecked)]
pub(super) fn product<S: Numeric, F: Float, G: Float, P: Size, NA: Size, NB: Size, NY: Size>(
    a: &Array<Vector<S, NA>>,
    b: &Array<Vector<S, NB>>,
    y: &mut Array<Vector<G, NY>>,
    of_a: Lines,
    of_b: Lines,
    sizes: Sizes,
    #[comptime] tile: Tile,
    #[comptime] unit: Unit,
    #[comptime] packing: Packing,
    #[comptime] along: [bool; 2],
    #[define(S, F, G)] _types: [StorageType; 3],
) {
    if CUBE_POS < sizes.cubes as usize {
        let place = place(sizes, tile.rows, tile.columns);
        // Fragments of a plane, from top to bottom and from left to right.
        let side = comptime!(unit.side);
        let (planes, besides) = comptime!((tile.planes[0] * tile.planes[1], tile.planes[1]));
        let down = comptime!(tile.rows / tile.planes[0] / side);
        let across = comptime!(tile.columns / tile.planes[1] / side);
        let plane = UNIT_POS_Y as usize;
        let row = plane / besides * comptime!(down * side);
        let column = plane % besides * comptime!(across * side);

        let (from_a, from_b) =
            (place.matrix * of_a.matrix as usize, place.matrix * of_b.matrix as usize);
        let (a_slab, b_slab) = comptime!(tile.slabs(along, packing));
        let mut a_stage = SharedMemory::<Vector<S, P>>::new(comptime!(a_slab.held()));
        let mut b_stage = SharedMemory::<Vector<S, P>>::new(comptime!(b_slab.held()));
        let mut scratch = SharedMemory::<f32>::new(comptime!(planes * side * side));
        let mut a_next = Array::<Vector<S, P>>::new(comptime!(a_slab.each()));
        let mut b_next = Array::<Vector<S, P>>::new(comptime!(b_slab.each()));
        let mut sums = Sequence::<Matrix<f32>>::new();
        #[unroll]
        for _ in 0..comptime!(down * across) {
            sums.push(Matrix::<f32>::from_value(
                MatrixIdent::Accumulator,
                side,
                side,
                unit.depth,
                MatrixLayout::Undefined,
                0.0f32,
            ));
        }

        fetch(&mut a_next, a, of_a, from_a, place.row, place.stage, a_slab);
        fetch(&mut b_next, b, of_b, from_b, place.column, place.stage, b_slab);
        for stage in 0..place.stages {
            put(&mut a_stage, &a_next, a_slab);
            put(&mut b_stage, &b_next, b_slab);
            sync_cube();
            // Past the last stage it reads some other numbers, which nobody multiplies.
            let next = place.stage + stage + 1;
            fetch(&mut a_next, a, of_a, from_a, place.row, next, a_slab);
            fetch(&mut b_next, b, of_b, from_b, place.column, next, b_slab);
            #[unroll]
            for step in 0..comptime!(tile.stage / unit.depth) {
                let deep = comptime!(step * unit.depth);
                let mut columns = Sequence::<Matrix<F>>::new();
                #[unroll]
                for n in 0..across {
                    let at = column + n * side;
                    columns.push(fragment(&b_stage, at, deep, b_slab, MatrixIdent::B, unit));
                }
                #[unroll]
                for m in 0..down {
                    let at = row + m * side;
                    let rows =
                        fragment::<S, F, P>(&a_stage, at, deep, a_slab, MatrixIdent::A, unit);
                    #[unroll]
                    for n in 0..across {
                        let sum = sums.index(comptime!(m * across + n));
                        execute(&rows, columns.index(n), sum, sum);
                    }
                }
            }
            sync_cube();
        }

        let base = plane * comptime!(side * side);
        #[unroll]
        for m in 0..down {
            #[unroll]
            for n in 0..across {
                store(
                    &mut scratch.slice_mut(base, base + comptime!(side * side)),
                    sums.index(comptime!(m * across + n)),
                    comptime!(side as u32),
                    MatrixLayout::RowMajor,
                );
                sync_cube();
                let (top, left) = (place.row + row + m * side, place.column + column + n * side);
                write(y, &scratch, sizes, place.written, base, top, left, side);
                sync_cube();
            }
        }
    }
}

/// Writes the plane's square of scratch, as far as it lies in the result.
#[cube]
fn write<G: Float, N: Size>(
    y: &mut Array<Vector<G, N>>,
    scratch: &SharedMemory<f32>,
    sizes: Sizes,
    matrix: usize,
    base: usize,
    top: usize,
    left: usize,
    #[comptime] side: usize,
) {
    let size = N::value();
    let (rows, columns) = (sizes.rows as usize, sizes.columns as usize);
    let vectors = comptime!(side * side / size);
    #[unroll]
    for i in 0..comptime!((side * side / size).div_ceil(WIDTH)) {
        let number = UNIT_POS_X as usize + comptime!(i * WIDTH);
        let at = number * size;
        let (row, column) = (top + at / side, left + at % side);
        if number < vectors && row < rows && column < columns {
            let mut v = Vector::<G, N>::empty();
            #[unroll]
            for m in 0..size {
                v[m] = G::cast_from(scratch[base + at + m]);
            }
            y[((matrix * rows + row) * columns + column) / size] = v;
        }
    }
}
