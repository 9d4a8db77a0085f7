//! The doors of time: the only way from a token to those before it.
//!
//! A pass starts from nothing, or it goes on from a [`Memory`](super::Memory), which holds what the tokens before
//! it left at each door. A door is named by the place of the running block in the stack and by how
//! many doors that block went through before in this pass. So blocks that share weights, and runs
//! of one block, have memories of their own, and a block says nothing about them. Without a memory,
//! as in training, nothing is kept and nothing is computed for one.

use burn::tensor::{DType, Tensor, backend::Backend};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{
    attention, fading_max, full_attention, insert, leading, lift, lower, matrix_scan_from,
    retention, rope, scan_from, scan_tv_from,
};

use super::rotation::{Steps, turn};
use super::{Flow, KeyValue, State};
use crate::blocks::ROPE_BASE;

/// How a block uses time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// No position reads a later one, and earlier ones are read through the doors of [`Flow`] alone:
    /// a pass can go on from the [`Memory`](super::Memory) of another.
    Streaming,
    /// No position reads a later one, but some read earlier ones past the doors: what comes next
    /// needs the whole row again.
    Causal,
    /// Positions read later ones. A config with such a block gets a warning: its loss is not that of
    /// a language model.
    Whole,
}

impl<B: Backend> Flow<B> {
    /// `x` `[N, C]` one token later: each row of the batch loses its last token, and starts with the
    /// one before it, or zeros.
    pub fn shift(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [n, width] = x.dims();
        self.through(|flow, before| {
            let start = match before {
                Some(state) => first(state),
                None => Tensor::zeros([flow.batch, 1, width], (&x.device(), x.dtype())),
            };
            let all = Tensor::cat(vec![start, x.reshape([flow.batch, flow.seq, width])], 1);
            let last = all.clone();
            let (seq, shifted) = (flow.seq, all.narrow(1, 0, flow.seq));
            (shifted.reshape([n, width]), move || vec![lower(last.narrow(1, seq, 1))])
        })
    }

    /// Of `x` `[B, H, past + T, hd]` the tokens of this pass, `[B, H, T, hd]`.
    pub fn latest(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self.past() {
            0 => x,
            past => x.narrow(2, past, self.seq),
        }
    }
}

impl<B: mixlab_ops::Backend> Flow<B> {
    /// The first `dims` channels of each head of `x` `[B, H, T, hd]`, turned by their position.
    pub fn rotate(&self, x: Tensor<B, 4>, dims: usize) -> Tensor<B, 4> {
        match self.padding() {
            None => rope(x, dims, ROPE_BASE, self.past()),
            Some(_) => {
                let at = Steps { starts: self.positions(), seq: self.seq, step: 1 };
                turn(x.clone(), at.angles::<B>(dims, ROPE_BASE, &x.device()))
            }
        }
    }

    /// Keys and values of all tokens so far, with those of this pass, `new`, at the end.
    pub fn extend(&mut self, new: KeyValue<B>) -> KeyValue<B> {
        let all = self.through(|flow, before| {
            let mut before = before.into_iter().flatten().map(lift);
            let mut extend = |new| flow.extended(before.next(), new);
            let [(keys, kept_keys), (values, kept_values)] =
                [new.keys, new.values].map(&mut extend);
            (KeyValue { keys, values }, || vec![lower(kept_keys), lower(kept_values)])
        });
        self.grows();
        all
    }

    /// `new` `[B, H, T, hd]` after what was kept of earlier passes; and what is kept for later ones:
    /// the same, or a buffer that begins with it.
    fn extended(
        &self,
        kept: Option<Tensor<B, 4>>,
        new: Tensor<B, 4>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let past = self.past();
        if !self.has_room() {
            let all = match kept {
                Some(kept) => Tensor::cat(vec![kept, new], 2),
                None => new,
            };
            return (all.clone(), all);
        }
        let [b, h, t, hd] = new.dims();
        let length = past + t;
        let larger = || {
            let room = length.next_power_of_two();
            Tensor::zeros([b, h, room, hd], (&new.device(), new.dtype()))
        };
        let buffer = match kept {
            None => larger(),
            Some(kept) if kept.dims()[2] < length => insert(larger(), kept.narrow(2, 0, past), 0),
            Some(kept) => kept,
        };
        let buffer = insert(buffer, new, past);
        (leading(buffer.clone(), length), buffer)
    }

