//! What the units of a cube find out together, through shared memory: the same on every plane width.

use cubecl::prelude::*;

/// The sum of `mine` over the `units` (a power of two) units of a cube, in each of them, added up
/// in a fixed order.
#[cube]
pub(crate) fn cube_sum(mine: f32, #[comptime] units: usize) -> f32 {
    let mut shared = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = mine;
    let rounds = comptime!(units.ilog2());
    #[unroll]
    for round in 0..rounds {
        let half = comptime!(units >> (round + 1));
        sync_cube();
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
    }
    sync_cube();
    shared[0]
}
