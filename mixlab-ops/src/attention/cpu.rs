//! Attention for burn-flex: one head at a time, a block of query rows at a time, and only the keys
//! that the block sees. Scores live in a buffer of one block. A query alone, which is a token that is
//! decoded, reads its keys and values as they lie.

use core::ops::Range;

use burn_flex::FlexTensor;

use super::Attention;
use crate::plumbing::cpu::{
    Heads as View, Matrix, Product, add_row, combine, exp, joined, maximum, multiply, parallel,
    parallel_if, set_row, sum, tensor, update, wide,
};

/// Query rows of a block.
const BLOCK: usize = 64;

/// Multiplications of all scores that make several threads pay: a token after few others has fewer.
const LARGE: usize = 1 << 15;

/// The inputs and options of softmax attention, whose scores may fade with distance.
pub(crate) struct Heads {
    q: View,
    k: View,
    v: View,
    causal: bool,
    /// Factor of the dot products.
    scale: f32,
    /// How much a step of distance lowers a score, by query head; empty for not at all.
    decay: Vec<f32>,
}

/// What the gradient reads besides the inputs: the outputs of the forward, and the gradient of the
/// first of them.
pub(crate) struct Saved {
    y: View,
    log_sum_exp: FlexTensor,
    g: View,
}

/// The part of the gradient that one key/value head of one batch row makes up.
struct HeadGradient {
    /// One for each query head of the group.
    dq: Vec<Vec<f32>>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    ddecay: Vec<f32>,
}

/// Some query rows of a head, and how many keys the last of them sees.
#[derive(Clone)]
struct Block {
    batch: usize,
    head: usize,
    rows: Range<usize>,
    keys: usize,
}

impl Saved {
    pub fn new([y, log_sum_exp, g]: [&FlexTensor; 3]) -> Self {
        Self { y: View::new(y), log_sum_exp: log_sum_exp.to_contiguous(), g: View::new(g) }
    }
}

impl Heads {
    pub fn new(inputs: [&FlexTensor; 3], op: &Attention, decay: Vec<f32>) -> Self {
        let [q, k, v] = inputs.map(View::new);
        Self { q, k, v, causal: op.causal, scale: op.scale, decay }
    }

    /// The blocks of a head.
    fn blocks(&self, batch: usize, head: usize) -> impl Iterator<Item = Block> {
        let t = self.q.dims[2];
        (0..t).step_by(BLOCK).map(move |first| {
            let rows = first..t.min(first + BLOCK);
            Block { batch, head, keys: self.seen(rows.end - 1), rows }
        })
    }

    /// How many keys the query at `row` sees: the last one sees all.
    #[inline(always)]
    fn seen(&self, row: usize) -> usize {
        let [queries, keys] = [&self.q, &self.k].map(|x| x.dims[2]);
        if self.causal { keys - queries + row + 1 } else { keys }
    }

    /// Memory for the scores of a block.
    fn buffer(&self) -> Vec<f32> {
        vec![0.0; BLOCK.min(self.q.dims[2]) * self.k.dims[2]]
    }

    /// The key/value head that a query head reads.
    fn group(&self, head: usize) -> usize {
        head * self.k.dims[1] / self.q.dims[1]
    }

    /// The result `[B, H, T, hd]` and the log-sum-exp of each row of scores, `[B, H, T, 1]`.
    pub fn forward(&self) -> [FlexTensor; 2] {
        let [b, h, t, hd] = self.q.dims;
        let tasks: Vec<_> = (0..b * h).map(|n| (n / h, n % h)).collect();
        let large = b * h * t * self.k.dims[2] * hd >= LARGE;
        let heads = parallel_if(large, tasks, |(batch, head)| self.head(batch, head));
        let parts: Vec<&[f32]> = heads.iter().map(|(y, _)| y.as_slice()).collect();
        let sums = heads.iter().flat_map(|(_, sums)| sums.iter().copied()).collect();
        [joined(&parts, self.q.dims), tensor(sums, [b, h, t, 1])]
    }

