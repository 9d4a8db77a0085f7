//! The gradients of attention, with the scores of one tile at a time: one kernel for the queries,
//! which walks along the keys, and one for keys and values, which walks along the queries of all
//! heads that share them. Nothing is added up by two cubes.

use cubecl::prelude::*;

use super::forward::{Mask, Pair, distance, past, queries_of, score, seen, sees};
use super::tile::{COLUMNS, Tile};
use super::tiles::{
    Buffers, Head, Quad, Sizes, accumulate, buffers, channel, exchange, exchanged_sum, load,
    multiply, place, put_weights, quad, rows_of, store_sums, zeros,
};
use crate::plumbing::reduce::cube_sum;

/// `rows · columnsᵀ` of the columns from `start` on, whose last slice stays in shared memory.
#[cube]
fn products<F: Float, N: Size>(
    buffers: &mut Buffers,
    rows: &SharedMemory<Quad>,
    columns: &Tensor<Vector<F, N>>,
    head: Head,
    start: usize,
    #[comptime] tile: Tile,
) -> Array<Quad> {
    let mut block = zeros(comptime!(4 * tile.quads()));
    for slice in 0..tile.slices {
        sync_cube();
        load(&mut buffers.columns, columns, head, start, slice, tile);
        sync_cube();
        multiply(&mut block, rows, &buffers.columns, slice, tile);
    }
    block
}

/// Adds `weights` times the columns from `start` on to `sums`, the last slice first: it may be
/// `there` already.
#[cube]
fn add<F: Float, N: Size>(
    sums: &mut Array<Quad>,
    buffers: &mut Buffers,
    weights: &Array<Quad>,
    columns: &Tensor<Vector<F, N>>,
    head: Head,
    start: usize,
    #[comptime] there: bool,
    #[comptime] tile: Tile,
) {
    if comptime!(!there) {
        // What is left of the last sum.
        sync_cube();
    }
    put_weights(&mut buffers.weights, weights, tile);
    #[unroll]
    for n in 0..comptime!(tile.slices) {
        let slice = comptime!(tile.slices - 1 - n);
        if comptime!(n > 0) {
            sync_cube();
        }
        if comptime!(n > 0 || !there) {
            load(&mut buffers.columns, columns, head, start, slice, tile);
        }
        sync_cube();
        accumulate(sums, buffers, slice, tile);
    }
}

/// `Σ g ⊙ y` of the unit's rows.
#[cube]
fn means<F: Float, N: Size>(
    buffers: &mut Buffers,
    y: &Tensor<Vector<F, N>>,
    g: &Tensor<Vector<F, N>>,
    pair: Pair,
    #[comptime] tile: Tile,
) -> Quad {
    let (_, down) = place(tile);
    let mut mine = Quad::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        let step = pair.first + down + comptime!(i * tile.down());
        let mut sum = Quad::new(0.0f32);
        #[unroll]
        for slice in 0..comptime!(tile.slices) {
            #[unroll]
            for n in 0..comptime!(tile.channels()) {
                let at = channel(slice, n, tile);
                sum += quad(g, pair.queries, step, at) * quad(y, pair.queries, step, at);
            }
        }
        mine[i] = sum[0] + sum[1] + sum[2] + sum[3];
    }
    exchange(&mut buffers.weights, mine);
    exchanged_sum(&buffers.weights, tile)
}

