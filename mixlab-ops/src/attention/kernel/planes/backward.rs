//! The gradients, as those without matrix units: one kernel for the queries, which walks along the
//! keys, and one for keys and values, which walks along the queries of all heads that share them.
//! Nothing is added up by two cubes.

use cubecl::prelude::*;

use super::super::forward::{Mask, Pair, distance, past, queries_of, score, seen, sees};
use super::super::tiles::{Head, Quad, Sizes, quad};
use super::Planes;
use super::blocks::{
    Halves, accumulate, fetch, multiply, nothings, place, put, rows_of, sum_of_both,
};
use super::forward::store_sums;
use crate::plumbing::reduce::cube_sum;

/// `Σ g ⊙ y` of the unit's row.
#[cube]
fn mean<F: Float, N: Size>(
    shown: &mut SharedMemory<f32>,
    y: &Tensor<Vector<F, N>>,
    g: &Tensor<Vector<F, N>>,
    pair: Pair,
    #[comptime] planes: Planes,
) -> f32 {
    let (row, half) = place();
    let mut sum = Quad::new(0.0f32);
    for n in 0..comptime!(planes.width / 8) {
        let at = (half * comptime!(planes.width / 8) + n) * 4;
        let step = pair.first + row;
        sum += quad(g, pair.queries, step, at) * quad(y, pair.queries, step, at);
    }
    sum_of_both(shown, sum[0] + sum[1] + sum[2] + sum[3])
}

/// `dq`, the `delta = Σ g ⊙ y` of each query, and `ddecay` summed over the rows of each cube,
/// `[B, tiles, H]`.
#[cube]
pub(in super::super) fn of_queries<F: Float, N: Size>(
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
    #[comptime] planes: Planes,
) {
    let (rows, columns) = comptime!((planes.rows(), planes.columns));
    let pair = queries_of(sizes, decay, scale, causal, fades, rows);
    let mut block = SharedMemory::<Halves<F>>::new(comptime!(planes.block()));
    let mut values = SharedMemory::<Halves<F>>::new(comptime!(planes.columns * planes.row_pitch()));
    let score_quads = comptime!(rows * planes.score_pitch());
    let mut products = SharedMemory::<Quad>::new(score_quads);
    let mut slopes = SharedMemory::<Quad>::new(score_quads);
    let mut weights = SharedMemory::<Halves<F>>::new(comptime!(rows * planes.weight_pitch()));
    let mut shown = SharedMemory::<f32>::new(comptime!(planes.units()));
    let q_rows = rows_of(q, &mut block, pair.queries, pair.first, planes);
    let g_rows = rows_of(g, &mut block, pair.queries, pair.first, planes);
    let mean = mean(&mut shown, y, g, pair, planes);
    let (row, half) = place();
    let (query, queries) = (pair.first + row, pair.queries.rows);
    let at = pair.sequence * queries + min(query, queries - 1);
    let log = log_sum_exp[at];
    if half == 0 && query < queries {
        delta[at] = mean;
    }
    let sums = nothings(planes);
    let mut apart = 0.0f32;
    for step in 0..seen(pair, causal, rows, columns) {
        let start = step * columns;
        let of_keys = fetch(k, pair.keys, start, columns, planes);
        let of_values = fetch(v, pair.keys, start, columns, planes);
        put(&mut block, &of_keys, columns, planes);
        put(&mut values, &of_values, columns, planes);
        sync_cube();
        multiply(&mut products, &q_rows, &block, planes);
        multiply(&mut slopes, &g_rows, &values, planes);
        sync_cube();
        #[unroll]
        for n in 0..comptime!(planes.quads()) {
            let column = half * comptime!(planes.quads()) + n;
            let at = row * comptime!(planes.score_pitch()) + column;
            let (product, slope) = (products[at], slopes[at]);
            let mut quad = Halves::<F>::empty();
            #[unroll]
            for j in 0..4usize {
                let key = start + column * 4 + j;
                let s = score(product[j], pair.mask, query, key, fades);
                let there = sees(pair.mask, query, key, causal) && query < queries;
                let p = select(there, f32::exp(s - log), 0.0f32);
                let ds = p * (slope[j] - mean);
                if comptime!(fades) {
                    apart -= ds * distance(pair.mask, query, key);
                }
                quad[j] = F::cast_from(ds * scale);
            }
            weights[row * comptime!(planes.weight_pitch()) + column] = quad;
        }
        sync_cube();
        accumulate(&sums, &weights, &block, planes);
        sync_cube();
    }
    store_sums(dq, &sums, &mut products, pair.queries, pair.first, 1.0f32, planes);
    if comptime!(fades) {
        let apart = cube_sum(apart, comptime!(planes.units()));
        if UNIT_POS == 0 {
            let all = sizes.heads as usize;
            let part = pair.queries.batch * sizes.tiles as usize + pair.index;
            ddecay[part * all + pair.queries.head] = apart;
        }
    }
}

