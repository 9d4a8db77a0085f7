//! The losses: one pass over a row, with a running maximum.

use cubecl::prelude::*;

use super::{KernelConfig, LOADS, logit};
use crate::plumbing::indices::known;
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
    #[comptime] config: KernelConfig,
) {
    #[unroll]
    for k in 0..count {
        values[k] = Vector::cast_from(z[from + k * comptime!(config.team.width)]);
    }
    if comptime!(config.capped) {
        #[unroll]
        for k in 0..count {
            let mut v = values[k];
            #[unroll]
            for i in 0..N::value() {
                v[i] = logit(v[i], cap, config.capped);
            }
            values[k] = v;
        }
    }
}

/// `g · (softmax − onehot)` of one vector of logits, the target being element `target` if that is
/// less than their number (before the target it wraps around); through the cap if there is one. Zero
/// if `g` is, whatever the logits are.
#[cube]
fn slope<F: Float, N: Size>(
    z: Vector<F, N>,
    target: usize,
    log_sum_exp: f32,
    g: f32,
    cap: f32,
    #[comptime] config: KernelConfig,
) -> Vector<F, N> {
    let mut out = Vector::<F, N>::empty();
    #[unroll]
    for i in 0..N::value() {
        let z = logit(f32::cast_from(z[i]), cap, config.capped);
        let mut d = exp(z - log_sum_exp, config.fast) - select(i == target, 1.0f32, 0.0f32);
        if comptime!(config.capped) {
            let t = z / cap;
            d *= 1.0 - t * t;
        }
        out[i] = F::cast_from(select(g == 0.0, 0.0f32, d * g));
    }
    out
}

/// The loss of each row, and the gradient of its logits if that is wanted, for losses with the
/// gradient `g`; `columns` counts vectors. Of a row without a target both are zero.
#[cube(launch_unchecked)]
pub(super) fn cross_entropy_kernel<F: Float, I: Int, N: Size>(
    z: &Array<Vector<F, N>>,
    targets: &Array<I>,
    nll: &mut Array<f32>,
    gradient: &mut Sequence<Array<Vector<F, N>>>,
    columns: u32,
    cap: f32,
    g: f32,
    #[comptime] config: KernelConfig,
    #[define(F)] _float: StorageType,
    #[define(I)] _int: StorageType,
) {
    let width = comptime!(config.team.width);
    let columns = columns as usize;
    let (lane, row) = (lane(config.team), row(config.team));
    let live = row < nll.len();
    // A team past the end has no columns, but takes part in the sums.
    let end = select(live, columns, 0);
    let base = row * columns;

    let classes = columns * N::value();
    let mut target = classes;
    if live {
        target = known::<I>(targets[row], classes);
    }
    // The unit that writes over the target's vector reads it before.
    let owner = select(target < classes, target / N::value() % width, 0);
    let mut hit = 0.0f32;
    if target < classes && lane == owner {
        let v = z[base + target / N::value()];
        #[unroll]
        for i in 0..N::value() {
            if i == target % N::value() {
                hit = logit(f32::cast_from(v[i]), cap, config.capped);
            }
        }
    }

    // The running maximum, and the sum of exp(z − maximum).
    let mut best = f32::min_value();
    let mut sum = 0.0f32;
    let mut values = Array::<Vector<f32, N>>::new(LOADS);
    let mut at = lane;
    while at + comptime!((LOADS - 1) * config.team.width) < end {
        load(z, base + at, cap, &mut values, LOADS, config);
        let next = largest(&values, best, LOADS);
        sum = sum * exp(best - next, config.fast) + sum_exp(&values, next, LOADS, config.fast);
        best = next;
        at += comptime!(LOADS * config.team.width);
    }
    while at < end {
        load(z, base + at, cap, &mut values, 1usize, config);
        let next = largest(&values, best, 1usize);
        sum = sum * exp(best - next, config.fast) + sum_exp(&values, next, 1usize, config.fast);
        best = next;
        at += width;
    }
    let all = team_max(best, config.team);
    let total = all + f32::ln(team_sum(sum * exp(best - all, config.fast), config.team));
    if live && lane == owner {
        nll[row] = select(target < classes, total - hit, 0.0f32);
    }

    if comptime!(config.gradient) {
        let g = select(target < classes, g, 0.0f32);
        let dz = gradient.index_mut(0usize);
        let mut values = Array::<Vector<F, N>>::new(LOADS);
        let mut at = lane;
        while at + comptime!((LOADS - 1) * config.team.width) < end {
            #[unroll]
            for k in 0..LOADS {
                values[k] = z[base + at + k * width];
            }
            #[unroll]
            for k in 0..LOADS {
                let here = at + k * width;
                dz[base + here] =
                    slope(values[k], target - here * N::value(), total, g, cap, config);
            }
            at += comptime!(LOADS * config.team.width);
        }
        while at < end {
            dz[base + at] = slope(z[base + at], target - at * N::value(), total, g, cap, config);
            at += width;
        }
    }
}