/// `dq`, the `delta = Σ g ⊙ y` of each query, and `ddecay` summed over the rows of each cube,
/// `[B, tiles, H]`.
#[cube]
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
    #[comptime] tile: Tile,
) {
    let pair = queries_of(sizes, decay, scale, causal, fades, tile.rows);
    let queries = pair.queries.rows;
    let q_rows = rows_of(q, pair.queries, pair.first, tile);
    let g_rows = rows_of(g, pair.queries, pair.first, tile);
    let mut buffers = buffers(tile);
    let (across, down) = place(tile);
    let means = means(&mut buffers, y, g, pair, tile);
    let mut logs = Quad::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        let query = pair.first + down + comptime!(i * tile.down());
        let at = pair.sequence * queries + min(query, queries - 1);
        logs[i] = log_sum_exp[at];
        if across == 0 && query < queries {
            delta[at] = means[i];
        }
    }
    let mut sums = zeros(comptime!(4 * tile.slices * tile.channels()));
    let mut apart = 0.0f32;
    for step in 0..seen(pair, causal, tile.rows, COLUMNS) {
        let start = step * COLUMNS.comptime();
        let slope = products(&mut buffers, &g_rows, v, pair.keys, start, tile);
        let mut block = products(&mut buffers, &q_rows, k, pair.keys, start, tile);
        #[unroll]
        for i in 0..4usize {
            let query = pair.first + down + comptime!(i * tile.down());
            #[unroll]
            for n in 0..comptime!(tile.quads()) {
                let at = comptime!(i * tile.quads() + n);
                let (product, slopes) = (block[at], slope[at]);
                let mut row = Quad::empty();
                #[unroll]
                for j in 0..4usize {
                    let key = start + (across * tile.quads() + n) * 4 + j;
                    let s = score(product[j], pair.mask, query, key, fades);
                    let there = sees(pair.mask, query, key, causal) && query < queries;
                    let p = select(there, f32::exp(s - logs[i]), 0.0f32);
                    let ds = p * (slopes[j] - means[i]);
                    if comptime!(fades) {
                        apart -= ds * distance(pair.mask, query, key);
                    }
                    row[j] = ds * scale;
                }
                block[at] = row;
            }
        }
        add(&mut sums, &mut buffers, &block, k, pair.keys, start, true, tile);
    }
    store_sums(dq, &sums, pair.queries, pair.first, tile);
    if comptime!(fades) {
        let apart = cube_sum(apart, comptime!(tile.units()));
        if UNIT_POS == 0 {
            let all = sizes.heads as usize;
            let part = pair.queries.batch * sizes.tiles as usize + pair.index;
            ddecay[part * all + pair.queries.head] = apart;
        }
    }
}

/// `dk` and `dv`.
#[cube]
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
    #[comptime] tile: Tile,
) {
    let (groups, keys) = (sizes.groups as usize, sizes.keys as usize);
    let queries = sizes.queries as usize;
    let width = sizes.width as usize;
    let sequences = sizes.cubes as usize / sizes.tiles as usize;
    // The first keys of causal attention are seen by the most queries and go first.
    let first = CUBE_POS / sequences * tile.rows;
    let sequence = CUBE_POS % sequences;
    let (batch, group) = (sequence / groups, sequence % groups);
    let of_keys = Head { batch, head: group, rows: keys, width };
    let k_rows = rows_of(k, of_keys, first, tile);
    let v_rows = rows_of(v, of_keys, first, tile);
    let mut buffers = buffers(tile);
    let (across, down) = place(tile);
    let mut dk_sums = zeros(comptime!(4 * tile.slices * tile.channels()));
    let mut dv_sums = zeros(comptime!(4 * tile.slices * tile.channels()));
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
        for step in begin..queries.div_ceil(COLUMNS.comptime()) {
            let start = step * COLUMNS.comptime();
            let mut slope = products(&mut buffers, &v_rows, g, of_queries, start, tile);
            let mut block = products(&mut buffers, &k_rows, q, of_queries, start, tile);
            #[unroll]
            for n in 0..comptime!(tile.quads()) {
                #[unroll]
                for j in 0..4usize {
                    let query = start + (across * tile.quads() + n) * 4 + j;
                    let at = rows + min(query, queries - 1);
                    let (log, mean) = (log_sum_exp[at], delta[at]);
                    #[unroll]
                    for i in 0..4usize {
                        let at = comptime!(i * tile.quads() + n);
                        let key = first + down + comptime!(i * tile.down());
                        let mut weights = block[at];
                        let mut slopes = slope[at];
                        let s = score(weights[j], mask, query, key, fades);
                        let there = sees(mask, query, key, causal) && query < queries;
                        let p = select(there, f32::exp(s - log), 0.0f32);
                        weights[j] = p;
                        slopes[j] = p * (slopes[j] - mean) * scale;
                        block[at] = weights;
                        slope[at] = slopes;
                    }
                }
            }
            add(&mut dk_sums, &mut buffers, &slope, q, of_queries, start, true, tile);
            add(&mut dv_sums, &mut buffers, &block, g, of_queries, start, false, tile);
        }
    }
    store_sums(dk, &dk_sums, of_keys, first, tile);
    store_sums(dv, &dv_sums, of_keys, first, tile);
}