/// `dk` and `dv`.
#[cube]
pub(in super::super) fn of_keys<F: Float, N: Size>(
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
    #[comptime] planes: Planes,
) {
    let (rows, columns) = comptime!((planes.rows(), planes.columns));
    let (groups, keys) = (sizes.groups as usize, sizes.keys as usize);
    let queries = sizes.queries as usize;
    let width = sizes.width as usize;
    let sequences = sizes.cubes as usize / sizes.tiles as usize;
    // The first keys of causal attention are seen by the most queries and go first.
    let first = CUBE_POS / sequences * rows;
    let sequence = CUBE_POS % sequences;
    let (batch, group) = (sequence / groups, sequence % groups);
    let of_keys = Head { batch, head: group, rows: keys, width };
    let mut block = SharedMemory::<Halves<F>>::new(comptime!(planes.block()));
    let mut gradients =
        SharedMemory::<Halves<F>>::new(comptime!(planes.columns * planes.row_pitch()));
    let score_quads = comptime!(rows * planes.score_pitch());
    let mut products = SharedMemory::<Quad>::new(score_quads);
    let mut slopes = SharedMemory::<Quad>::new(score_quads);
    let weight_quads = comptime!(rows * planes.weight_pitch());
    let mut weights = SharedMemory::<Halves<F>>::new(weight_quads);
    let mut changes = SharedMemory::<Halves<F>>::new(weight_quads);
    // The log-sum-exp of each column, and its delta.
    let mut of_columns = SharedMemory::<f32>::new(comptime!(2 * planes.columns));
    let k_rows = rows_of(k, &mut block, of_keys, first, planes);
    let v_rows = rows_of(v, &mut block, of_keys, first, planes);
    let dk_sums = nothings(planes);
    let dv_sums = nothings(planes);
    let (row, half) = place();
    let key = first + row;
    let before = past(sizes, causal);
    let mut begin = 0usize.runtime();
    if comptime!(causal) {
        // The first query that sees a key stands at its position.
        begin = (max(first, before) - before) / columns;
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
        let all = (batch * sizes.heads as usize + head) * queries;
        for step in begin..queries.div_ceil(columns) {
            let start = step * columns;
            let of_q = fetch(q, of_queries, start, columns, planes);
            let of_g = fetch(g, of_queries, start, columns, planes);
            put(&mut block, &of_q, columns, planes);
            put(&mut gradients, &of_g, columns, planes);
            let unit = UNIT_POS as usize;
            if unit < columns {
                let at = all + min(start + unit, queries - 1);
                of_columns[unit] = log_sum_exp[at];
                of_columns[columns + unit] = delta[at];
            }
            sync_cube();
            multiply(&mut products, &k_rows, &block, planes);
            multiply(&mut slopes, &v_rows, &gradients, planes);
            sync_cube();
            #[unroll]
            for n in 0..comptime!(planes.quads()) {
                let column = half * comptime!(planes.quads()) + n;
                let at = row * comptime!(planes.score_pitch()) + column;
                let (product, slope) = (products[at], slopes[at]);
                let mut weight = Halves::<F>::empty();
                let mut change = Halves::<F>::empty();
                #[unroll]
                for j in 0..4usize {
                    let query = start + column * 4 + j;
                    let log = of_columns[column * 4 + j];
                    let mean = of_columns[columns + column * 4 + j];
                    let s = score(product[j], mask, query, key, fades);
                    let there = sees(mask, query, key, causal) && query < queries;
                    let p = select(there, f32::exp(s - log), 0.0f32);
                    weight[j] = F::cast_from(p);
                    change[j] = F::cast_from(p * (slope[j] - mean) * scale);
                }
                let at = row * comptime!(planes.weight_pitch()) + column;
                weights[at] = weight;
                changes[at] = change;
            }
            sync_cube();
            accumulate(&dk_sums, &changes, &block, planes);
            accumulate(&dv_sums, &weights, &gradients, planes);
            sync_cube();
        }
    }
    store_sums(dk, &dk_sums, &mut products, of_keys, first, 1.0f32, planes);
    store_sums(dv, &dv_sums, &mut slopes, of_keys, first, 1.0f32, planes);
}
