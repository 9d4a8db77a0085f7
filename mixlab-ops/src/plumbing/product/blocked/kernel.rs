//! The kernel: a tile of the result in the registers of a cube.
//!
//! Stages of [`STAGE`] of the depth go through shared memory as they lie, in quads along what is
//! contiguous: a fragment is eight quads for four steps of the depth either way. While one stage is
//! multiplied the next one is on its way to registers, and then to the other half of shared memory.

use cubecl::prelude::*;

use super::tile::{STAGE, Tile};

/// Four numbers side by side.
type Quad = Vector<f32, Const<4>>;

/// Steps of the depth in a quad along it, and quads of a stage.
const FOUR: usize = 4;
const DEEP: usize = STAGE / FOUR;
/// Quads from one line along the depth to the next in shared memory: odd, so that the units of a
/// plane read different banks.
const PITCH: usize = DEEP + 1;

/// How the lines of an operand, its runs of neighbours, lie in memory.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Lines {
    /// Lines of a matrix.
    pub count: u32,
    /// Elements of a line.
    pub length: u32,
    /// Elements from one line to the next.
    pub step: u32,
    /// Elements from one matrix to the next.
    pub matrix: u32,
}

/// Sizes of the result, and how the work is shared out.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    pub rows: u32,
    pub columns: u32,
    /// Tiles of a matrix, from top to bottom and from left to right.
    pub down: u32,
    pub across: u32,
    /// Stages of the whole depth, and of a part of it.
    pub stages: u32,
    pub part: u32,
    /// Parts of the depth.
    pub parts: u32,
    /// Cubes that have work.
    pub cubes: u32,
}

/// Elements `at…` of the line that starts at element `start`; those from `end` on are zero. Without a
/// branch, which would wait for the load.
#[cube]
fn quad<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    start: usize,
    at: usize,
    length: usize,
    end: usize,
) -> Quad {
    let size = N::value();
    let mut out = Quad::new(0.0f32);
    #[unroll]
    for i in 0..comptime!(FOUR / size) {
        let wanted = at + i * size;
        let v = x[(start + min(wanted, length - size)) / size];
        #[unroll]
        for n in 0..size {
            out[i * size + n] = select(wanted < end, f32::cast_from(v[n]), 0.0f32);
        }
    }
    out
}

/// The unit's quads of stage `stage`, on their way to shared memory. `first` is the first row or
/// column of the tile, `wide` how many of these a tile has, `along` whether lines run along the depth.
#[cube]
fn fetch<F: Float, N: Size>(
    to: &mut Array<Quad>,
    x: &Array<Vector<F, N>>,
    lines: Lines,
    start: usize,
    first: usize,
    stage: usize,
    #[comptime] wide: usize,
    #[comptime] units: usize,
    #[comptime] along: bool,
) {
    let (count, length) = (lines.count as usize, lines.length as usize);
    #[unroll]
    for n in 0..comptime!(wide * DEEP / units) {
        let number = UNIT_POS as usize + comptime!(n * units);
        if comptime!(along) {
            let (line, at) = (first + number / DEEP.comptime(), number % DEEP.comptime());
            let line = start + min(line, count - 1) * lines.step as usize;
            let at = stage * STAGE.comptime() + at * FOUR.comptime();
            to[n] = quad(x, line, at, length, length);
        } else {
            let quads = comptime!(wide / FOUR);
            let line = stage * STAGE.comptime() + number / quads;
            let at = first + number % quads * FOUR.comptime();
            let end = select(line < count, length, 0usize);
            let line = start + min(line, count - 1) * lines.step as usize;
            to[n] = quad(x, line, at, length, end);
        }
    }
}

/// Where row or column `place` of a tile lies in shared memory if lines run along the depth: those
/// that the units of a plane read together are neighbours.
#[cube]
fn slot(place: usize, #[comptime] side: usize) -> usize {
    let around = comptime!(FOUR * side);
    let (half, rest) = (place / around, place % around);
    (half * FOUR.comptime() + rest % FOUR.comptime()) * side + rest / FOUR.comptime()
}