    /// Causal attention of the queries `q` `[B, H, T, hd]` of this pass over all keys and values so
    /// far, as [`Flow::extend`] returns them, with dot products times `scale`.
    pub fn attend(&self, q: Tensor<B, 4>, kv: KeyValue<B>, scale: f32) -> Tensor<B, 4> {
        if self.differs_in(&kv) {
            return self.attend_own(q, kv, None, scale);
        }
        // The last token alone sees everything: nothing to mask.
        if q.dims()[2] == 1 && kv.keys.dims()[2] > 1 {
            return self.attend_all(q, kv, scale);
        }
        attention(q, kv.keys, kv.values, scale, self.precision)
    }

    /// Attention of `q` `[B, H, Tq, hd]` over all of `kv`, the future included.
    pub fn attend_all(&self, q: Tensor<B, 4>, kv: KeyValue<B>, scale: f32) -> Tensor<B, 4> {
        full_attention(q, kv.keys, kv.values, scale, self.precision)
    }

    /// [`Flow::attend`] where each step of distance lowers a score of a head by its `rate` `[H]`.
    pub fn retain(
        &self,
        q: Tensor<B, 4>,
        kv: KeyValue<B>,
        rate: Tensor<B, 1>,
        scale: f32,
    ) -> Tensor<B, 4> {
        if self.differs_in(&kv) {
            return self.attend_own(q, kv, Some(rate), scale);
        }
        retention([q, kv.keys, kv.values], rate, scale, self.precision)
    }

    /// The moving average of `u` `[N, C]` along each row of the batch, with decays `gate` `[C]`:
    /// `h_t = gate ⊙ h_{t−1} + (1 − gate) ⊙ u_t`.
    pub fn scan(&mut self, u: Tensor<B, 2>, gate: Tensor<B, 1>) -> Tensor<B, 2> {
        let u = self.rows(u);
        self.recur(u, |u, h| scan_from(u, gate, h)).flatten(0, 1)
    }

    /// The moving average of `u` `[N, C]` along each row of the batch, with a gate `[N, C]` that
    /// varies: `h_t = gate_t ⊙ h_{t−1} + (1 − gate_t) ⊙ u_t`.
    pub fn scan_tv(&mut self, u: Tensor<B, 2>, gate: Tensor<B, 2>) -> Tensor<B, 2> {
        let [u, gate] = [u, gate].map(|x| self.rows(x));
        self.recur(u, |u, h| scan_tv_from(u, gate, h)).flatten(0, 1)
    }

    /// All states of the matrices `h_t = diag(gate_t) h_{t−1} + update_t`, for `update`
    /// `[B, T, Da, Db]` and `gate` `[B, T, Da]`.
    pub fn matrix_scan(&mut self, update: Tensor<B, 4>, gate: Tensor<B, 3>) -> Tensor<B, 4> {
        self.recur(update, |update, h| matrix_scan_from(update, gate, h))
    }

