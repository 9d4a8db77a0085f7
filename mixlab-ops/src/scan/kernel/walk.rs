//! How a cube walks along a recurrence.
//!
//! A cube owns a few neighbouring columns of one sequence and takes a tile of many steps at a time:
//! its units stand in rows of `width`, one column (a vector of channels) each, and every row of
//! units has a chunk of successive steps in registers. Each unit runs its chunk from zero; the ends
//! and the products of the gates go through shared memory, from which every unit finds the state
//! that its chunk begins with; then it runs the chunk again. So everything is loaded once.

use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: usize = 256;

/// What a recurrence makes of its gates `a` and inputs `u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// `h ← a h + (1 − a) u`, the gates `[C]` the same for all time.
    Constant,
    /// `h ← a h + (1 − a) u`, the gates `[B, T, C]`.
    Varying,
    /// `h ← a h + u`, the gates `[B, T, G]` each for a group of columns of `[B, T, G, C]`.
    Rows,
    /// `h ← a h + u`, the gates `[B, T, C]`: matrices of one column.
    Column,
    /// `h ← max(h + a, u)`, the gates `[C]` the same for all time.
    Maximum,
}

impl Kind {
    /// Whether the gates are the same for all time.
    pub fn constant(self) -> bool {
        matches!(self, Self::Constant | Self::Maximum)
    }

    /// Whether a step takes `(1 − a) u`, and not `u`.
    pub fn averages(self) -> bool {
        matches!(self, Self::Constant | Self::Varying)
    }
}

/// Less than any number of a [`Kind::Maximum`], and finite.
const LOWEST: f32 = -1e30;

/// What a cube works on; sizes count vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Extent {
    /// `T`.
    pub steps: u32,
    /// Columns of a group.
    pub columns: u32,
    /// Groups of columns that have a gate of their own at each step; one unless [`Kind::Rows`].
    pub groups: u32,
    /// Cubes that share the columns of a group.
    pub blocks: u32,
    /// Cubes that have work.
    pub cubes: u32,
}

/// Where a unit stands.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// Column of the unit in its row of units.
    pub x: usize,
    /// Which chunk of a tile is the unit's.
    pub chunk: usize,
    /// Whether there is such a column in the group; if not, the last one stands in.
    pub inside: bool,
    /// Which group of which sequence: `batch · groups + group`.
    pub sequence: usize,
    /// Column of the unit in its group.
    pub column: usize,
    /// Which of the cubes of the group this is.
    pub block: usize,
    /// Index of the first step's value, in vectors.
    pub start: usize,
    /// From one step's value to the next one's, in vectors.
    pub stride: usize,
    /// Index of the first step's gate.
    pub gate: usize,
    /// From one step's gate to the next one's.
    pub gate_stride: usize,
}

#[cube]
pub(super) fn place(extent: Extent, #[comptime] kind: Kind, #[comptime] width: usize) -> Place {
    let (columns, groups) = (extent.columns as usize, extent.groups as usize);
    let (steps, blocks) = (extent.steps as usize, extent.blocks as usize);
    let unit = UNIT_POS as usize;
    let (sequence, block) = (CUBE_POS / blocks, CUBE_POS % blocks);
    let (batch, group) = (sequence / groups, sequence % groups);
    let x = unit % width;
    let wanted = block * width + x;
    let column = min(wanted, columns - 1);
    let stride = groups * columns;
    let start = batch * steps * stride + group * columns + column;
    let gate = match comptime!(kind) {
        Kind::Constant | Kind::Maximum => column,
        Kind::Varying | Kind::Column => start,
        Kind::Rows => batch * steps * groups + group,
    };
    let gate_stride = match comptime!(kind) {
        Kind::Constant | Kind::Maximum => 0usize.runtime(),
        Kind::Varying | Kind::Column => stride,
        Kind::Rows => groups,
    };
    Place {
        x,
        chunk: unit / width,
        inside: wanted < columns,
        sequence,
        column,
        block,
        start,
        stride,
        gate,
        gate_stride,
    }
}

/// The gate at `at` for a vector of columns: one of them, or one for all.
#[cube]
pub(super) fn gate<G: Float, M: Size, N: Size>(
    gates: &Array<Vector<G, M>>,
    at: usize,
    #[comptime] kind: Kind,
) -> Vector<f32, N> {
    match comptime!(kind) {
        Kind::Rows => Vector::<f32, N>::new(f32::cast_from(gates[at][0])),
        _ => Vector::<f32, N>::cast_from(gates[at]),
    }
}

/// The state before anything: what a sum, or a maximum, of nothing is.
#[cube]
pub(super) fn nothing<N: Size>(#[comptime] kind: Kind) -> Vector<f32, N> {
    match comptime!(kind) {
        Kind::Maximum => Vector::<f32, N>::new(LOWEST.runtime()),
        _ => Vector::<f32, N>::new(0.0f32),
    }
}

/// The product of no gates.
#[cube]
pub(super) fn unit<N: Size>(#[comptime] kind: Kind) -> Vector<f32, N> {
    match comptime!(kind) {
        Kind::Maximum => Vector::<f32, N>::new(0.0f32),
        _ => Vector::<f32, N>::new(1.0f32),
    }
}

/// The state after a step, or after steps whose product of gates is `gate`.
#[cube]
pub(super) fn next<N: Size>(
    gate: Vector<f32, N>,
    state: Vector<f32, N>,
    x: Vector<f32, N>,
    #[comptime] kind: Kind,
) -> Vector<f32, N> {
    match comptime!(kind) {
        Kind::Maximum => max(gate + state, x),
        _ => gate * state + x,
    }
}

/// The ends of the chunks of a tile, and the products of their gates. Twice, for even and for odd
/// tiles: a unit may write those of the next tile while another still reads.
#[derive(CubeType)]
pub(super) struct Ends<N: Size> {
    pub ends: SharedMemory<Vector<f32, N>>,
    pub products: SharedMemory<Vector<f32, N>>,
}

#[cube]
pub(super) fn ends<N: Size>(#[comptime] kind: Kind) -> Ends<N> {
    let twice = comptime!(2 * UNITS);
    Ends::<N> {
        ends: SharedMemory::new(twice),
        products: SharedMemory::new(if comptime!(kind.constant()) { 1 } else { twice }),
    }
}

/// The state before the chunk of this unit, and that after the whole tile.
#[derive(CubeType)]
pub(super) struct Carries<N: Size> {
    pub before: Vector<f32, N>,
    pub after: Vector<f32, N>,
}

/// Combines the chunks of a tile: `end` is where this unit's chunk ends if it begins at zero,
/// `product` that of its gates, `carry` the state before the tile.
#[cube]
pub(super) fn combine<N: Size>(
    shared: &mut Ends<N>,
    tile: usize,
    end: Vector<f32, N>,
    product: Vector<f32, N>,
    carry: Vector<f32, N>,
    #[comptime] kind: Kind,
    #[comptime] width: usize,
) -> Carries<N> {
    let unit = UNIT_POS as usize;
    let (x, chunk) = (unit % width, unit / width);
    let half = (tile % 2) * UNITS.comptime();
    shared.ends[half + unit] = end;
    if comptime!(!kind.constant()) {
        shared.products[half + unit] = product;
    }
    sync_cube();
    let mut before = carry;
    let mut after = carry;
    let chunks = comptime!(UNITS / width);
    for k in 0..chunks {
        if k == chunk {
            before = after;
        }
        let at = half + k * width + x;
        let product = if comptime!(!kind.constant()) { shared.products[at] } else { product };
        after = next::<N>(product, after, shared.ends[at], kind);
    }
    Carries::<N> { before, after }
}
