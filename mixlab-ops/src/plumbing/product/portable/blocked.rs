//! The kernel without matrix units: a tile of the result in the registers of a cube, eight rows by
//! eight columns to a unit.
//!
//! Stages of [`STAGE`] of the depth go through shared memory as they lie, in quads along what is
//! contiguous: a fragment is eight quads for four steps of the depth either way. While one stage is
//! multiplied the next one is on its way to registers, and then to the other half of shared memory.

use cubecl::prelude::*;

use super::lines::{FOUR, Lines, Sizes, Slab, fetch, place};
use super::tile::Tile;

/// Four numbers side by side.
type Quad = Vector<f32, Const<4>>;

/// Steps of the depth in shared memory at a time, and quads along them.
pub(super) const STAGE: usize = 8;
const DEEP: usize = STAGE / FOUR;
/// Quads from one line along the depth to the next in shared memory: odd, so that the units of a
/// plane read different banks.
const PITCH: usize = DEEP + 1;

/// Where row or column `place` of a tile lies in shared memory if lines run along the depth: those
/// that the units of a plane read together are neighbours.
#[cube]
fn slot(place: usize, #[comptime] side: usize) -> usize {
    let around = comptime!(FOUR * side);
    let (half, rest) = (place / around, place % around);
    (half * FOUR.comptime() + rest % FOUR.comptime()) * side + rest / FOUR.comptime()
}

/// Puts what [`fetch`] got into shared memory, from quad `base` on; a tile has `side` units along the
/// slab.
#[cube]
fn put(
    to: &mut SharedMemory<Quad>,
    from: &Array<Quad>,
    base: usize,
    #[comptime] slab: Slab,
    #[comptime] side: usize,
) {
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        if comptime!(slab.along) {
            let place = slot(number / DEEP.comptime(), side);
            to[base + place * PITCH.comptime() + number % DEEP.comptime()] = from[n];
        } else {
            to[base + number] = from[n];
        }
    }
}

/// Quads of a stage in shared memory.
const fn held(slab: &Slab) -> usize {
    if slab.along { slab.wide * PITCH } else { slab.wide * STAGE / FOUR }
}

/// Four steps of the depth of the unit's columns, a quad of columns for each step and each of its
/// `quads`.
#[cube]
fn columns_of(
    to: &mut Array<Quad>,
    stage: &SharedMemory<Quad>,
    base: usize,
    deep: usize,
    x: usize,
    #[comptime] tile: Tile,
    #[comptime] along: bool,
) {
    let quads = comptime!(tile.quads);
    let side = comptime!(tile.across());
    #[unroll]
    for half in 0..quads {
        if comptime!(along) {
            let at = base + x * PITCH.comptime() + deep;
            let line = comptime!(side * PITCH);
            let a = stage[at + comptime!(half * FOUR) * line];
            let b = stage[at + comptime!(half * FOUR + 1) * line];
            let c = stage[at + comptime!(half * FOUR + 2) * line];
            let d = stage[at + comptime!(half * FOUR + 3) * line];
            #[unroll]
            for k in 0..4usize {
                let mut row = Quad::empty();
                row[0] = a[k];
                row[1] = b[k];
                row[2] = c[k];
                row[3] = d[k];
                to[k * quads + half] = row;
            }
        } else {
            let line = comptime!(tile.columns / FOUR);
            #[unroll]
            for k in 0..4usize {
                let at = base + (deep * FOUR.comptime() + k) * line + x;
                to[k * quads + half] = stage[at + half * side];
            }
        }
    }
}

/// Adds four steps of the depth to the unit's block.
#[cube]
fn multiply(
    block: &mut Array<Quad>,
    columns: &Array<Quad>,
    stage: &SharedMemory<Quad>,
    base: usize,
    deep: usize,
    y: usize,
    #[comptime] tile: Tile,
    #[comptime] along: bool,
) {
    let quads = comptime!(tile.quads);
    let side = comptime!(tile.down());
    #[unroll]
    for half in 0..quads {
        #[unroll]
        for i in 0..4usize {
            // Along the depth a quad is one row and four steps, across it four rows and one step.
            let value = if comptime!(along) {
                stage[base + (comptime!((half * FOUR + i) * side) + y) * PITCH.comptime() + deep]
            } else {
                let line = comptime!(tile.rows / FOUR);
                stage[base + (deep * FOUR.comptime() + i) * line + half * side + y]
            };
            #[unroll]
            for j in 0..4usize {
                let row = comptime!(half * FOUR + if along { i } else { j });
                let step = comptime!(if along { j } else { i });
                #[unroll]
                for n in 0..quads {
                    let at = comptime!(row * quads + n);
                    block[at] = fma(Quad::new(value[j]), columns[step * quads + n], block[at]);
                }
            }
        }
    }
}

