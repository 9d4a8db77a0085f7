//! The gradient of the logits: one pass over a row.

use cubecl::prelude::*;

use super::{How, LOADS, logit};
use crate::plumbing::rows::{exp, lane, row};

/// `g · (softmax − onehot)` of one vector of logits, the target being element `target` if that is
/// less than their number; through the cap if there is one.
#[cube]
fn slope<F: Float, N: Size>(
    z: Vector<F, N>,
    target: usize,
    log_sum_exp: f32,
    g: f32,
    cap: f32,
    #[comptime] how: How,
) -> Vector<F, N> {
    let mut out = Vector::<F, N>::empty();
    #[unroll]
    for i in 0..N::value() {
        let z = logit(f32::cast_from(z[i]), cap, how.capped);
        let mut d = exp(z - log_sum_exp, how.fast) - select(i == target, 1.0f32, 0.0f32);
        if comptime!(how.capped) {
            let t = z / cap;
            d *= 1.0 - t * t;
        }
        out[i] = F::cast_from(d * g);
    }
    out
}

/// The gradient of the logits.
#[cube(launch_unchecked)]
pub(super) fn cross_entropy_gradient_kernel<F: Float, I: Int, N: Size>(
    z: &Array<Vector<F, N>>,
    targets: &Array<I>,
    log_sum_exp: &Array<f32>,
    g: &Array<f32>,
    dz: &mut Array<Vector<F, N>>,
    columns: u32,
    cap: f32,
    #[comptime] how: How,
    #[define(F)] _float: StorageType,
    #[define(I)] _int: StorageType,
) {
    let width = comptime!(how.team.width);
    let columns = columns as usize;
    let (lane, row) = (lane(how.team), row(how.team));
    if row < g.len() {
        let base = row * columns;
        let (total, g) = (log_sum_exp[row], g[row]);
        let target = usize::cast_from(targets[row]);
        let mut values = Array::<Vector<F, N>>::new(LOADS);
        let mut at = lane;
        while at + comptime!((LOADS - 1) * how.team.width) < columns {
            #[unroll]
            for k in 0..LOADS {
                values[k] = z[base + at + k * width];
            }
            #[unroll]
            for k in 0..LOADS {
                let here = at + k * width;
                // Wraps around to a large number before the target.
                let target = target - here * N::value();
                dz[base + here] = slope(values[k], target, total, g, cap, how);
            }
            at += comptime!(LOADS * how.team.width);
        }
        while at < columns {
            let target = target - at * N::value();
            dz[base + at] = slope(z[base + at], target, total, g, cap, how);
            at += width;
        }
    }
}
