//! The losses: one pass over a row, with a running maximum.

use cubecl::prelude::*;

use super::{How, LOADS, logit};
use crate::plumbing::rows::{exp, lane, row, team_max, team_sum};

/// The largest of `best` and the first `count` of `values`.
#[cube]
fn largest<N: Size>(values: &Array<Vector<f32, N>>, best: f32, #[comptime] count: usize) -> f32 {
    let mut result = best;
    #[unroll]
    for k in 0..count {
        let v = values[k];
        #[unroll]
        for i in 0..N::value() {
            result = max(result, v[i]);
        }
    }
    result
}

/// `Σ exp(v − best)` of the first `count` of `values`.
#[cube]
fn sum_exp<N: Size>(
    values: &Array<Vector<f32, N>>,
    best: f32,
    #[comptime] count: usize,
    #[comptime] fast: bool,
) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..count {
        let v = values[k];
        #[unroll]
        for i in 0..N::value() {
            sum += exp(v[i] - best, fast);
        }
    }
    sum
}

/// `z[from]`, `z[from + step]` …, `count` of them, as f32.
#[cube]
fn load<F: Float, N: Size>(
    z: &Array<Vector<F, N>>,
    from: usize,
    cap: f32,
    values: &mut Array<Vector<f32, N>>,
    #[comptime] count: usize,
    #[comptime] how: How,
) {
    #[unroll]
    for k in 0..count {
        values[k] = Vector::cast_from(z[from + k * comptime!(how.team.width)]);
    }
    if comptime!(how.capped) {
        #[unroll]
        for k in 0..count {
            let mut v = values[k];
            #[unroll]
            for i in 0..N::value() {
                v[i] = logit(v[i], cap, how.capped);
            }
            values[k] = v;
        }
    }
}

/// The loss and the log-sum-exp of each row; `columns` counts vectors.
#[cube(launch_unchecked)]
pub(super) fn cross_entropy_kernel<F: Float, I: Int, N: Size>(
    z: &Array<Vector<F, N>>,
    targets: &Array<I>,
    nll: &mut Array<f32>,
    log_sum_exp: &mut Array<f32>,
    columns: u32,
    cap: f32,
    #[comptime] how: How,
    #[define(F)] _float: StorageType,
    #[define(I)] _int: StorageType,
) {
    let width = comptime!(how.team.width);
    let columns = columns as usize;
    let (lane, row) = (lane(how.team), row(how.team));
    let live = row < nll.len();
    // A team past the end has no columns, but takes part in the sums.
    let end = select(live, columns, 0);
    let base = row * columns;

    // The running maximum, and the sum of exp(z − maximum).
    let mut best = f32::min_value();
    let mut sum = 0.0f32;
    let mut values = Array::<Vector<f32, N>>::new(LOADS);
    let mut at = lane;
    while at + comptime!((LOADS - 1) * how.team.width) < end {
        load(z, base + at, cap, &mut values, LOADS, how);
        let next = largest(&values, best, LOADS);
        sum = sum * exp(best - next, how.fast) + sum_exp(&values, next, LOADS, how.fast);
        best = next;
        at += comptime!(LOADS * how.team.width);
    }
    while at < end {
        load(z, base + at, cap, &mut values, 1usize, how);
        let next = largest(&values, best, 1usize);
        sum = sum * exp(best - next, how.fast) + sum_exp(&values, next, 1usize, how.fast);
        best = next;
        at += width;
    }
    let all = team_max(best, how.team);
    let sum = team_sum(sum * exp(best - all, how.fast), how.team);
    if live && lane == 0 {
        let total = all + f32::ln(sum);
        let target = usize::cast_from(targets[row]);
        let v = z[base + target / N::value()];
        let mut hit = 0.0f32;
        #[unroll]
        for i in 0..N::value() {
            if i == target % N::value() {
                hit = logit(f32::cast_from(v[i]), cap, how.capped);
            }
        }
        nll[row] = total - hit;
        log_sum_exp[row] = total;
    }
}