/// Writes the unit's block, as far as it lies in the result.
#[cube]
fn store<G: Float, N: Size>(
    y: &mut Array<Vector<G, N>>,
    block: &Array<Quad>,
    sizes: Sizes,
    matrix: usize,
    row: usize,
    column: usize,
    #[comptime] tile: Tile,
) {
    let size = N::value();
    let (rows, columns) = (sizes.rows as usize, sizes.columns as usize);
    #[unroll]
    for i in 0..comptime!(tile.quads * FOUR) {
        let row = row + comptime!(i / FOUR * FOUR * tile.down() + i % FOUR);
        if row < rows {
            #[unroll]
            for n in 0..comptime!(tile.quads) {
                let values = block[i * tile.quads + n];
                #[unroll]
                for part in 0..comptime!(FOUR / size) {
                    let column = column + comptime!(n * FOUR * tile.across()) + part * size;
                    if column < columns {
                        let mut v = Vector::<G, N>::empty();
                        #[unroll]
                        for m in 0..size {
                            v[m] = G::cast_from(values[part * size + m]);
                        }
                        y[((matrix * rows + row) * columns + column) / size] = v;
                    }
                }
            }
        }
    }
}

/// Part `p` of matrix `b` of `a b`, as matrix `b · parts + p` of `y`.
#[cube(launch_unchecked)]
pub(super) fn product<F: Float, G: Float, NA: Size, NB: Size, NY: Size>(
    a: &Array<Vector<F, NA>>,
    b: &Array<Vector<F, NB>>,
    y: &mut Array<Vector<G, NY>>,
    of_a: Lines,
    of_b: Lines,
    sizes: Sizes,
    #[comptime] tile: Tile,
    #[comptime] a_along: bool,
    #[comptime] b_along: bool,
    #[define(F, G)] _types: [StorageType; 2],
) {
    if CUBE_POS < sizes.cubes as usize {
        let place = place(sizes, tile.rows, tile.columns);
        let unit = UNIT_POS as usize;
        // Planes of eight units by four read the fewest quads.
        let planes = comptime!(tile.across() / 8);
        let (plane, lane) = (unit / 32, unit % 32);
        let x = plane % planes * 8 + lane % 8;
        let y_unit = plane / planes * 4 + lane / 8;

        let (from_a, from_b) =
            (place.matrix * of_a.matrix as usize, place.matrix * of_b.matrix as usize);
        let (a_slab, b_slab) = comptime!((tile.of_rows(a_along), tile.of_columns(b_along)));
        let (a_held, b_held) = comptime!((held(&a_slab), held(&b_slab)));
        let (a_side, b_side) = comptime!((tile.down(), tile.across()));
        let mut a_stages = SharedMemory::<Quad>::new(comptime!(2 * a_held));
        let mut b_stages = SharedMemory::<Quad>::new(comptime!(2 * b_held));
        let mut a_next = Array::<Quad>::new(comptime!(a_slab.each()));
        let mut b_next = Array::<Quad>::new(comptime!(b_slab.each()));
        let mut columns = Array::<Quad>::new(comptime!(FOUR * tile.quads));
        let mut block = Array::<Quad>::new(comptime!(FOUR * tile.quads * tile.quads));
        #[unroll]
        for i in 0..comptime!(FOUR * tile.quads * tile.quads) {
            block[i] = Quad::new(0.0f32);
        }

        fetch(&mut a_next, a, of_a, from_a, place.row, place.stage, a_slab);
        fetch(&mut b_next, b, of_b, from_b, place.column, place.stage, b_slab);
        put(&mut a_stages, &a_next, 0usize, a_slab, a_side);
        put(&mut b_stages, &b_next, 0usize, b_slab, b_side);
        sync_cube();
        for stage in 0..place.stages {
            // Past the last stage it reads some other numbers, which nobody multiplies.
            let next = place.stage + stage + 1;
            fetch(&mut a_next, a, of_a, from_a, place.row, next, a_slab);
            fetch(&mut b_next, b, of_b, from_b, place.column, next, b_slab);
            let (a_now, b_now) = (stage % 2 * a_held, stage % 2 * b_held);
            #[unroll]
            for deep in 0..DEEP.comptime() {
                columns_of(&mut columns, &b_stages, b_now, deep, x, tile, b_along);
                multiply(&mut block, &columns, &a_stages, a_now, deep, y_unit, tile, a_along);
            }
            let (a_then, b_then) = (a_held - a_now, b_held - b_now);
            put(&mut a_stages, &a_next, a_then, a_slab, a_side);
            put(&mut b_stages, &b_next, b_then, b_slab, b_side);
            sync_cube();
        }
        let (row, column) = (place.row + y_unit * 4, place.column + x * 4);
        store(y, &block, sizes, place.written, row, column, tile);
    }
}
