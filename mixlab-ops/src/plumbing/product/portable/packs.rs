//! Operands in half precision on their way to matrix units: packs of neighbours, as they lie.

use cubecl::prelude::*;

use super::lines::Lines;

/// Halves that keep neighbouring lines in different banks.
const GAP: usize = 8;

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
    /// How it is moved.
    pub packing: Packing,
}

/// How halves are moved: a pack at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packing {
    /// Halves of an element: two where an element is a whole number of 32 bits.
    pub halves: usize,
    /// Elements of a pack.
    pub elements: usize,
}

impl Packing {
    /// Halves of a pack.
    pub const fn pack(&self) -> usize {
        self.halves * self.elements
    }
}

impl Slab {
    /// Packs of a line.
    pub const fn line(&self) -> usize {
        (if self.along { self.stage } else { self.wide }) / self.packing.pack()
    }

    /// Packs that each unit reads.
    pub const fn each(&self) -> usize {
        self.wide * self.stage / self.packing.pack() / self.units
    }

    /// Packs from one line to the next in shared memory.
    pub const fn pitch(&self) -> usize {
        self.line() + GAP / self.packing.pack()
    }

    /// Packs of shared memory.
    pub const fn held(&self) -> usize {
        (if self.along { self.wide } else { self.stage }) * self.pitch()
    }
}

/// Elements `at…` of the line that starts at element `start`; those from `end` on are zero. Without a
/// branch, which would wait for the load.
#[cube]
fn pack<S: Numeric, N: Size, P: Size>(
    x: &Array<Vector<S, N>>,
    start: usize,
    at: usize,
    length: usize,
    end: usize,
) -> Vector<S, P> {
    let (size, elements) = (N::value(), P::value());
    let mut out = Vector::<S, P>::new(S::from_int(0));
    #[unroll]
    for i in 0..comptime!(elements / size) {
        let wanted = at + i * size;
        let v = x[(start + min(wanted, length - size)) / size];
        #[unroll]
        for n in 0..size {
            out[i * size + n] = select(wanted < end, v[n], S::from_int(0));
        }
    }
    out
}

/// The unit's packs of a slab: of stage `stage` and the rows or columns from `first` on, in the matrix
/// that starts at element `start`. What lies beyond the depth is zero. `lines` count elements.
#[cube]
pub(super) fn fetch<S: Numeric, N: Size, P: Size>(
    to: &mut Array<Vector<S, P>>,
    x: &Array<Vector<S, N>>,
    lines: Lines,
    start: usize,
    first: usize,
    stage: usize,
    #[comptime] slab: Slab,
) {
    let (count, length) = (lines.count as usize, lines.length as usize);
    let (packs, halves) = comptime!((slab.line(), slab.packing.halves));
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        let at = number % packs * comptime!(slab.packing.elements);
        if comptime!(slab.along) {
            let line = min(first + number / packs, count - 1);
            let at = stage * comptime!(slab.stage / halves) + at;
            to[n] = pack(x, start + line * lines.step as usize, at, length, length);
        } else {
            let line = stage * comptime!(slab.stage) + number / packs;
            let end = select(line < count, length, 0usize);
            let line = min(line, count - 1);
            let at = first / halves + at;
            to[n] = pack(x, start + line * lines.step as usize, at, length, end);
        }
    }
}

/// Puts what [`fetch`] got into shared memory.
#[cube]
pub(super) fn put<S: Numeric, P: Size>(
    to: &mut SharedMemory<Vector<S, P>>,
    from: &Array<Vector<S, P>>,
    #[comptime] slab: Slab,
) {
    let packs = comptime!(slab.line());
    #[unroll]
    for n in 0..comptime!(slab.each()) {
        let number = UNIT_POS as usize + comptime!(n * slab.units);
        to[number / packs * comptime!(slab.pitch()) + number % packs] = from[n];
    }
}
