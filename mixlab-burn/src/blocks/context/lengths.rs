//! Rows of several lengths side by side.
//!
//! Rows end together: a shorter one begins later, after padding that attention does not see. So a pass
//! adds one token to each, and rows join and leave between passes.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Int, Slice, Tensor, TensorData, backend::Backend};
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use super::{Flow, KeyValue, Memory};

/// Added to the score of a key that a query does not see.
const UNSEEN: f32 = -1e9;

impl<B: Backend> Memory<B> {
    /// The memory of `rows` of these, in this order, without the others.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn keep(mut self, rows: &[usize]) -> Self {
        let Some(batch) = self.batch else { return self };
        for state in self.kept.values_mut() {
            *state =
                std::mem::take(state).into_iter().map(|x| select::<B>(x, rows, batch)).collect();
        }
        self.last = self.last.map(|last| {
            let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
            let device = last.device();
            last.select(0, Tensor::from_data(rows.as_slice(), &device))
        });
        self.padding = self.padding.map(|padding| rows.iter().map(|row| padding[*row]).collect());
        self.batch = Some(rows.len());
        self.without_common_padding()
    }

    /// The memory of these rows and, after them, of those of `other`, a memory of the same model; they
    /// may be of other lengths.
    ///
    /// # Panics
    /// If the memories are of several models.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if self.batch.is_none() {
            return other;
        }
        if other.batch.is_none() {
            return self;
        }
        let past = self.past.max(other.past);
        let [first, second] = [self, other].map(|memory| memory.padded_to(past));
        assert!(first.kept.keys().eq(second.kept.keys()), "memories of one model");
        let states = first.kept.into_iter().zip(second.kept.into_values());
        let kept =
            states.map(|((door, a), b)| (door, a.into_iter().zip(b).map(joined::<B>).collect()));
        let padding = [first.padding, second.padding].into_iter().flatten().flatten().collect();
        Self {
            past,
            batch: first.batch.zip(second.batch).map(|(a, b)| a + b),
            room: first.room || second.room,
            last: first.last.zip(second.last).map(|(a, b)| Tensor::cat(vec![a, b], 0)),
            kept: kept.collect(),
            growing: first.growing,
            padding: Some(padding),
        }
        .without_common_padding()
    }

    /// The same rows after more padding, so that they end at `past`.
    fn padded_to(self, past: usize) -> Self {
        let more = past - self.past;
        let mut memory = self.tight(0);
        for_growing(&mut memory, |x| front_padded::<B>(x, 2, more));
        let rows = memory.batch.unwrap_or(0);
        let padding = memory.padding.unwrap_or_else(|| vec![0; rows]);
        let padding = padding.into_iter().map(|places| places + more).collect();
        Self { past, padding: Some(padding), ..memory }
    }

    fn without_common_padding(self) -> Self {
        let Some(padding) = &self.padding else { return self };
        let common = padding.iter().copied().min().unwrap_or(0);
        let padding: Vec<usize> = padding.iter().map(|places| places - common).collect();
        let even = padding.iter().all(|places| *places == 0);
        let memory = if common == 0 { self } else { self.tight(common) };
        Self { past: memory.past - common, padding: (!even).then_some(padding), ..memory }
    }

    /// Keys and values without their first `from` places and without room.
    fn tight(mut self, from: usize) -> Self {
        let past = self.past;
        for_growing(&mut self, |x| {
            let mut slices = vec![Slice::full(); 4];
            slices[2] = Slice::from(from..past);
            B::float_slice(x, &slices)
        });
        self
    }
}

fn for_growing<B: Backend>(memory: &mut Memory<B>, of: impl Fn(FloatTensor<B>) -> FloatTensor<B>) {
    for door in &memory.growing {
        if let Some(state) = memory.kept.get_mut(door) {
            *state = std::mem::take(state).into_iter().map(&of).collect();
        }
    }
}

/// Of `x`, whose first axis is made of `batch` parts, those of `rows`.
fn select<B: Backend>(x: FloatTensor<B>, rows: &[usize], batch: usize) -> FloatTensor<B> {
    let part = x.shape().to_vec()[0] / batch;
    let indices: Vec<i64> =
        rows.iter().flat_map(|row| row * part..(row + 1) * part).map(|at| at as i64).collect();
    let count = [indices.len()];
    let indices =
        Tensor::<B, 1, Int>::from_data(TensorData::new(indices, count), &B::float_device(&x));
    B::float_select(x, 0, indices.into_primitive())
}

