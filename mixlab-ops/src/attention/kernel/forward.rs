//! Attention with the scores of one tile at a time (Dao et al., 2022): the maximum and the sum of
//! the exponentials so far are kept, and what was added up is scaled when the maximum grows.

use cubecl::prelude::*;

use super::tile::{COLUMNS, Tile};
use super::tiles::{
    Head, Quad, Sizes, accumulate, buffers, exchange, exchanged_max, exchanged_sum, load, multiply,
    place, put_weights, rows_of, store_sums, zeros,
};

/// Less than any score, and finite: some drivers assume that all numbers are.
pub(super) const LOWEST: f32 = -1e30;

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

/// What a cube works on: head `head` of the queries of a batch, and the one of the keys.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Pair {
    pub queries: Head,
    pub keys: Head,
    pub mask: Mask,
    /// Of the rows that the cube has.
    pub first: usize,
    /// Number of the head among those of all batches, and of the tile in it.
    pub sequence: usize,
    pub index: usize,
}

/// The queries of a cube. Those of causal attention that see the most keys go first.
#[cube]
pub(super) fn queries_of(
    sizes: Sizes,
    decay: &Array<f32>,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] rows: usize,
) -> Pair {
    let all = sizes.heads as usize;
    let width = sizes.width as usize;
    let tiles = sizes.tiles as usize;
    let sequences = sizes.cubes as usize / tiles;
    let index = tiles - 1 - CUBE_POS / sequences;
    let sequence = CUBE_POS % sequences;
    let (batch, head) = (sequence / all, sequence % all);
    let queries = Head { batch, head, rows: sizes.queries as usize, width };
    let group = head * sizes.groups as usize / all;
    let keys = Head { batch, head: group, rows: sizes.keys as usize, width };
    let mut fading = 0.0f32;
    if comptime!(fades) {
        fading = decay[head];
    }
    let mask = Mask { scale, decay: fading, keys: keys.rows, past: past(sizes, causal) };
    Pair { queries, keys, mask, first: index * rows, sequence, index }
}

/// Blocks of `columns` keys that the `rows` queries of a cube see.
#[cube]
pub(super) fn seen(
    pair: Pair,
    #[comptime] causal: bool,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
) -> usize {
    let mut end = pair.keys.rows;
    if comptime!(causal) {
        end = min(end, pair.mask.past + pair.first + rows);
    }
    end.div_ceil(columns)
}

/// Turns the unit's products into masked scores; the largest of each row.
#[cube]
fn scores(
    block: &mut Array<Quad>,
    pair: Pair,
    start: usize,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] tile: Tile,
) -> Quad {
    let quads = comptime!(tile.quads());
    let (x, y) = place(tile);
    let mut largest = Quad::new(LOWEST);
    #[unroll]
    for i in 0..4usize {
        let query = pair.first + y + comptime!(i * tile.down());
        let mut most = LOWEST.runtime();
        #[unroll]
        for n in 0..quads {
            let products = block[i * quads + n];
            let mut row = Quad::empty();
            #[unroll]
            for j in 0..4usize {
                let key = start + (x * quads + n) * 4 + j;
                let s = score(products[j], pair.mask, query, key, fades);
                let s = select(sees(pair.mask, query, key, causal), s, LOWEST.runtime());
                row[j] = s;
                most = max(most, s);
            }
            block[i * quads + n] = row;
        }
        largest[i] = most;
    }
    largest
}

/// Turns scores into weights, given the largest of each row so far; their sums.
#[cube]
fn weights(block: &mut Array<Quad>, largest: Quad, #[comptime] tile: Tile) -> Quad {
    let quads = comptime!(tile.quads());
    let mut sums = Quad::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        let mut sum = 0.0f32;
        #[unroll]
        for n in 0..quads {
            let scores = block[i * quads + n];
            let mut row = Quad::empty();
            #[unroll]
            for j in 0..4usize {
                let s = scores[j];
                let w = select(s > comptime!(LOWEST * 0.5), f32::exp(s - largest[i]), 0.0f32);
                row[j] = w;
                sum += w;
            }
            block[i * quads + n] = row;
        }
        sums[i] = sum;
    }
    sums
}

/// Multiplies the sums of each row by a factor.
#[cube]
fn shrink(sums: &mut Array<Quad>, factors: Quad, #[comptime] tile: Tile) {
    #[unroll]
    for n in 0..comptime!(tile.slices * tile.channels()) {
        #[unroll]
        for i in 0..4usize {
            sums[n * 4 + i] *= Quad::new(factors[i]);
        }
    }
}

/// `y` and the log-sum-exp of each row of scores.
#[cube]
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
    #[comptime] tile: Tile,
) {
    let pair = queries_of(sizes, decay, scale, causal, fades, tile.rows);
    let rows = rows_of(q, pair.queries, pair.first, tile);
    let mut buffers = buffers(tile);
    let (across, down) = place(tile);
    let mut sums = zeros(comptime!(4 * tile.slices * tile.channels()));
    let mut top = Quad::new(LOWEST);
    let mut total = Quad::new(0.0f32);
    for step in 0..seen(pair, causal, tile.rows, COLUMNS) {
        let start = step * COLUMNS.comptime();
        let mut block = zeros(comptime!(4 * tile.quads()));
        for slice in 0..tile.slices {
            sync_cube();
            load(&mut buffers.columns, k, pair.keys, start, slice, tile);
            sync_cube();
            multiply(&mut block, &rows, &buffers.columns, slice, tile);
        }
        let mine = scores(&mut block, pair, start, causal, fades, tile);
        exchange(&mut buffers.weights, mine);
        // Meanwhile the first values come in.
        load(&mut buffers.columns, v, pair.keys, start, 0usize, tile);
        let most = max(top, exchanged_max(&buffers.weights, tile));
        let factors = Vector::exp(top - most);
        top = most;
        total = total * factors + weights(&mut block, most, tile);
        shrink(&mut sums, factors, tile);
        sync_cube();
        put_weights(&mut buffers.weights, &block, tile);
        #[unroll]
        for slice in 0..comptime!(tile.slices) {
            if comptime!(slice > 0) {
                sync_cube();
                load(&mut buffers.columns, v, pair.keys, start, slice, tile);
            }
            sync_cube();
            accumulate(&mut sums, &buffers, slice, tile);
        }
    }
    sync_cube();
    exchange(&mut buffers.weights, total);
    let total = exchanged_sum(&buffers.weights, tile);
    shrink(&mut sums, Quad::new(1.0f32) / total, tile);
    let queries = pair.queries.rows;
    if across == 0 {
        #[unroll]
        for i in 0..4usize {
            let query = pair.first + down + comptime!(i * tile.down());
            if query < queries {
                log_sum_exp[pair.sequence * queries + query] = top[i] + f32::ln(total[i]);
            }
        }
    }
    store_sums(y, &sums, pair.queries, pair.first, tile);
}
