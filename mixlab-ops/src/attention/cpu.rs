//! Causal attention for burn-flex: one head at a time, a block of query rows at a time, and only the
//! keys that the block sees. Scores live in a buffer of one block.

use core::ops::Range;

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{
    Heads, Matrix, Product, exp, joined, maximum, multiply, parallel, sum, tensor, wide,
};

/// Query rows of a block.
const BLOCK: usize = 64;

/// Softmax attention whose scores may fade with distance.
pub(crate) struct Causal {
    q: Heads,
    k: Heads,
    v: Heads,
    /// Factor of the dot products.
    scale: f32,
    /// How much a step of distance lowers a score, by query head; empty for not at all.
    decay: Vec<f32>,
}

/// What the gradient reads besides the inputs: the outputs of the forward, and the gradient of the
/// first of them.
pub(crate) struct Outcome {
    y: Heads,
    log_sum_exp: FlexTensor,
    g: Heads,
}

/// The part of the gradient that one key/value head of one batch row makes up.
struct Share {
    /// One for each query head of the group.
    dq: Vec<Vec<f32>>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    ddecay: Vec<f32>,
}

impl Outcome {
    pub fn new([y, log_sum_exp, g]: [&FlexTensor; 3]) -> Self {
        Self { y: Heads::new(y), log_sum_exp: log_sum_exp.to_contiguous(), g: Heads::new(g) }
    }
}

impl Causal {
    pub fn new([q, k, v]: [&FlexTensor; 3], scale: f32, decay: Vec<f32>) -> Self {
        Self { q: Heads::new(q), k: Heads::new(k), v: Heads::new(v), scale, decay }
    }

    /// The result `[B, H, T, hd]` and the log-sum-exp of each row of scores, `[B, H, T, 1]`.
    pub fn forward(&self) -> [FlexTensor; 2] {
        let [b, h, t, _] = self.q.dims;
        let tasks: Vec<_> = (0..b * h).map(|n| (n / h, n % h)).collect();
        let heads = parallel(tasks, |(batch, head)| self.head(batch, head));
        let parts: Vec<&[f32]> = heads.iter().map(|(y, _)| y.as_slice()).collect();
        let sums = heads.iter().flat_map(|(_, sums)| sums.iter().copied()).collect();
        [joined(&parts, self.q.dims), tensor(sums, [b, h, t, 1])]
    }

    fn group(&self, head: usize) -> usize {
        head * self.k.dims[1] / self.q.dims[1]
    }

    fn head(&self, batch: usize, head: usize) -> (Vec<f32>, Vec<f32>) {
        let [_, _, t, hd] = self.q.dims;
        let v = self.v.matrix(batch, self.group(head));
        let (mut y, mut sums) = (vec![0.0; t * hd], vec![0.0; t]);
        let mut buffer = vec![0.0; BLOCK.min(t) * t];
        for rows in blocks(t) {
            let p = self.scores(&mut buffer, rows.clone(), batch, head);
            let end = rows.end;
            wide(
                #[inline(always)]
                || {
                    for (row, p) in rows.clone().zip(p.chunks_mut(end)) {
                        sums[row] = softmax(&mut p[..=row]);
                        p[row + 1..].fill(0.0);
                    }
                },
            );
            let to = &mut y[rows.start * hd..];
            multiply(to, hd, Matrix::whole(p, end), v.rows(0..end), Product::default());
        }
        (y, sums)
    }

