//! All states of a recurrence.

use cubecl::prelude::*;

use super::walk::{Extent, Kind, UNITS, combine, ends, gate, next, nothing, place, unit};

/// All states `h`, as `kind` makes them; a unit takes `chunk` steps of a tile. The state before the
/// first step is `initial` if it `continues`.
#[cube(launch_unchecked)]
pub(super) fn forward<F: Float, G: Float, N: Size, M: Size>(
    u: &Array<Vector<F, N>>,
    gates: &Array<Vector<G, M>>,
    initial: &Array<Vector<F, N>>,
    h: &mut Array<Vector<F, N>>,
    extent: Extent,
    #[comptime] kind: Kind,
    #[comptime] continues: bool,
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
        if comptime!(kind.constant()) {
            let constant = gate::<G, M, N>(gates, place.gate, kind);
            #[unroll]
            for i in 0..chunk {
                a[i] = constant;
            }
        }
        let mut carry = nothing::<N>(kind);
        if comptime!(continues) {
            let at = place.sequence * extent.columns as usize + place.column;
            carry = Vector::cast_from(initial[at]);
        }
        let rows = comptime!(UNITS / width * chunk);
        for tile in 0..steps.div_ceil(rows) {
            let first = tile * rows + place.chunk * chunk;
            // Steps past the end repeat the last one: what comes of them is not stored.
            #[unroll]
            for i in 0..chunk {
                let step = min(first + i, steps - 1);
                x[i] = Vector::cast_from(u[place.start + step * place.stride]);
                if comptime!(!kind.constant()) {
                    a[i] = gate::<G, M, N>(gates, place.gate + step * place.gate_stride, kind);
                }
            }
            let mut end = nothing::<N>(kind);
            let mut product = unit::<N>(kind);
            #[unroll]
            for i in 0..chunk {
                if comptime!(kind.averages()) {
                    x[i] = (one - a[i]) * x[i];
                }
                end = next::<N>(a[i], end, x[i], kind);
                if comptime!(kind == Kind::Maximum) {
                    product += a[i];
                } else {
                    product *= a[i];
                }
            }
            let carries = combine::<N>(&mut shared, tile, end, product, carry, kind, width);
            carry = carries.after;
            let mut state = carries.before;
            #[unroll]
            for i in 0..chunk {
                state = next::<N>(a[i], state, x[i], kind);
                if place.inside && first + i < steps {
                    h[place.start + (first + i) * place.stride] = Vector::cast_from(state);
                }
            }
        }
    }
}
