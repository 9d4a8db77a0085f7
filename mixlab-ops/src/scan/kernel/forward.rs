//! All states of a recurrence.

use cubecl::prelude::*;

use super::walk::{Extent, Gates, UNITS, ends, gate, join, place};

/// `h_t = a_t h_{t−1} + (1 − a_t) u_t`, or `+ u_t` with [`Gates::Rows`]; a unit takes `chunk` steps
/// of a tile.
#[cube(launch_unchecked)]
pub(super) fn forward<F: Float, G: Float, N: Size, M: Size>(
    u: &Array<Vector<F, N>>,
    gates: &Array<Vector<G, M>>,
    h: &mut Array<Vector<F, N>>,
    extent: Extent,
    #[comptime] kind: Gates,
    #[comptime] width: usize,
    #[comptime] chunk: usize,
    #[define(F)] _dtype: StorageType,
    #[define(G)] _gate_dtype: StorageType,
) {
    if CUBE_POS < extent.cubes as usize {
        let place = place(extent, kind, width);
        let mut shared = ends::<N>(kind);
        let steps = extent.steps as usize;
        let one = Vector::<f32, N>::new(1.0f32);
        let mut x = Array::<Vector<f32, N>>::new(chunk);
        let mut a = Array::<Vector<f32, N>>::new(chunk);
        if comptime!(kind == Gates::Constant) {
            let constant = gate::<G, M, N>(gates, place.gate, kind);
            #[unroll]
            for i in 0..chunk {
                a[i] = constant;
            }
        }
        let mut carry = Vector::<f32, N>::new(0.0f32);
        let rows = comptime!(UNITS / width * chunk);
        for tile in 0..steps.div_ceil(rows) {
            let first = tile * rows + place.chunk * chunk;
            // Steps past the end repeat the last one: what comes of them is not stored.
            #[unroll]
            for i in 0..chunk {
                let step = min(first + i, steps - 1);
                x[i] = Vector::cast_from(u[place.start + step * place.stride]);
                if comptime!(kind != Gates::Constant) {
                    a[i] = gate::<G, M, N>(gates, place.gate + step * place.gate_stride, kind);
                }
            }
            let mut end = Vector::<f32, N>::new(0.0f32);
            let mut product = one;
            #[unroll]
            for i in 0..chunk {
                if comptime!(kind != Gates::Rows) {
                    x[i] = (one - a[i]) * x[i];
                }
                end = a[i] * end + x[i];
                product *= a[i];
            }
            let joined = join::<N>(&mut shared, tile, end, product, carry, kind, width);
            carry = joined.after;
            let mut state = joined.before;
            #[unroll]
            for i in 0..chunk {
                state = a[i] * state + x[i];
                if place.inside && first + i < steps {
                    h[place.start + (first + i) * place.stride] = Vector::cast_from(state);
                }
            }
        }
    }
}
