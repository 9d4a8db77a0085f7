//! The gradients: each cube steps through groups of rows, as many apart as there are cubes, and adds up
//! what they contribute to the gradient of the scale; a second kernel adds up the cubes.

use cubecl::prelude::*;

use super::forward::{held, total};
use super::{KernelConfig, TILE};
use crate::plumbing::rows::{UNITS, lane, team_sum};

/// `dx = r·(u − x̂ · mean(u ⊙ x̂))` with `u = g ⊙ scale` and `x̂ = x · r`, and the sums of `g ⊙ x̂`
/// over the rows of each cube.
#[cube(launch_unchecked)]
pub(super) fn rms_norm_gradient_kernel<F: Float, S: Float, G: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    scale: &Array<Vector<S, N>>,
    g: &Array<Vector<G, N>>,
    dx: &mut Array<Vector<F, N>>,
    partial: &mut Array<Vector<f32, N>>,
    rows: u32,
    columns: u32,
    inverse: f32,
    eps: f32,
    #[comptime] config: KernelConfig,
    #[define(F)] _stream: StorageType,
    #[define(S)] _factor: StorageType,
    #[define(G)] _grad: StorageType,
) {
    let lane = lane(config.team);
    let columns = columns as usize;
    let mut sums = Array::<Vector<f32, N>>::new(config.each);
    #[unroll]
    for k in 0..config.each {
        sums[k] = Vector::new(0.0);
    }
    // The same number of rounds for every team: they all take part in the sums.
    let mut first = CUBE_POS * comptime!(config.team.count());
    while first < rows as usize {
        let row = first + UNIT_POS as usize / comptime!(config.team.width);
        let base = row * columns;
        let end = select(row < rows as usize, columns, 0);
        let values = held(x, base, end, config);
        let grads = held(g, base, end, config);
        let (mut squares, mut products) = (Vector::<f32, N>::new(0.0), Vector::<f32, N>::new(0.0));
        #[unroll]
        for k in 0..config.each {
            let at = lane + k * config.team.width;
            if at < end {
                let u = grads[k] * Vector::cast_from(scale[at]);
                squares += values[k] * values[k];
                products += u * values[k];
            }
        }
        let r = 1.0 / f32::sqrt(team_sum(total(squares), config.team) * inverse + eps);
        let mean = team_sum(total(products), config.team) * inverse * r;
        let (r, mean) = (Vector::<f32, N>::new(r), Vector::<f32, N>::new(mean));
        #[unroll]
        for k in 0..config.each {
            let at = lane + k * config.team.width;
            if at < end {
                let u = grads[k] * Vector::cast_from(scale[at]);
                let normed = values[k] * r;
                dx[base + at] = Vector::cast_from((u - normed * mean) * r);
                sums[k] += grads[k] * normed;
            }
        }
        first += CUBE_COUNT * comptime!(config.team.count());
    }

    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS));
    #[unroll]
    for k in 0..config.each {
        shared[UNIT_POS as usize] = sums[k];
        sync_cube();
        let at = lane + k * config.team.width;
        if UNIT_POS as usize == lane && at < columns {
            let mut sum = shared[lane];
            for team in 1..comptime!(config.team.count()) {
                sum += shared[lane + team * config.team.width];
            }
            partial[CUBE_POS * columns + at] = sum;
        }
        sync_cube();
    }
}

/// The sum of `count` rows of `partial`, `TILE` columns a cube: as many slices of the rows, then a
/// sum of the slices.
#[cube(launch_unchecked)]
pub(super) fn rms_norm_scale_kernel<S: Float>(
    partial: &Array<f32>,
    sums: &mut Array<S>,
    count: u32,
    #[define(S)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(TILE * TILE));
    let unit = UNIT_POS as usize;
    let (column, slice) = (unit % comptime!(TILE), unit / comptime!(TILE));
    let at = CUBE_POS * comptime!(TILE) + column;
    let width = sums.len();
    let mut sum = 0.0f32;
    if at < width {
        let mut part = slice;
        while part < count as usize {
            sum += partial[part * width + at];
            part += comptime!(TILE);
        }
    }
    shared[unit] = sum;
    sync_cube();
    if slice == 0 && at < width {
        for other in 1..comptime!(TILE) {
            sum += shared[column + other * comptime!(TILE)];
        }
        sums[at] = S::cast_from(sum);
    }
}