    /// Scores of `rows` with all keys up to the last of them; those of the future mean nothing.
    fn scores<'a>(
        &self,
        buffer: &'a mut [f32],
        rows: Range<usize>,
        batch: usize,
        head: usize,
    ) -> &'a mut [f32] {
        let s = &mut buffer[..rows.len() * rows.end];
        let k = self.k.matrix(batch, self.group(head)).rows(0..rows.end);
        let q = self.q.matrix(batch, head).rows(rows.clone());
        let product = Product { factor: self.scale, ..Product::default() };
        multiply(s, rows.end, q, k.transposed(), product);
        if let Some(&decay) = self.decay.get(head) {
            for (row, s) in rows.clone().zip(s.chunks_mut(rows.end)) {
                wide(
                    #[inline(always)]
                    || {
                        for (j, s) in s[..=row].iter_mut().enumerate() {
                            *s -= decay * (row as i32 - j as i32) as f32;
                        }
                    },
                );
            }
        }
        s
    }

    /// Gradients of `q`, `k`, `v` and `decay`.
    pub fn gradient(&self, outcome: &Outcome) -> [FlexTensor; 4] {
        let ([b, h, _, _], groups) = (self.q.dims, self.k.dims[1]);
        let tasks: Vec<_> = (0..b * groups).map(|n| (n / groups, n % groups)).collect();
        let shares = parallel(tasks, |(batch, group)| self.share(outcome, batch, group));
        let of = |part: fn(&Share) -> &[f32]| shares.iter().map(part).collect::<Vec<_>>();
        let dq: Vec<&[f32]> = shares.iter().flat_map(|s| s.dq.iter().map(Vec::as_slice)).collect();
        let mut ddecay = vec![0.0; h];
        for share in shares.chunks(groups) {
            let terms = share.iter().flat_map(|s| &s.ddecay);
            ddecay.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        [
            joined(&dq, self.q.dims),
            joined(&of(|s| &s.dk), self.k.dims),
            joined(&of(|s| &s.dv), self.v.dims),
            tensor(ddecay, [h]),
        ]
    }

    fn share(&self, outcome: &Outcome, batch: usize, group: usize) -> Share {
        let [_, h, t, hd] = self.q.dims;
        let size = h / self.k.dims[1];
        let mut share = Share {
            dq: vec![vec![0.0; t * hd]; size],
            dk: vec![0.0; t * hd],
            dv: vec![0.0; t * hd],
            ddecay: vec![0.0; size],
        };
        let mut buffers = [0, 1].map(|_| vec![0.0; BLOCK.min(t) * t]);
        for (n, rows) in (0..size).flat_map(|n| blocks(t).map(move |rows| (n, rows))) {
            let head = group * size + n;
            self.add_block(&mut share, outcome, (batch, head, rows), &mut buffers);
        }
        share
    }

    /// Adds what the block of query `rows` of a head makes of the gradient.
    fn add_block(
        &self,
        share: &mut Share,
        outcome: &Outcome,
        (batch, head, rows): (usize, usize, Range<usize>),
        [p, ds]: &mut [Vec<f32>; 2],
    ) {
        let (hd, end) = (self.q.dims[3], rows.end);
        let group = self.group(head);
        let n = head - group * share.dq.len();
        let [k, v] = [&self.k, &self.v].map(|x| x.matrix(batch, group).rows(0..end));
        let [q, g] = [&self.q, &outcome.g].map(|x| x.matrix(batch, head).rows(rows.clone()));
        let p = self.scores(p, rows.clone(), batch, head);
        let ds = &mut ds[..p.len()];
        multiply(ds, end, g, v.transposed(), Product::default());
        share.ddecay[n] -= self.score_gradient(p, ds, outcome, (batch, head, rows.clone()));
        let [p, ds] = [&*p, &*ds].map(|x| Matrix::whole(x, end));
        let add = Product { add: true, ..Product::default() };
        let scaled = Product { factor: self.scale, ..add };
        multiply(&mut share.dv, hd, p.transposed(), g, add);
        multiply(&mut share.dk, hd, ds.transposed(), q, scaled);
        multiply(&mut share.dq[n][rows.start * hd..], hd, ds, k, Product { add: false, ..scaled });
    }

    /// Turns scores `p` into probabilities and their gradient `ds` into that of the scores. Returns
    /// the sum of the latter, each times its distance, if scores fade.
    fn score_gradient(
        &self,
        p: &mut [f32],
        ds: &mut [f32],
        outcome: &Outcome,
        (batch, head, rows): (usize, usize, Range<usize>),
    ) -> f32 {
        let [_, h, t, hd] = self.q.dims;
        let sums = &outcome.log_sum_exp.storage::<f32>()[(batch * h + head) * t..][..t];
        let mut apart = 0.0;
        wide(
            #[inline(always)]
            || {
                let width = rows.end;
                for (row, (p, ds)) in
                    rows.clone().zip(p.chunks_mut(width).zip(ds.chunks_mut(width)))
                {
                    let (g, y) = (outcome.g.row(batch, head, row), outcome.y.row(batch, head, row));
                    let mean = sum(hd, |s, i| g[i].mul_add(y[i], s));
                    for p in p[..=row].iter_mut() {
                        *p = exp(*p - sums[row]);
                    }
                    // One if the log-sum-exp were exact; that of large scores has few decimals.
                    let total = sum(row + 1, |s, j| s + p[j]);
                    for (p, ds) in p.iter_mut().zip(ds.iter_mut()).take(row + 1) {
                        *p /= total;
                        *ds = *p * (*ds - mean);
                    }
                    p[row + 1..].fill(0.0);
                    ds[row + 1..].fill(0.0);
                    if !self.decay.is_empty() {
                        apart +=
                            sum(row + 1, |s, j| ds[j].mul_add((row as i32 - j as i32) as f32, s));
                    }
                }
            },
        );
        apart
    }
}

fn blocks(t: usize) -> impl Iterator<Item = Range<usize>> {
    (0..t).step_by(BLOCK).map(move |first| first..t.min(first + BLOCK))
}

/// Normalises the exponentials of a row of scores in place and returns the log of their sum.
#[inline(always)]
fn softmax(s: &mut [f32]) -> f32 {
    let max = maximum(s);
    for s in s.iter_mut() {
        *s = exp(*s - max);
    }
    let total = sum(s.len(), |sum, i| sum + s[i]);
    for s in s.iter_mut() {
        *s /= total;
    }
    total.ln() + max
}