    fn head(&self, batch: usize, head: usize) -> (Vec<f32>, Vec<f32>) {
        let [_, _, t, hd] = self.q.dims;
        if t == 1 {
            let (y, sum) = self.query(batch, head);
            return (y, vec![sum]);
        }
        let v = self.v.matrix(batch, self.group(head));
        let (mut y, mut sums) = (vec![0.0; t * hd], vec![0.0; t]);
        let mut buffer = self.buffer();
        for block in self.blocks(batch, head) {
            let p = self.scores(&mut buffer, &block);
            let Block { rows, keys, .. } = block;
            let to = &mut y[rows.start * hd..];
            wide(
                #[inline(always)]
                || {
                    for (row, p) in rows.zip(p.chunks_mut(keys)) {
                        // Whole lanes: what is not seen has no share.
                        p[self.seen(row)..].fill(f32::NEG_INFINITY);
                        sums[row] = softmax(p);
                    }
                },
            );
            multiply(to, hd, Matrix::whole(p, keys), v.rows(0..keys), Product::default());
        }
        (y, sums)
    }

    /// The result `[hd]` of the only query, and its log-sum-exp.
    fn query(&self, batch: usize, head: usize) -> (Vec<f32>, f32) {
        let (group, seen) = (self.group(head), self.seen(0));
        let [k, v] = [&self.k, &self.v].map(|x| x.matrix(batch, group).rows(0..seen));
        let (mut y, mut scores) = (vec![0.0; self.q.dims[3]], vec![0.0; seen]);
        let mut log_sum_exp = 0.0;
        wide(
            #[inline(always)]
            || {
                set_row(&mut scores, self.q.row(batch, head, 0), k.transposed());
                scores.iter_mut().for_each(|score| *score *= self.scale);
                if let Some(&decay) = self.decay.get(head) {
                    fade(&mut scores, decay);
                }
                log_sum_exp = softmax(&mut scores);
                add_row(&mut y, &scores, v);
            },
        );
        (y, log_sum_exp)
    }