    /// The average of `value` `[N, C]` over each token and those before it, weighted by `e^key`
    /// `[N, C]` and by `gate` `[C]` for each step of distance; in 32 bits.
    ///
    /// Both sums, of weighted values and of weights, are kept relative to the largest weight of any
    /// term, which fades with its term. So nothing overflows or vanishes, however far apart keys are
    /// and however long the row.
    pub fn average(
        &mut self,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        gate: Tensor<B, 1>,
    ) -> Tensor<B, 2> {
        let [key, value] = [key, value].map(|x| self.rows(x.cast(DType::F32)));
        let gate = gate.cast(DType::F32);
        self.through(|_, before| {
            let before = before.map(|state| <[_; 3]>::try_from(state).expect("three are kept"));
            let (start, sums) = match before {
                Some([max, sum, total]) => {
                    // No weight yet: no maximum either.
                    let none = lift::<B, 3>(total.clone()).swap_dims(1, 2).equal_elem(0.0);
                    let first = key.clone().narrow(1, 0, 1);
                    (Some(lift::<B, 3>(max).mask_where(none, first)), Some([sum, total]))
                }
                None => (None, None),
            };
            let [max, earlier] = maxima(key.clone(), gate.clone().log(), start);
            let kept = gate.unsqueeze() * (earlier - max.clone()).exp();
            let weight = (key - max.clone()).exp();
            let terms = [weight.clone() * value, weight];
            let [sum, total] = accumulate(terms, kept, sums);
            let y = sum.clone() / total.clone();
            let kept = move || {
                let [sum, total] = [sum, total].map(|x| lower(last(x).swap_dims(1, 2)));
                vec![lower(last(max)), sum, total]
            };
            (y.flatten(0, 1), kept)
        })
    }

    /// `x` `[N, C]` as `[B, T, C]`.
    fn rows(&self, x: Tensor<B, 2>) -> Tensor<B, 3> {
        let width = x.dims()[1];
        x.reshape([self.batch, self.seq, width])
    }

    /// The states that `run` makes of `u` `[B, T, …]` and of the last state of the pass before, if
    /// there was one.
    ///
    /// In 32 bits if they are kept: a state that halves rounded after each token would not move.
    pub(crate) fn recur<const D: usize, const S: usize>(
        &mut self,
        u: Tensor<B, D>,
        run: impl FnOnce(Tensor<B, D>, Option<Tensor<B, S>>) -> Tensor<B, D>,
    ) -> Tensor<B, D> {
        let dtype = u.dtype();
        self.through(|flow, before| {
            let u = if flow.memory.is_some() { u.cast(DType::F32) } else { u };
            let h = run(u, before.map(first));
            let states = h.clone();
            (h.cast(dtype), || vec![lower(last(states).squeeze_dim::<S>(1))])
        })
    }
}

/// The only tensor of a state.
fn first<B: Backend, const D: usize>(state: State<B>) -> Tensor<B, D> {
    lift(state.into_iter().next().expect("one is kept"))
}

/// The last step of `x` `[B, T, …]`, `[B, 1, …]`.
fn last<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let seq = x.dims()[1];
    x.narrow(1, seq - 1, 1)
}

/// The fading maxima `[B, T, C]` of `key` at each step and at the one before it. The maximum before
/// the first step is `start` `[B, 1, C]`; without one it does not matter, since sums start at zero.
fn maxima<B: mixlab_ops::Backend>(
    key: Tensor<B, 3>,
    rate: Tensor<B, 1>,
    start: Option<Tensor<B, 3>>,
) -> [Tensor<B, 3>; 2] {
    let seq = key.dims()[1];
    let start = start.unwrap_or_else(|| key.clone().narrow(1, 0, 1));
    let max = fading_max(Tensor::cat(vec![start, key], 1), rate);
    [1, 0].map(|first| max.clone().narrow(1, first, seq))
}

/// The sums `[B, T, C]` over time of each of `terms`, where what there is keeps its share `gate`
/// `[B, T, C]` at a step; they begin at `start` `[B, C, 1]`, or zero.
fn accumulate<B: mixlab_ops::Backend>(
    terms: [Tensor<B, 3>; 2],
    gate: Tensor<B, 3>,
    start: Option<[FloatTensor<B>; 2]>,
) -> [Tensor<B, 3>; 2] {
    let mut start = start.into_iter().flatten();
    terms.map(|x| {
        let sum = start.next().map(lift);
        matrix_scan_from(x.unsqueeze_dim::<4>(3), gate.clone(), sum).squeeze_dim(3)
    })
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
