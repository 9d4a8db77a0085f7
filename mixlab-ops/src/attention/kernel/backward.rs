//! The gradients of attention, with the scores of one tile at a time: one kernel for the queries,
//! which walks along the keys, and one for keys and values, which walks along the queries of all
//! heads that share them. Nothing is added up by two cubes.

use cubecl::prelude::*;

use super::forward::{Mask, distance, exchange, exchanged_sum, past, score, sees};
use super::tiles::{
    ACROSS, COLUMNS, DEPTH, Head, Quad, ROWS, Sizes, UNITS, accumulate, buffers, multiply,
    put_weights, quad, store_sums, zeros,
};
use crate::plumbing::reduce::cube_sum;

/// `dq`, the `delta = Σ g ⊙ y` of each query, and `ddecay` summed over the rows of each cube,
/// `[B, tiles, H]`.
#[cube(launch_unchecked)]
pub(super) fn of_queries<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    y: &Tensor<Vector<F, N>>,
    g: &Tensor<Vector<F, N>>,
    log_sum_exp: &Array<f32>,
    dq: &mut Tensor<Vector<F, N>>,
    delta: &mut Array<f32>,
    ddecay: &mut Array<f32>,
    sizes: Sizes,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] slices: usize,
    #[define(F)] _dtype: StorageType,
) {
    if CUBE_POS < sizes.cubes as usize {
        let (all, keys) = (sizes.heads as usize, sizes.keys as usize);
        let queries = sizes.queries as usize;
        let width = sizes.width as usize;
        let tiles = sizes.tiles as usize;
        let sequences = sizes.cubes as usize / tiles;
        let index = tiles - 1 - CUBE_POS / sequences;
        let first = index * ROWS.comptime();
        let sequence = CUBE_POS % sequences;
        let (batch, head) = (sequence / all, sequence % all);
        let of_queries = Head { batch, head, rows: queries, width };
        let group = head * sizes.groups as usize / all;
        let of_keys = Head { batch, head: group, rows: keys, width };
        let mut fading = 0.0f32;
        if comptime!(fades) {
            fading = decay[head];
        }
        let mask = Mask { scale, decay: fading, keys, past: past(sizes, causal) };
        let mut buffers = buffers();
        let unit = UNIT_POS as usize;
        let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
        let mut mine = Array::<f32>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            let mut sum = Quad::new(0.0f32);
            #[unroll]
            for slice in 0..slices {
                let channel = comptime!(slice * DEPTH) + across * 4;
                let step = first + down * 4 + i;
                sum += quad(g, of_queries, step, channel) * quad(y, of_queries, step, channel);
            }
            mine[i] = sum[0] + sum[1] + sum[2] + sum[3];
        }
        exchange(&mut buffers, &mine);
        let mut means = Array::<f32>::new(4usize);
        let mut logs = Array::<f32>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            let row = down * 4 + i;
            let at = sequence * queries + min(first + row, queries - 1);
            means[i] = exchanged_sum(&buffers, row);
            logs[i] = log_sum_exp[at];
            if across == 0 && first + row < queries {
                delta[at] = means[i];
            }
        }
        let mut sums = zeros(comptime!(4 * slices));
        let mut apart = 0.0f32;
        let mut end = keys;
        if comptime!(causal) {
            end = min(keys, mask.past + first + ROWS.comptime());
        }
        for tile in 0..end.div_ceil(COLUMNS.comptime()) {
            let start = tile * COLUMNS.comptime();
            let mut block = zeros(4usize);
            multiply(&mut block, &mut buffers, q, k, of_queries, of_keys, first, start, slices);
            let mut slope = zeros(4usize);
            multiply(&mut slope, &mut buffers, g, v, of_queries, of_keys, first, start, slices);
            #[unroll]
            for i in 0..4usize {
                let query = first + down * 4 + i;
                let mut row = Quad::empty();
                #[unroll]
                for j in 0..4usize {
                    let key = start + across * 4 + j;
                    let s = score(block[i][j], mask, query, key, fades);
                    let there = sees(mask, query, key, causal) && query < queries;
                    let p = select(there, f32::exp(s - logs[i]), 0.0f32);
                    let ds = p * (slope[i][j] - means[i]);
                    if comptime!(fades) {
                        apart -= ds * distance(mask, query, key);
                    }
                    row[j] = ds * scale;
                }
                block[i] = row;
            }
            put_weights(&block, &mut buffers);
            accumulate(&mut sums, &mut buffers, k, of_keys, start, slices);
        }
        store_sums(dq, &sums, of_queries, first, slices);
        if comptime!(fades) {
            let apart = cube_sum(apart, UNITS);
            if unit == 0 {
                ddecay[(batch * tiles + index) * all + head] = apart;
            }
        }
    }
}

