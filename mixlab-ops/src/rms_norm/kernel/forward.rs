//! The norm: one row a team.

use cubecl::prelude::*;

use super::KernelConfig;
use crate::plumbing::rows::{lane, row, team_sum};

/// The vectors of this unit's row that it holds, as f32; zeros past the end of the row, which has
/// `columns` vectors, none in a row that does not exist.
#[cube]
pub(super) fn held<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    base: usize,
    columns: usize,
    #[comptime] config: KernelConfig,
) -> Array<Vector<f32, N>> {
    let mut values = Array::<Vector<f32, N>>::new(config.each);
    let lane = lane(config.team);
    #[unroll]
    for k in 0..config.each {
        let at = lane + k * config.team.width;
        let mut v = Vector::<f32, N>::new(0.0);
        if at < columns {
            v = Vector::cast_from(x[base + at]);
        }
        values[k] = v;
    }
    values
}

/// The sum of a vector.
#[cube]
pub(super) fn total<N: Size>(v: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..N::value() {
        sum += v[i];
    }
    sum
}

/// `y = x · r · scale`; `inverse` is one over the length of a row, of `columns` vectors.
#[cube(launch_unchecked)]
pub(super) fn rms_norm_kernel<F: Float, S: Float, O: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    scale: &Array<Vector<S, N>>,
    y: &mut Array<Vector<O, N>>,
    rows: u32,
    columns: u32,
    inverse: f32,
    eps: f32,
    #[comptime] config: KernelConfig,
    #[define(F)] _stream: StorageType,
    #[define(S)] _factor: StorageType,
    #[define(O)] _out: StorageType,
) {
    let (lane, row) = (lane(config.team), row(config.team));
    let columns = columns as usize;
    let base = row * columns;
    // A team past the end has no columns, but takes part in the sums.
    let end = select(row < rows as usize, columns, 0);
    let values = held(x, base, end, config);
    let mut squares = Vector::<f32, N>::new(0.0);
    #[unroll]
    for k in 0..config.each {
        squares += values[k] * values[k];
    }
    let mean = team_sum(total(squares), config.team) * inverse;
    let r = Vector::<f32, N>::new(1.0 / f32::sqrt(mean + eps));
    #[unroll]
    for k in 0..config.each {
        let at = lane + k * config.team.width;
        if at < end {
            y[base + at] = Vector::cast_from(values[k] * r * Vector::cast_from(scale[at]));
        }
    }
}
