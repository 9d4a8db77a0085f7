//! The forward: maximum and sum of the exponentials so far are kept, and what was added up is scaled
//! when the maximum grows by so much that weights would leave the range of halves. Blocks of keys are
//! taken from the last to the first: scores that fade have their maximum near the query.

use cubecl::cmma::{self, Matrix, MatrixLayout};
use cubecl::prelude::*;

use super::super::forward::{LOWEST, Pair, queries_of, score, seen, sees};
use super::super::tiles::{Head, Quad, Sizes, store};
use super::blocks::{
    Halves, accumulate, both, fetch, multiply, nothings, place, put, rows_of, show, sum_of_both,
};
use super::{Planes, SIDE};

/// By how much a score may lie above the maximum that is kept: weights of up to e⁸ fit f16.
const SLACK: f32 = 8.0;

/// The unit's masked scores of the keys from `start` on; the largest.
#[cube]
fn scores(
    mine: &mut Array<Quad>,
    products: &SharedMemory<Quad>,
    pair: Pair,
    start: usize,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] planes: Planes,
) -> f32 {
    let (row, half) = place();
    let quads = comptime!(planes.quads());
    let query = pair.first + row;
    let mut most = LOWEST.runtime();
    #[unroll]
    for n in 0..quads {
        let column = half * quads + n;
        let product = products[row * comptime!(planes.score_pitch()) + column];
        let mut quad = Quad::empty();
        #[unroll]
        for j in 0..4usize {
            let key = start + column * 4 + j;
            let s = score(product[j], pair.mask, query, key, fades);
            let s = select(sees(pair.mask, query, key, causal), s, LOWEST.runtime());
            quad[j] = s;
            most = max(most, s);
        }
        mine[n] = quad;
    }
    most
}

/// Puts the weights of the unit's scores into shared memory; their sum.
#[cube]
fn weigh<F: Float>(
    weights: &mut SharedMemory<Halves<F>>,
    mine: &Array<Quad>,
    top: f32,
    #[comptime] planes: Planes,
) -> f32 {
    let (row, half) = place();
    let quads = comptime!(planes.quads());
    let mut sum = 0.0f32;
    #[unroll]
    for n in 0..quads {
        let scores = mine[n];
        let mut quad = Halves::<F>::empty();
        #[unroll]
        for j in 0..4usize {
            let s = scores[j];
            let w = select(s > comptime!(LOWEST * 0.5), f32::exp(s - top), 0.0f32);
            quad[j] = F::cast_from(w);
            sum += w;
        }
        weights[row * comptime!(planes.weight_pitch()) + half * quads + n] = quad;
    }
    sum
}

/// Multiplies the sums of the unit's row by `factor`, through `scores`.
#[cube]
fn shrink(
    sums: &Sequence<Matrix<f32>>,
    scores: &mut SharedMemory<Quad>,
    factor: f32,
    #[comptime] planes: Planes,
) {
    let (row, half) = place();
    let (quads, across) = comptime!((planes.quads(), planes.across()));
    let pitch = comptime!(planes.score_pitch());
    #[unroll]
    for slice in 0..comptime!(planes.channels().div_ceil(planes.across())) {
        let first = comptime!(slice * across);
        let last = comptime!(planes.channels().min((slice + 1) * across));
        sync_cube();
        #[unroll]
        for c in first..last {
            show(scores, sums.index(c), comptime!(c - first), planes);
        }
        sync_cube();
        #[unroll]
        for n in 0..quads {
            let at = row * pitch + half * quads + n;
            scores[at] = scores[at] * Quad::new(factor);
        }
        sync_cube();
        #[unroll]
        for c in first..last {
            let start =
                UNIT_POS_Y as usize * comptime!(SIDE * pitch) + comptime!((c - first) * SIDE / 4);
            cmma::load_with_layout(
                sums.index(c),
                &scores.slice(start, comptime!(planes.rows() * pitch)),
                comptime!((4 * pitch) as u32),
                MatrixLayout::RowMajor,
            );
        }
    }
}

