//! The gradients of a recurrence: the same walk from the other end.

use cubecl::prelude::*;

use super::walk::{Extent, Kind, Place, UNITS, combine, ends, gate, place};

/// `s_t = g_t + a_{t+1} s_{t+1}` with its `du_t = (1 − a_t) s_t` and `da_t = s_t (h_{t−1} − u_t)`,
/// or, where the recurrence does not average, `du_t = s_t` and `da_t = s_t h_{t−1}` (where `u` is not
/// read). If it `continues`, `initial` is `h_{−1}`, and `dinitial = a_0 s_0` its gradient.
///
/// | kind | `dgates` |
/// |---|---|
/// | constant | sums over time, `[B, C]` |
/// | varying, column | like the gates |
/// | rows | sums over the columns of each cube of a group, `[blocks, B, T, G]` |
#[cube(launch_unchecked)]
pub(super) fn backward<F: Float, G: Float, D: Float, N: Size, M: Size, K: Size>(
    u: &Array<Vector<F, N>>,
    gates: &Array<Vector<G, M>>,
    initial: &Array<Vector<F, N>>,
    h: &Array<Vector<F, N>>,
    g: &Array<Vector<F, N>>,
    du: &mut Array<Vector<F, N>>,
    dgates: &mut Array<Vector<D, K>>,
    dinitial: &mut Array<Vector<F, N>>,
    extent: Extent,
    #[comptime] kind: Kind,
    #[comptime] continues: bool,
    #[comptime] width: usize,
    #[comptime] chunk: usize,
    #[define(F)] _dtype: StorageType,
    #[define(G)] _gate_dtype: StorageType,
    #[define(D)] _dgate_dtype: StorageType,
) {
    if CUBE_POS < extent.cubes as usize {
        let place = place(extent, kind, width);
        let mut shared = ends::<N>(kind);
        let mut terms = SharedMemory::<f32>::new(comptime!(match kind {
            Kind::Rows => UNITS * chunk,
            _ => 1,
        }));
        let steps = extent.steps as usize;
        let zero = Vector::<f32, N>::new(0.0f32);
        let one = Vector::<f32, N>::new(1.0f32);
        let mut x = Array::<Vector<f32, N>>::new(chunk);
        let mut a = Array::<Vector<f32, N>>::new(chunk);
        let mut slope = Array::<Vector<f32, N>>::new(chunk);
        let mut level = Array::<Vector<f32, N>>::new(chunk);
        if comptime!(kind == Kind::Constant) {
            let constant = gate::<G, M, N>(gates, place.gate, kind);
            #[unroll]
            for i in 0..chunk {
                a[i] = constant;
            }
        }
        let at_start = place.sequence * extent.columns as usize + place.column;
        let mut origin = zero;
        if comptime!(continues) {
            origin = Vector::cast_from(initial[at_start]);
        }
        let mut sum = zero;
        // What goes from a step to the one before: `a_t s_t`.
        let mut carry = zero;
        let rows = comptime!(UNITS / width * chunk);
        for tile in 0..steps.div_ceil(rows) {
            // Counted from the last step; steps before the first repeat it and are not stored.
            let first = tile * rows + place.chunk * chunk;
            #[unroll]
            for i in 0..chunk {
                let step = steps - 1 - min(first + i, steps - 1);
                let at = place.start + step * place.stride;
                x[i] = Vector::cast_from(g[at]);
                if comptime!(kind != Kind::Constant) {
                    a[i] = gate::<G, M, N>(gates, place.gate + step * place.gate_stride, kind);
                }
                // Nothing waits here for a load: no branch, no use of what was loaded.
                slope[i] = Vector::cast_from(h[select(step > 0, at - place.stride, at)]);
                if comptime!(kind.averages()) {
                    level[i] = Vector::cast_from(u[at]);
                }
            }
            #[unroll]
            for i in 0..chunk {
                let before = select(first + i < steps - 1, 1.0f32, 0.0f32);
                slope[i] *= Vector::new(before);
                if comptime!(continues) {
                    slope[i] += origin * Vector::new(1.0f32 - before);
                }
                if comptime!(kind.averages()) {
                    slope[i] -= level[i];
                }
            }
            let mut end = zero;
            let mut product = one;
            #[unroll]
            for i in 0..chunk {
                end = a[i] * (end + x[i]);
                product *= a[i];
            }
            let carries = combine::<N>(&mut shared, tile, end, product, carry, kind, width);
            carry = carries.after;
            let mut state = carries.before;
            #[unroll]
            for i in 0..chunk {
                let s = state + x[i];
                state = a[i] * s;
                let da = s * slope[i];
                let there = place.inside && first + i < steps;
                if there {
                    let at = place.start + (steps - 1 - (first + i)) * place.stride;
                    match comptime!(kind) {
                        Kind::Constant => {
                            du[at] = Vector::cast_from((one - a[i]) * s);
                            sum += da;
                        }
                        Kind::Varying => {
                            du[at] = Vector::cast_from((one - a[i]) * s);
                            dgates[at] = Vector::cast_from(da);
                        }
                        Kind::Column => {
                            du[at] = Vector::cast_from(s);
                            dgates[at] = Vector::cast_from(da);
                        }
                        _ => du[at] = Vector::cast_from(s),
                    }
                    if comptime!(continues) {
                        let oldest = first + i == steps - 1;
                        if oldest {
                            dinitial[at_start] = Vector::cast_from(state);
                        }
                    }
                }
                if comptime!(kind == Kind::Rows) {
                    let mut term = 0.0f32;
                    #[unroll]
                    for n in 0..N::value() {
                        term += da[n];
                    }
                    terms[(place.chunk * chunk + i) * width + place.x] =
                        select(there, term, 0.0f32);
                }
            }
            if comptime!(kind == Kind::Rows) {
                sum_rows::<D, K>(&terms, dgates, extent, place, tile * rows, width, chunk);
            }
        }
        if comptime!(kind == Kind::Constant) {
            let unit = UNIT_POS as usize;
            // Others may still read the ends of the last tile.
            sync_cube();
            shared.ends[unit] = sum;
            sync_cube();
            if place.chunk == 0 && place.inside {
                let mut total = zero;
                for k in 0..comptime!(UNITS / width) {
                    total += shared.ends[k * width + place.x];
                }
                dgates[at_start] = Vector::cast_from(total);
            }
        }
    }
}

/// Adds up the `terms` of a tile over the columns of this cube, one step a unit.
#[cube]
fn sum_rows<D: Float, K: Size>(
    terms: &SharedMemory<f32>,
    dgates: &mut Array<Vector<D, K>>,
    extent: Extent,
    place: Place,
    first: usize,
    #[comptime] width: usize,
    #[comptime] chunk: usize,
) {
    sync_cube();
    let unit = UNIT_POS as usize;
    let (steps, groups) = (extent.steps as usize, extent.groups as usize);
    let mut row = unit;
    while row < comptime!(UNITS / width * chunk) {
        if first + row < steps {
            let mut total = 0.0f32;
            for x in 0..width {
                total += terms[row * width + x];
            }
            let step = steps - 1 - (first + row);
            let (batch, group) = (place.sequence / groups, place.sequence % groups);
            let sequences = extent.cubes as usize / extent.blocks as usize;
            let at = (place.block * sequences + batch * groups) * steps + step * groups + group;
            dgates[at] = Vector::new(D::cast_from(total));
        }
        row += UNITS.comptime();
    }
}
