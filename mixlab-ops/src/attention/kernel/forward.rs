//! Attention with the scores of one tile at a time (Dao et al., 2022): the maximum and the sum of
//! the exponentials so far are kept, and what was added up is scaled when the maximum grows.

use cubecl::prelude::*;

use super::tiles::{
    ACROSS, Buffers, COLUMNS, Head, Quad, ROWS, Sizes, accumulate, buffers, multiply, put_weights,
    store_sums, zeros,
};

/// Less than any score, and finite: some drivers assume that all numbers are.
const LOWEST: f32 = -1e30;

/// Which scores there are, and how they fade.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Mask {
    /// Factor of the dot products.
    pub scale: f32,
    /// How much a step of distance lowers a score.
    pub decay: f32,
    /// `Tk`.
    pub keys: usize,
    /// Keys before the position of the first query, `Tk − Tq`; zero unless causal.
    pub past: usize,
}

/// The score of a query and a key, given their product.
#[cube]
pub(super) fn score(
    product: f32,
    mask: Mask,
    query: usize,
    key: usize,
    #[comptime] fades: bool,
) -> f32 {
    let mut score = product * mask.scale;
    if comptime!(fades) {
        score -= mask.decay * distance(mask, query, key);
    }
    score
}

/// From the position of a key to that of a query.
#[cube]
pub(super) fn distance(mask: Mask, query: usize, key: usize) -> f32 {
    f32::cast_from((mask.past + query) as u32) - f32::cast_from(key as u32)
}

/// Keys before the position of the first query.
#[cube]
pub(super) fn past(sizes: Sizes, #[comptime] causal: bool) -> usize {
    let mut past = 0usize.runtime();
    if comptime!(causal) {
        past = (sizes.keys - sizes.queries) as usize;
    }
    past
}

/// Whether a query sees a key.
#[cube]
pub(super) fn sees(mask: Mask, query: usize, key: usize, #[comptime] causal: bool) -> bool {
    let mut sees = key < mask.keys;
    if comptime!(causal) {
        sees = sees && key <= mask.past + query;
    }
    sees
}

/// Lets the units of a row see each other's `mine`, one number for each of their four rows.
#[cube]
pub(super) fn exchange(buffers: &mut Buffers, mine: &Array<f32>) {
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % ACROSS.comptime(), unit / ACROSS.comptime());
    #[unroll]
    for i in 0..4usize {
        buffers.scratch[(down * 4 + i) * ACROSS.comptime() + across] = mine[i];
    }
    sync_cube();
}

/// The sum of what the units of a row exchanged.
#[cube]
pub(super) fn exchanged_sum(buffers: &Buffers, row: usize) -> f32 {
    let mut sum = 0.0f32;
    for i in 0..ACROSS.comptime() {
        sum += buffers.scratch[row * ACROSS.comptime() + i];
    }
    sum
}

/// `y` and the log-sum-exp of each row of scores.
#[cube(launch_unchecked)]
pub(super) fn forward<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    y: &mut Tensor<Vector<F, N>>,
    log_sum_exp: &mut Array<f32>,
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
        // The last queries of causal attention see the most keys and go first.
        let first = (tiles - 1 - CUBE_POS / sequences) * ROWS.comptime();
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
        let mut sums = zeros(comptime!(4 * slices));
        let mut top = Array::<f32>::new(4usize);
        let mut total = Array::<f32>::new(4usize);
        let mut mine = Array::<f32>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            top[i] = LOWEST.runtime();
            total[i] = 0.0f32;
        }
        let mut end = keys;
        if comptime!(causal) {
            end = min(keys, mask.past + first + ROWS.comptime());
        }
        for tile in 0..end.div_ceil(COLUMNS.comptime()) {
            let start = tile * COLUMNS.comptime();
            let mut block = zeros(4usize);
            multiply(&mut block, &mut buffers, q, k, of_queries, of_keys, first, start, slices);
            #[unroll]
            for i in 0..4usize {
                let query = first + down * 4 + i;
                let mut scores = Quad::empty();
                let mut most = LOWEST.runtime();
                #[unroll]
                for j in 0..4usize {
                    let key = start + across * 4 + j;
                    let s = score(block[i][j], mask, query, key, fades);
                    let s = select(sees(mask, query, key, causal), s, LOWEST.runtime());
                    scores[j] = s;
                    most = max(most, s);
                }
                block[i] = scores;
                mine[i] = most;
            }
            exchange(&mut buffers, &mine);
            #[unroll]
            for i in 0..4usize {
                let mut most = top[i];
                for x in 0..ACROSS.comptime() {
                    most = max(most, buffers.scratch[(down * 4 + i) * ACROSS.comptime() + x]);
                }
                let shrink = f32::exp(top[i] - most);
                let mut weights = Quad::empty();
                let mut sum = total[i] * shrink;
                #[unroll]
                for j in 0..4usize {
                    let s = block[i][j];
                    let w = select(s > comptime!(LOWEST * 0.5), f32::exp(s - most), 0.0f32);
                    weights[j] = w;
                    sum += w;
                }
                block[i] = weights;
                top[i] = most;
                total[i] = sum;
                #[unroll]
                for slice in 0..slices {
                    sums[slice * 4 + i] *= Quad::new(shrink);
                }
            }
            put_weights(&block, &mut buffers);
            accumulate(&mut sums, &mut buffers, v, of_keys, start, slices);
        }
        exchange(&mut buffers, &total);
        #[unroll]
        for i in 0..4usize {
            let row = down * 4 + i;
            let total = exchanged_sum(&buffers, row);
            #[unroll]
            for slice in 0..slices {
                sums[slice * 4 + i] *= Quad::new(1.0 / total);
            }
            if across == 0 && first + row < queries {
                log_sum_exp[sequence * queries + first + row] = top[i] + f32::ln(total);
            }
        }
        store_sums(y, &sums, of_queries, first, slices);
    }
}