/// `a` and `b` along the first axis; what is shorter along another begins with zeros, which are as
/// good as nothing.
fn joined<B: Backend>((mut a, mut b): (FloatTensor<B>, FloatTensor<B>)) -> FloatTensor<B> {
    let [long, short] = [&a, &b].map(|x| x.shape().to_vec());
    for axis in 1..long.len() {
        let length = long[axis].max(short[axis]);
        [a, b] = [(a, long[axis]), (b, short[axis])]
            .map(|(x, own)| front_padded::<B>(x, axis, length - own));
    }
    B::float_cat(vec![a, b], 0)
}

/// `x` after `more` zeros along `axis`.
fn front_padded<B: Backend>(x: FloatTensor<B>, axis: usize, more: usize) -> FloatTensor<B> {
    if more == 0 {
        return x;
    }
    let mut shape = x.shape().to_vec();
    shape[axis] = more;
    let zeros = B::float_zeros(shape.into(), &B::float_device(&x), x.dtype().into());
    B::float_cat(vec![zeros, x], axis)
}

impl<B: Backend> Flow<B> {
    /// Position of the first token of this pass in each row of the batch.
    pub fn positions(&self) -> Vec<usize> {
        let past = self.past();
        match self.padding() {
            Some(padding) => padding.iter().map(|places| past - places).collect(),
            None => vec![past; self.batch],
        }
    }

    /// Places before the first token of each row, if rows differ in length.
    pub(crate) fn padding(&self) -> Option<&[usize]> {
        self.memory.as_ref()?.padding.as_deref()
    }

    /// Whether `kv` are those of all tokens so far, in rows that differ in length.
    pub(super) fn differs_in(&self, kv: &KeyValue<B>) -> bool {
        self.padding().is_some() && kv.keys.dims()[2] == self.past() + self.seq
    }

    /// Causal attention of `q` `[B, H, T, hd]` in rows of several lengths, by Burn's own operations;
    /// `rate` `[H]` lowers a score with each step of distance.
    pub(super) fn attend_own(
        &self,
        q: Tensor<B, 4>,
        KeyValue { keys, values }: KeyValue<B>,
        rate: Option<Tensor<B, 1>>,
        scale: f32,
    ) -> Tensor<B, 4> {
        let ([b, h, t, hd], [_, groups, all, _]) = (q.dims(), keys.dims());
        let dtype = q.dtype();
        // The query heads of one key/value head are like further queries.
        let queries = h / groups * t;
        let scores = (q * scale).reshape([b, groups, queries, hd]).matmul(keys.swap_dims(2, 3));
        let mut scores =
            scores.cast(DType::F32).reshape([b, h, t, all]) + self.mask(t, all, &values);
        if let Some(rate) = rate {
            let rate = rate.cast(DType::F32).reshape([1, h, 1, 1]);
            scores = scores - distances(t, all, &values.device()) * rate;
        }
        let p = softmax(scores, 3).cast(dtype).reshape([b, groups, queries, all]);
        p.matmul(values).reshape([b, h, t, hd])
    }

    /// What is added to the scores of `t` queries at the last of `all` keys, `[B, 1, t, all]`: nothing
    /// where a query sees a key.
    fn mask(&self, t: usize, all: usize, like: &Tensor<B, 4>) -> Tensor<B, 4> {
        let made = || {
            let padding = self.padding().unwrap_or_default();
            let score = |first: usize, query: usize, key: usize| {
                let seen = first <= key && key <= all - t + query;
                if seen { 0.0 } else { UNSEEN }
            };
            let row =
                |first: usize| (0..t).flat_map(move |i| (0..all).map(move |j| score(first, i, j)));
            let scores: Vec<f32> = padding.iter().flat_map(|first| row(*first)).collect();
            Tensor::from_data(TensorData::new(scores, [padding.len(), 1, t, all]), &like.device())
        };
        self.mask.get_or_init(made).clone()
    }
}

/// How far each of `all` keys lies before each of the `t` queries at the last of them, `[1, 1, t, all]`.
fn distances<B: Backend>(t: usize, all: usize, device: &B::Device) -> Tensor<B, 4> {
    let far = (0..t).flat_map(|i| (0..all).map(move |j| (all - t + i).saturating_sub(j) as f32));
    Tensor::from_data(TensorData::new(far.collect(), [1, 1, t, all]), device)
}
