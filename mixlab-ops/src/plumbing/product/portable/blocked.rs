//! The kernel without matrix units: a tile of the result in the registers of a cube, eight rows by
//! eight columns to a unit.
//!
//! Stages of the depth go through shared memory in quads across the depth, whichever way the operand
//! lies. While one stage is multiplied the next one is on its way to registers, and then to the other
//! half of shared memory.

use cubecl::prelude::*;

use super::lines::{FOUR, Lines, Sizes, Slab, fetch, fetch_turned, place};
use super::tile::Tile;

/// Four numbers side by side.
type Quad = Vector<f32, Const<4>>;

/// Quads from one step of the depth to the next in shared memory. Units that turned what they read
/// write neighbouring steps at once, and so to different banks.
const fn pitch(slab: &Slab) -> usize {
    slab.wide / FOUR + if slab.along { 1 } else { 0 }
}

/// Quads of a stage in shared memory.
pub(super) const fn held(slab: &Slab) -> usize {
    slab.stage * pitch(slab)
}

/// The unit's quads of a slab on their way to shared memory.
#[cube]
fn load<F: Float, N: Size>(
    to: &mut Array<Quad>,
    x: &Array<Vector<F, N>>,
    lines: Lines,
    start: usize,
    first: usize,
    stage: usize,
    #[comptime] slab: Slab,
) {
    if comptime!(slab.along) {
        fetch_turned(to, x, lines, start, first, stage, slab);
    } else {
        fetch(to, x, lines, start, first, stage, slab);
    }
}

/// Puts what [`load`] got into shared memory, from quad `base` on.
#[cube]
fn put(to: &mut SharedMemory<Quad>, from: &Array<Quad>, base: usize, #[comptime] slab: Slab) {
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        if comptime!(slab.along) {
            let stage = comptime!(slab.stage);
            let (step, group) = (number % stage, number / stage);
            to[base + step * comptime!(pitch(&slab)) + group] = from[n];
        } else {
            to[base + number] = from[n];
        }
    }
}

/// Adds the unit's rows times its columns of step `k`, whose first quads are `a` and `b`, to its
/// block.
#[cube]
fn multiply(
    block: &mut Array<Quad>,
    a_stage: &SharedMemory<Quad>,
    b_stage: &SharedMemory<Quad>,
    a: usize,
    b: usize,
    #[comptime] tile: Tile,
) {
    let quads = comptime!(tile.quads);
    let mut columns = Array::<Quad>::new(quads);
    #[unroll]
    for n in 0..quads {
        columns[n] = b_stage[b + comptime!(n * tile.across())];
    }
    #[unroll]
    for half in 0..quads {
        let rows = a_stage[a + comptime!(half * tile.down())];
        #[unroll]
        for i in 0..4usize {
            #[unroll]
            for n in 0..quads {
                let at = comptime!((half * FOUR + i) * quads + n);
                block[at] = fma(Quad::new(rows[i]), columns[n], block[at]);
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
        let mut a_stages = SharedMemory::<Quad>::new(comptime!(2 * a_held));
        let mut b_stages = SharedMemory::<Quad>::new(comptime!(2 * b_held));
        let mut a_next = Array::<Quad>::new(comptime!(a_slab.each()));
        let mut b_next = Array::<Quad>::new(comptime!(b_slab.each()));
        let mut block = Array::<Quad>::new(comptime!(FOUR * tile.quads * tile.quads));
        #[unroll]
        for i in 0..comptime!(FOUR * tile.quads * tile.quads) {
            block[i] = Quad::new(0.0f32);
        }

        load(&mut a_next, a, of_a, from_a, place.row, place.stage, a_slab);
        load(&mut b_next, b, of_b, from_b, place.column, place.stage, b_slab);
        put(&mut a_stages, &a_next, 0usize, a_slab);
        put(&mut b_stages, &b_next, 0usize, b_slab);
        sync_cube();
        for stage in 0..place.stages {
            // Past the last stage it reads some other numbers, which nobody multiplies.
            let next = place.stage + stage + 1;
            load(&mut a_next, a, of_a, from_a, place.row, next, a_slab);
            load(&mut b_next, b, of_b, from_b, place.column, next, b_slab);
            let (a_now, b_now) = (stage % 2 * a_held, stage % 2 * b_held);
            #[unroll]
            for k in 0..tile.stage {
                let a = a_now + comptime!(k * pitch(&a_slab)) + y_unit;
                let b = b_now + comptime!(k * pitch(&b_slab)) + x;
                multiply(&mut block, &a_stages, &b_stages, a, b, tile);
            }
            let (a_then, b_then) = (a_held - a_now, b_held - b_now);
            put(&mut a_stages, &a_next, a_then, a_slab);
            put(&mut b_stages, &b_next, b_then, b_slab);
            sync_cube();
        }
        let (row, column) = (place.row + y_unit * 4, place.column + x * 4);
        store(y, &block, sizes, place.written, row, column, tile);
    }
}
