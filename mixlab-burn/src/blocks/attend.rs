//! The attention of blocks whose queries and keys come from different streams.

use burn::module::Param;
use burn::tensor::{Tensor, backend::Backend};

use super::{Flow, KeyValue};

/// The four matrices `[D, D]` of an attention, and its number of heads.
pub(crate) struct Attend<'a, B: Backend> {
    /// Query weights.
    pub wq: &'a Param<Tensor<B, 2>>,
    /// Key weights.
    pub wk: &'a Param<Tensor<B, 2>>,
    /// Value weights.
    pub wv: &'a Param<Tensor<B, 2>>,
    /// Output weights.
    pub wo: &'a Param<Tensor<B, 2>>,
    /// Heads `H`, a divisor of `D`.
    pub heads: usize,
}

impl<B: mixlab_ops::Backend> Attend<'_, B> {
    /// `merge( softmax(q kᵀ / √hd) v )·wo`: each row of `x` `[B·Tq, D]` over all rows of `source`
    /// `[B·Tk, D]` in its batch row.
    pub fn full(&self, x: Tensor<B, 2>, source: Tensor<B, 2>, flow: &Flow<B>) -> Tensor<B, 2> {
        let (q, kv) = self.heads([x, source], flow);
        let scale = scale(&q);
        flow.project(flow.merge_heads(flow.attend_all(q, kv, scale)), self.wo)
    }

    /// `merge( softmax(mask(q kᵀ / √hd)) v )·wo` with rotated `q` and `k`: each row of `x`
    /// `[B·T, D]` over itself and those before it in its batch row.
    pub fn causal(&self, x: Tensor<B, 2>, flow: &Flow<B>) -> Tensor<B, 2> {
        let (q, KeyValue { keys, values }) = self.heads([x.clone(), x], flow);
        let (scale, width) = (scale(&q), q.dims()[3]);
        let [q, keys] = [q, keys].map(|x| flow.rotate(x, width));
        let y = flow.attend(q, KeyValue { keys, values }, scale);
        flow.project(flow.merge_heads(y), self.wo)
    }

    /// Queries of `x`, keys and values of `source`, in heads.
    fn heads(&self, [x, source]: [Tensor<B, 2>; 2], flow: &Flow<B>) -> (Tensor<B, 4>, KeyValue<B>) {
        let [x, source] = [x, source].map(|x| flow.activation(x));
        let heads = |x, weight| flow.split_heads(flow.linear(x, weight), self.heads);
        let (keys, values) = (heads(source.clone(), self.wk), heads(source, self.wv));
        (heads(x, self.wq), KeyValue { keys, values })
    }
}

/// `1/√hd` of queries `[B, H, T, hd]`.
fn scale<B: Backend>(q: &Tensor<B, 4>) -> f32 {
    1.0 / (q.dims()[3] as f32).sqrt()
}