/// Writes the sums of the unit's row times `factor` to row `first + row` of `to`, through `scores`.
#[cube]
pub(super) fn store_sums<F: Float, N: Size>(
    to: &mut Tensor<Vector<F, N>>,
    sums: &Sequence<Matrix<f32>>,
    scores: &mut SharedMemory<Quad>,
    head: Head,
    first: usize,
    factor: f32,
    #[comptime] planes: Planes,
) {
    let (row, half) = place();
    let (quads, across) = comptime!((planes.quads(), planes.across()));
    #[unroll]
    for slice in 0..comptime!(planes.channels().div_ceil(planes.across())) {
        let start = comptime!(slice * across);
        let last = comptime!(planes.channels().min((slice + 1) * across));
        sync_cube();
        #[unroll]
        for c in start..last {
            show(scores, sums.index(c), comptime!(c - start), planes);
        }
        sync_cube();
        #[unroll]
        for n in 0..quads {
            let column = half * quads + n;
            let channel = comptime!(start * SIDE) + column * 4;
            let values = scores[row * comptime!(planes.score_pitch()) + column];
            // Past the last fragment there is what was there before.
            if channel < comptime!(planes.width) {
                store(to, head, first + row, channel, values * Quad::new(factor));
            }
        }
    }
}

/// `y` and the log-sum-exp of each row of scores.
#[cube]
pub(in super::super) fn forward<F: Float, N: Size>(
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
    #[comptime] planes: Planes,
) {
    let (rows, columns) = comptime!((planes.rows(), planes.columns));
    let pair = queries_of(sizes, decay, scale, causal, fades, rows);
    let mut block = SharedMemory::<Halves<F>>::new(comptime!(planes.block()));
    let mut products = SharedMemory::<Quad>::new(comptime!(rows * planes.score_pitch()));
    let mut weights = SharedMemory::<Halves<F>>::new(comptime!(rows * planes.weight_pitch()));
    let mut shown = SharedMemory::<f32>::new(comptime!(planes.units()));
    // Whether a row grew in this step, and in the next one; of 16 bytes, for what lies behind them.
    let mut grown = SharedMemory::<u32>::new(4usize);
    if UNIT_POS == 0 {
        grown[0] = 0u32;
        grown[1] = 0u32;
    }
    let queries = rows_of(q, &mut block, pair.queries, pair.first, planes);
    let sums = nothings(planes);
    let mut mine = Array::<Quad>::new(comptime!(planes.quads()));
    let mut top = LOWEST.runtime();
    let mut total = 0.0f32;
    let blocks = seen(pair, causal, rows, columns);
    for step in 0..blocks {
        let start = (blocks - 1 - step) * columns;
        let of_keys = fetch(k, pair.keys, start, columns, planes);
        put(&mut block, &of_keys, columns, planes);
        sync_cube();
        let values = fetch(v, pair.keys, start, columns, planes);
        multiply(&mut products, &queries, &block, planes);
        sync_cube();
        put(&mut block, &values, columns, planes);
        let most = scores(&mut mine, &products, pair, start, causal, fades, planes);
        let now = step % 2;
        shown[UNIT_POS as usize] = most;
        if most > top + SLACK {
            grown[now] = 1u32;
        }
        sync_cube();
        if grown[now] == 1u32 {
            let (left, right) = both(&shown);
            let most = max(left, right);
            let new = select(most > top + SLACK, most, top);
            let factor = f32::exp(top - new);
            top = new;
            total *= factor;
            if step > 0 {
                shrink(&sums, &mut products, factor, planes);
            }
        }
        if UNIT_POS == 0 {
            grown[1 - now] = 0u32;
        }
        total += weigh(&mut weights, &mine, top, planes);
        sync_cube();
        accumulate(&sums, &weights, &block, planes);
        sync_cube();
    }
    let total = sum_of_both(&mut shown, total);
    let (row, half) = place();
    let (query, all) = (pair.first + row, pair.queries.rows);
    if half == 0 && query < all {
        log_sum_exp[pair.sequence * all + query] = top + f32::ln(total);
    }
    store_sums(y, &sums, &mut products, pair.queries, pair.first, 1.0f32 / total, planes);
}