/// Puts what [`fetch`] got into shared memory, from quad `base` on.
#[cube]
fn put(
    to: &mut SharedMemory<Quad>,
    from: &Array<Quad>,
    base: usize,
    #[comptime] wide: usize,
    #[comptime] side: usize,
    #[comptime] units: usize,
    #[comptime] along: bool,
) {
    #[unroll]
    for n in 0..comptime!(wide * DEEP / units) {
        let number = UNIT_POS as usize + comptime!(n * units);
        if comptime!(along) {
            let place = slot(number / DEEP.comptime(), side);
            to[base + place * PITCH.comptime() + number % DEEP.comptime()] = from[n];
        } else {
            to[base + number] = from[n];
        }
    }
}

/// Quads of a stage in shared memory.
pub(super) const fn held(wide: usize, along: bool) -> usize {
    if along { wide * PITCH } else { wide * STAGE / FOUR }
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
        let units = comptime!(tile.units());
        let (down, across) = (sizes.down as usize, sizes.across as usize);
        let (number, tiles) = (CUBE_POS % (down * across), CUBE_POS / (down * across));
        let (matrix, part) = (tiles / sizes.parts as usize, tiles % sizes.parts as usize);
        // Bands of a few tiles from top to bottom, so that neighbours share what they read.
        let band = comptime!(tile.band()) * across;
        let top = number / band * comptime!(tile.band());
        let height = min(down - top, comptime!(tile.band()));
        let first_row = (top + number % band % height) * comptime!(tile.rows);
        let first_column = number % band / height * comptime!(tile.columns);

        let unit = UNIT_POS as usize;
        // Planes of eight units by four read the fewest quads.
        let planes = comptime!(tile.across() / 8);
        let (plane, lane) = (unit / 32, unit % 32);
        let x = plane % planes * 8 + lane % 8;
        let down_there = plane / planes * 4 + lane / 8;

        let (from_a, from_b) = (matrix * of_a.matrix as usize, matrix * of_b.matrix as usize);
        let a_held = comptime!(held(tile.rows, a_along));
        let b_held = comptime!(held(tile.columns, b_along));
        let mut a_stages = SharedMemory::<Quad>::new(comptime!(2 * a_held));
        let mut b_stages = SharedMemory::<Quad>::new(comptime!(2 * b_held));
        let mut a_next = Array::<Quad>::new(comptime!(tile.rows * DEEP / units));
        let mut b_next = Array::<Quad>::new(comptime!(tile.columns * DEEP / units));
        let mut columns = Array::<Quad>::new(comptime!(FOUR * tile.quads));
        let mut block = Array::<Quad>::new(comptime!(FOUR * tile.quads * tile.quads));
        #[unroll]
        for i in 0..comptime!(FOUR * tile.quads * tile.quads) {
            block[i] = Quad::new(0.0f32);
        }

        let first = part * sizes.part as usize;
        let count = min(sizes.stages as usize, first + sizes.part as usize) - first;
        let (rows, wide) = (comptime!(tile.rows), comptime!(tile.columns));
        fetch(&mut a_next, a, of_a, from_a, first_row, first, rows, units, a_along);
        fetch(&mut b_next, b, of_b, from_b, first_column, first, wide, units, b_along);
        put(&mut a_stages, &a_next, 0usize, rows, comptime!(tile.down()), units, a_along);
        put(&mut b_stages, &b_next, 0usize, wide, comptime!(tile.across()), units, b_along);
        sync_cube();
        for stage in 0..count {
            // Past the last stage it reads some other numbers, which nobody multiplies.
            let next = first + stage + 1;
            fetch(&mut a_next, a, of_a, from_a, first_row, next, rows, units, a_along);
            fetch(&mut b_next, b, of_b, from_b, first_column, next, wide, units, b_along);
            let (a_now, b_now) = (stage % 2 * a_held, stage % 2 * b_held);
            #[unroll]
            for deep in 0..DEEP.comptime() {
                columns_of(&mut columns, &b_stages, b_now, deep, x, tile, b_along);
                multiply(&mut block, &columns, &a_stages, a_now, deep, down_there, tile, a_along);
            }
            let (a_then, b_then) = (a_held - a_now, b_held - b_now);
            put(&mut a_stages, &a_next, a_then, rows, comptime!(tile.down()), units, a_along);
            put(&mut b_stages, &b_next, b_then, wide, comptime!(tile.across()), units, b_along);
            sync_cube();
        }
        let (row, column) = (first_row + down_there * 4, first_column + x * 4);
        store(y, &block, sizes, tiles, row, column, tile);
    }
}
