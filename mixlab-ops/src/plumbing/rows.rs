//! Kernels in which a team of units shares each row of a matrix: how wide a team is, and the sums
//! and maxima over it.
//!
//! Where every plane of the device has the same width, a team is a multiple of it and adds up with
//! plane operations first. Else all goes through shared memory.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::ir::features::Plane;
use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: usize = 256;

/// The units that share a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Team {
    /// How many, a power of two up to [`UNITS`].
    pub width: usize,
    /// Units of a plane; 1 if plane operations are of no use.
    pub plane: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fold {
    Sum,
    Max,
}

impl Team {
    /// A team for rows of `vectors` vectors, of which one unit takes about `each`, on the device
    /// of `x`.
    pub fn new<R: CubeRuntime>(x: &CubeTensor<R>, vectors: usize, each: usize) -> Self {
        let properties = x.client.properties();
        let hardware = &properties.hardware;
        let plane = hardware.plane_size_min as usize;
        let uniform = hardware.plane_size_max as usize == plane && plane.is_power_of_two();
        let useful = properties.features.plane.contains(Plane::Ops) && uniform && plane <= UNITS;
        let plane = if useful { plane } else { 1 };
        // Below 32 units a team has them all read; above, a unit has enough to read first.
        let width = vectors.div_ceil(each).max(vectors.min(32)).next_power_of_two();
        Self { width: width.clamp(plane, UNITS), plane }
    }

    /// How many teams, and so rows, a cube has.
    pub fn count(self) -> usize {
        UNITS / self.width
    }
}

/// Approximate on CUDA, where the accurate one takes four times the instructions: the error is
/// `|x|` units in the last place, which an argument of at most 0 makes vanish in a sum.
#[cube]
pub(crate) fn exp(x: f32, #[comptime] fast: bool) -> f32 {
    if comptime!(fast) { fast_exp(x) } else { f32::exp(x) }
}

#[cube(fast_math = FastMath::all())]
fn fast_exp(x: f32) -> f32 {
    f32::exp(x)
}

/// Whether [`exp`] is to be fast on the device of `x`: the compilers for other devices might take
/// it for a promise that there are no NaNs.
pub(crate) fn fast<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    R::name(&x.client) == "cuda"
}

/// Some drivers overflow on large arguments; at ±15 the result is ±1 in f32.
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    f32::tanh(clamp(x, -15.0f32, 15.0f32))
}

/// The place of this unit in its team.
#[cube]
pub(crate) fn lane(#[comptime] team: Team) -> usize {
    UNIT_POS as usize % comptime!(team.width)
}

/// The row of this unit's team if each team has one.
#[cube]
pub(crate) fn row(#[comptime] team: Team) -> usize {
    CUBE_POS * comptime!(team.count()) + UNIT_POS as usize / comptime!(team.width)
}

/// The sum of `partial` over the team, in each of its units, in a fixed order.
#[cube]
pub(crate) fn team_sum(partial: f32, #[comptime] team: Team) -> f32 {
    fold_team(partial, team, Fold::Sum)
}

/// The maximum of `partial` over the team, in each of its units.
#[cube]
pub(crate) fn team_max(partial: f32, #[comptime] team: Team) -> f32 {
    fold_team(partial, team, Fold::Max)
}

#[cube]
fn fold(a: f32, b: f32, #[comptime] by: Fold) -> f32 {
    match comptime!(by) {
        Fold::Sum => a + b,
        Fold::Max => max(a, b),
    }
}

#[cube]
fn fold_team(partial: f32, #[comptime] team: Team, #[comptime] by: Fold) -> f32 {
    let mut result = partial;
    if comptime!(team.plane > 1) {
        result = match comptime!(by) {
            Fold::Sum => plane_sum(partial),
            Fold::Max => plane_max(partial),
        };
    }
    if comptime!(team.width > team.plane) {
        if comptime!(team.plane > 1) {
            result = fold_planes(result, team, by);
        } else {
            result = fold_units(result, team, by);
        }
    }
    result
}

/// Each unit goes through the results of the few planes of its team.
#[cube]
fn fold_planes(partial: f32, #[comptime] team: Team, #[comptime] by: Fold) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS / team.plane));
    let planes = comptime!(team.width / team.plane);
    let unit = UNIT_POS as usize;
    let lane = unit % comptime!(team.plane);
    if lane == 0 {
        shared[unit / comptime!(team.plane)] = partial;
    }
    sync_cube();
    let first = unit / comptime!(team.width) * planes;
    let mut result = shared[first];
    #[unroll]
    for plane in 1..planes {
        result = fold(result, shared[first + plane], by);
    }
    // Before a later round writes again.
    sync_cube();
    result
}

/// A tree over the units of each team.
#[cube]
fn fold_units(partial: f32, #[comptime] team: Team, #[comptime] by: Fold) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS));
    let unit = UNIT_POS as usize;
    let lane = unit % comptime!(team.width);
    shared[unit] = partial;
    let rounds = comptime!(team.width.ilog2());
    #[unroll]
    for round in 0..rounds {
        let half = comptime!(team.width >> (round + 1));
        sync_cube();
        if lane < half {
            shared[unit] = fold(shared[unit], shared[unit + half], by);
        }
    }
    sync_cube();
    let result = shared[unit - lane];
    // Before a later round writes again.
    sync_cube();
    result
}