    /// Scores of a block; those of the future mean nothing.
    fn scores<'a>(&self, buffer: &'a mut [f32], block: &Block) -> &'a mut [f32] {
        let Block { batch, head, rows, keys } = block.clone();
        let s = &mut buffer[..rows.len() * keys];
        let k = self.k.matrix(batch, self.group(head)).rows(0..keys);
        let q = self.q.matrix(batch, head).rows(rows.clone());
        let product = Product { factor: self.scale, ..Product::default() };
        multiply(s, keys, q, k.transposed(), product);
        if let Some(&decay) = self.decay.get(head) {
            wide(
                #[inline(always)]
                || {
                    for (row, s) in rows.zip(s.chunks_mut(keys)) {
                        fade(&mut s[..self.seen(row)], decay);
                    }
                },
            );
        }
        s
    }

    /// Gradients of `q`, `k`, `v` and `decay`.
    pub fn gradient(&self, saved: &Saved) -> [FlexTensor; 4] {
        let ([b, h, _, _], groups) = (self.q.dims, self.k.dims[1]);
        let tasks: Vec<_> = (0..b * groups).map(|n| (n / groups, n % groups)).collect();
        let heads = parallel(tasks, |(batch, group)| self.head_gradient(saved, batch, group));
        let of = |part: fn(&HeadGradient) -> &[f32]| heads.iter().map(part).collect::<Vec<_>>();
        let dq: Vec<&[f32]> = heads.iter().flat_map(|s| s.dq.iter().map(Vec::as_slice)).collect();
        let mut ddecay = vec![0.0; h];
        for batch in heads.chunks(groups) {
            let terms = batch.iter().flat_map(|s| &s.ddecay);
            ddecay.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        [
            joined(&dq, self.q.dims),
            joined(&of(|s| &s.dk), self.k.dims),
            joined(&of(|s| &s.dv), self.v.dims),
            tensor(ddecay, [h]),
        ]
    }

    fn head_gradient(&self, saved: &Saved, batch: usize, group: usize) -> HeadGradient {
        let ([_, h, queries, hd], [_, groups, keys, _]) = (self.q.dims, self.k.dims);
        let size = h / groups;
        let mut grads = HeadGradient {
            dq: vec![vec![0.0; queries * hd]; size],
            dk: vec![0.0; keys * hd],
            dv: vec![0.0; keys * hd],
            ddecay: vec![0.0; size],
        };
        let mut buffers = [self.buffer(), self.buffer()];
        for block in (0..size).flat_map(|n| self.blocks(batch, group * size + n)) {
            self.add_block(&mut grads, saved, &block, &mut buffers);
        }
        grads
    }

    /// Adds what a block makes of the gradient.
    fn add_block(
        &self,
        grads: &mut HeadGradient,
        saved: &Saved,
        block: &Block,
        [p, ds]: &mut [Vec<f32>; 2],
    ) {
        let Block { batch, head, rows, keys } = block.clone();
        let (hd, group) = (self.q.dims[3], self.group(head));
        let n = head - group * grads.dq.len();
        let [k, v] = [&self.k, &self.v].map(|x| x.matrix(batch, group).rows(0..keys));
        let [q, g] = [&self.q, &saved.g].map(|x| x.matrix(batch, head).rows(rows.clone()));
        let p = self.scores(p, block);
        let ds = &mut ds[..p.len()];
        multiply(ds, keys, g, v.transposed(), Product::default());
        grads.ddecay[n] -= self.score_gradient([p, ds], saved, block);
        let [p, ds] = [&*p, &*ds].map(|x| Matrix::whole(x, keys));
        let add = Product { add: true, ..Product::default() };
        let scaled = Product { factor: self.scale, ..add };
        multiply(&mut grads.dv, hd, p.transposed(), g, add);
        multiply(&mut grads.dk, hd, ds.transposed(), q, scaled);
        multiply(&mut grads.dq[n][rows.start * hd..], hd, ds, k, Product { add: false, ..scaled });
    }

    /// Turns scores `p` into probabilities, and `ds` from their gradient into that of the scores.
    /// Returns the sum of the latter, each times its distance, if scores fade.
    fn score_gradient(&self, [p, ds]: [&mut [f32]; 2], saved: &Saved, block: &Block) -> f32 {
        let Block { batch, head, rows, keys } = block.clone();
        let [_, h, t, _] = self.q.dims;
        let sums = &saved.log_sum_exp.storage::<f32>()[(batch * h + head) * t..][..t];
        let mut apart = 0.0;
        wide(
            #[inline(always)]
            || {
                for (row, (p, ds)) in rows.zip(p.chunks_mut(keys).zip(ds.chunks_mut(keys))) {
                    let [g, y] = [&saved.g, &saved.y].map(|x| x.row(batch, head, row));
                    let mean = sum([g, y], |s, [g, y], _| g.mul_add(y, s));
                    let seen = self.seen(row);
                    p[seen..].fill(f32::NEG_INFINITY);
                    probabilities(p, sums[row]);
                    ds[seen..].fill(0.0);
                    let (p, ds) = (&p[..seen], &mut ds[..seen]);
                    combine(ds, [p], |ds, [p]| p * (ds - mean));
                    if !self.decay.is_empty() {
                        let last = ds.len() as i32 - 1;
                        let distance = |j| (last - j as i32) as f32;
                        apart += sum([ds], |s, [ds], j| ds.mul_add(distance(j), s));
                    }
                }
            },
        );
        apart
    }
}

/// Lowers the scores of a row by `decay` for each step between the key and the query, which is the last.
#[inline(always)]
fn fade(scores: &mut [f32], decay: f32) {
    let last = scores.len() as i32 - 1;
    for (j, score) in scores.iter_mut().enumerate() {
        *score -= decay * (last - j as i32) as f32;
    }
}

/// Scores into probabilities, given their log-sum-exp.
#[inline(always)]
fn probabilities(s: &mut [f32], log_sum_exp: f32) {
    update(
        s,
        #[inline(always)]
        |s| exp(s - log_sum_exp),
    );
    // One if the log-sum-exp were exact; that of large scores has few decimals.
    let total = sum([s], |sum, [s], _| sum + s);
    let share = 1.0 / total;
    update(s, |s| s * share);
}

/// Normalises the exponentials of a row of scores in place and returns the log of their sum.
#[inline(always)]
fn softmax(s: &mut [f32]) -> f32 {
    let max = maximum(s);
    update(
        s,
        #[inline(always)]
        |s| exp(s - max),
    );
    let total = sum([s], |sum, [s], _| sum + s);
    let share = 1.0 / total;
    update(s, |s| s * share);
    total.ln() + max
}