/// `dk` and `dv`.
#[cube(launch_unchecked)]
pub(super) fn of_keys<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    g: &Tensor<Vector<F, N>>,
    log_sum_exp: &Array<f32>,
    delta: &Array<f32>,
    dk: &mut Tensor<Vector<F, N>>,
    dv: &mut Tensor<Vector<F, N>>,
    sizes: Sizes,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] slices: usize,
    #[define(F)] _dtype: StorageType,
) {
    if CUBE_POS < sizes.cubes as usize {
        let (groups, keys) = (sizes.groups as usize, sizes.keys as usize);
        let queries = sizes.queries as usize;
        let width = sizes.width as usize;
        let sequences = sizes.cubes as usize / sizes.tiles as usize;
        // The first keys of causal attention are seen by the most queries and go first.
        let first = CUBE_POS / sequences * ROWS.comptime();
        let sequence = CUBE_POS % sequences;
        let (batch, group) = (sequence / groups, sequence % groups);
        let of_keys = Head { batch, head: group, rows: keys, width };
        let mut buffers = buffers();
        let unit = UNIT_POS as usize;
        let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
        let mut dk_sums = zeros(comptime!(4 * slices));
        let mut dv_sums = zeros(comptime!(4 * slices));
        let before = past(sizes, causal);
        let mut begin = 0usize.runtime();
        if comptime!(causal) {
            // The first query that sees a key stands at its position.
            begin = (max(first, before) - before) / COLUMNS.comptime();
        }
        let shared = sizes.heads as usize / groups;
        for n in 0..shared {
            let head = group * shared + n;
            let of_queries = Head { batch, head, rows: queries, width };
            let mut fading = 0.0f32;
            if comptime!(fades) {
                fading = decay[head];
            }
            let mask = Mask { scale, decay: fading, keys, past: before };
            let rows = (batch * sizes.heads as usize + head) * queries;
            for tile in begin..queries.div_ceil(COLUMNS.comptime()) {
                let start = tile * COLUMNS.comptime();
                let mut block = zeros(4usize);
                multiply(&mut block, &mut buffers, k, q, of_keys, of_queries, first, start, slices);
                let mut slope = zeros(4usize);
                multiply(&mut slope, &mut buffers, v, g, of_keys, of_queries, first, start, slices);
                #[unroll]
                for j in 0..4usize {
                    let query = start + across * 4 + j;
                    let at = rows + min(query, queries - 1);
                    let (log, mean) = (log_sum_exp[at], delta[at]);
                    #[unroll]
                    for i in 0..4usize {
                        let key = first + down * 4 + i;
                        let mut weights = block[i];
                        let mut slopes = slope[i];
                        let s = score(weights[j], mask, query, key, fades);
                        let there = sees(mask, query, key, causal) && query < queries;
                        let p = select(there, f32::exp(s - log), 0.0f32);
                        weights[j] = p;
                        slopes[j] = p * (slopes[j] - mean) * scale;
                        block[i] = weights;
                        slope[i] = slopes;
                    }
                }
                put_weights(&block, &mut buffers);
                accumulate(&mut dv_sums, &mut buffers, g, of_queries, start, slices);
                put_weights(&slope, &mut buffers);
                accumulate(&mut dk_sums, &mut buffers, q, of_queries, start, slices);
            }
        }
        store_sums(dk, &dk_sums, of_keys, first, slices);
        store_sums(dv, &dv_sums, of_keys, first, slices);
    }
}
