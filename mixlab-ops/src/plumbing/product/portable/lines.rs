//! How cubes share a product out, and how they read its operands.

use cubecl::prelude::*;

/// Elements that units move together.
pub(super) const FOUR: usize = 4;

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

/// What a cube multiplies.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// Matrix of the operands, and of what is written, which has one for each part of the depth.
    pub matrix: usize,
    pub written: usize,
    pub row: usize,
    pub column: usize,
    /// First stage, and how many.
    pub stage: usize,
    pub stages: usize,
}

/// Tiles in bands of 1,024 rows or a little less, each from top to bottom first: cubes that run
/// together share what they read.
#[cube]
pub(super) fn place(sizes: Sizes, #[comptime] rows: usize, #[comptime] columns: usize) -> Place {
    let (down, across) = (sizes.down as usize, sizes.across as usize);
    let (number, written) = (CUBE_POS % (down * across), CUBE_POS / (down * across));
    let parts = sizes.parts as usize;
    let high = comptime!(1024 / rows);
    let band = high * across;
    let top = number / band * high;
    let height = min(down - top, high);
    let stage = written % parts * sizes.part as usize;
    Place {
        matrix: written / parts,
        written,
        row: (top + number % band % height) * rows,
        column: number % band / height * columns,
        stage,
        stages: min(sizes.stages as usize, stage + sizes.part as usize) - stage,
    }
}

/// Part of an operand that a cube reads at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slab {
    /// Rows or columns of the result that it belongs to.
    pub wide: usize,
    /// Steps of the depth.
    pub stage: usize,
    /// Whether lines run along the depth.
    pub along: bool,
    /// Units that read it.
    pub units: usize,
}

impl Slab {
    /// Quads of a line.
    pub const fn line(&self) -> usize {
        (if self.along { self.stage } else { self.wide }) / FOUR
    }

    /// Quads that each unit reads.
    pub const fn each(&self) -> usize {
        self.wide * self.stage / FOUR / self.units
    }
}

/// Elements `at…` of the line that starts at element `start`; those from `end` on are zero. Without a
/// branch, which would wait for the load.
#[cube]
fn quad<F: Float, E: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    start: usize,
    at: usize,
    length: usize,
    end: usize,
) -> Vector<E, Const<4>> {
    let size = N::value();
    let mut out = Vector::<E, Const<4>>::new(E::new(0.0));
    #[unroll]
    for i in 0..comptime!(FOUR / size) {
        let wanted = at + i * size;
        let v = x[(start + min(wanted, length - size)) / size];
        #[unroll]
        for n in 0..size {
            out[i * size + n] = select(wanted < end, E::cast_from(v[n]), E::new(0.0));
        }
    }
    out
}

/// The unit's quads of a slab on their way to shared memory: of stage `stage` and the rows or columns
/// from `first` on, in the matrix that starts at element `start`. What lies beyond the depth is zero.
#[cube]
pub(super) fn fetch<F: Float, E: Float, N: Size>(
    to: &mut Array<Vector<E, Const<4>>>,
    x: &Array<Vector<F, N>>,
    lines: Lines,
    start: usize,
    first: usize,
    stage: usize,
    #[comptime] slab: Slab,
) {
    let (count, length) = (lines.count as usize, lines.length as usize);
    let quads = comptime!(slab.line());
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        let at = number % quads * FOUR.comptime();
        if comptime!(slab.along) {
            let line = min(first + number / quads, count - 1);
            let at = stage * comptime!(slab.stage) + at;
            to[n] = quad(x, start + line * lines.step as usize, at, length, length);
        } else {
            let line = stage * comptime!(slab.stage) + number / quads;
            let end = select(line < count, length, 0usize);
            let line = min(line, count - 1);
            to[n] = quad(x, start + line * lines.step as usize, first + at, length, end);
        }
    }
}

/// As [`fetch`] for lines along the depth, but quads of four lines at one step of it.
///
/// `x` is read one element at a time: units next to each other read neighbours.
#[cube]
pub(super) fn fetch_turned<F: Float, E: Float, N: Size>(
    to: &mut Array<Vector<E, Const<4>>>,
    x: &Array<Vector<F, N>>,
    lines: Lines,
    start: usize,
    first: usize,
    stage: usize,
    #[comptime] slab: Slab,
) {
    let (count, length) = (lines.count as usize, lines.length as usize);
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        let wanted = stage * comptime!(slab.stage) + number % comptime!(slab.stage);
        let line = first + number / comptime!(slab.stage) * FOUR.comptime();
        let at = start + min(wanted, length - 1);
        let mut out = Vector::<E, Const<4>>::empty();
        #[unroll]
        for i in 0..4usize {
            let v = x[at + min(line + i, count - 1) * lines.step as usize];
            out[i] = select(wanted < length, E::cast_from(v[0]), E::new(0.0));
        }
        to[n] = out;
    }
}
