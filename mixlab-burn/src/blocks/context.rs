//! What flows beside the residual stream during one forward pass.

mod lengths;
mod memory;
pub(super) mod rotation;
mod time;

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::ops::Range;

use burn::module::Param;
use burn::tensor::{DType, Tensor, backend::Backend};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Dropout, Precision, dropout, linear, linear_to, lower, rms_norm_to};

use super::NORM_EPS;
pub use memory::{Memory, State};
pub use time::Time;

/// Keys and values of an attention block, both `[B, Hk, T, hd]` with those of earlier passes, keys
/// already rotated.
#[derive(Clone, Debug)]
pub struct KeyValue<B: Backend> {
    /// Keys.
    pub keys: Tensor<B, 4>,
    /// Values.
    pub values: Tensor<B, 4>,
}

/// What the dropout of a training pass depends on, so that two passes with one key have the same
/// masks, on any backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// Seed of the run.
    pub seed: u64,
    /// Training step; modulo 2³².
    pub step: usize,
    /// Rows of the step's batch that come before those of this pass, if the batch is split over
    /// several.
    pub row: usize,
}

/// Everything a block may read or leave for later blocks, besides the stream itself.
#[derive(Debug)]
pub struct Flow<B: Backend> {
    /// Rows of the batch, `B`.
    pub batch: usize,
    /// Tokens in a row, `T`.
    pub seq: usize,
    /// Position of the running block among all blocks, from 0.
    pub index: usize,
    /// The block, counted likewise, whose weights the running block uses.
    pub owner: usize,
    /// The key of dropout, which acts in a training pass only.
    pub dropout_key: Option<DropoutKey>,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Type of activations between matrix products; the residual stream stays in 32 bits.
    pub activations: DType,
    /// Dropouts of this pass so far.
    sites: Cell<u32>,
    x0: Option<Tensor<B, 2>>,
    key_values: HashMap<usize, KeyValue<B>>,
    rewritten: HashMap<(usize, usize), FloatTensor<B>>,
    shared_norm: Option<Tensor<B, 2>>,
    streams: HashMap<String, Tensor<B, 2>>,
    /// What earlier passes left, if this one goes on and leaves its own.
    memory: Option<Memory<B>>,
    /// Doors of time that the running block has gone through.
    door: usize,
    /// What attention adds to scores in rows of several lengths, `[B, 1, T, past + T]`.
    mask: OnceCell<Tensor<B, 4>>,
}

impl<B: Backend> Flow<B> {
    /// The start of a forward pass over `batch` rows of `seq` tokens.
    pub fn new(batch: usize, seq: usize) -> Self {
        Self {
            batch,
            seq,
            index: 0,
            owner: 0,
            dropout_key: None,
            precision: Precision::default(),
            activations: DType::F32,
            sites: Cell::new(0),
            x0: None,
            key_values: HashMap::new(),
            rewritten: HashMap::new(),
            shared_norm: None,
            streams: HashMap::new(),
            memory: None,
            door: 0,
            mask: OnceCell::new(),
        }
    }

    /// The stream as it left the embedding, `[N, D]`.
    ///
    /// # Panics
    /// If [`Flow::set_x0`] was not called.
    pub fn x0(&self) -> Tensor<B, 2> {
        self.x0.clone().expect("the embedding stream is set before the first block")
    }

    /// Keys and values of block `index`.
    ///
    /// # Panics
    /// If that block published none; a plan allows no such reference.
    pub fn published(&self, index: usize) -> KeyValue<B> {
        self.key_values.get(&index).expect("the source block publishes before it is read").clone()
    }

    /// What stands for the `weight`-th weight of the running block, if it was rewritten.
    pub fn rewritten(&self, weight: usize) -> Option<FloatTensor<B>> {
        self.rewritten.get(&(self.owner, weight)).cloned()
    }

    /// The normed stream that the block before this one left.
    ///
    /// # Panics
    /// If it left none; a plan pairs each reader with a block that does.
    pub fn shared_norm(&mut self) -> Tensor<B, 2> {
        self.shared_norm.take().expect("the first block of a pair leaves its normed stream")
    }

    /// Offers a block's output `[N, D]` to later blocks under `name`.
    pub fn publish_stream(&mut self, name: &str, x: Tensor<B, 2>) {
        self.streams.insert(name.into(), x);
    }

    /// The stream published under `name`.
    ///
    /// # Panics
    /// If there is none; a plan allows no such reference.
    pub fn stream(&self, name: &str) -> Tensor<B, 2> {
        self.streams.get(name).expect("a stream is published before it is read").clone()
    }

    /// Splits `x` `[B·L, H·hd]` into heads `[B, H, L, hd]`; `L` is `T` for the residual stream.
    pub fn split_heads(&self, x: Tensor<B, 2>, heads: usize) -> Tensor<B, 4> {
        let [n, width] = x.dims();
        x.reshape([self.batch, n / self.batch, heads, width / heads]).swap_dims(1, 2)
    }

    /// The inverse of [`Flow::split_heads`].
    pub fn merge_heads(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let [b, h, t, hd] = x.dims();
        x.swap_dims(1, 2).reshape([b * t, h * hd])
    }

    /// `x` in the type of activations.
    pub fn activation<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        x.cast(self.activations)
    }
}

/// Says what the value of `x` is called where another part of the model reads it.
pub(crate) fn label<B: mixlab_ops::Backend, const D: usize>(x: &Tensor<B, D>, name: &str) {
    B::label(&lower(x.clone()), name);
}

impl<B: mixlab_ops::Backend> Flow<B> {
    /// Remembers the embedding stream.
    pub fn set_x0(&mut self, x0: Tensor<B, 2>) {
        label(&x0, "x0");
        self.x0 = Some(x0);
    }

    /// Offers the running block's keys and values to later blocks.
    pub fn publish(&mut self, key_value: KeyValue<B>) {
        label(&key_value.keys, "k");
        label(&key_value.values, "v");
        self.key_values.insert(self.index, key_value);
    }

    /// Makes `value` stand for the `weight`-th weight of the running block from here on, in other
    /// blocks that share it too.
    pub fn rewrite(&mut self, weight: usize, value: FloatTensor<B>) {
        B::label(&value, "weight");
        self.rewritten.insert((self.owner, weight), value);
    }

    /// Leaves the running block's normed stream `[N, D]` for its partner in a parallel pair.
    pub fn share_norm(&mut self, n: Tensor<B, 2>) {
        label(&n, "n");
        self.shared_norm = Some(n);
    }

    /// `x W` in the precision of this pass, for `x` `[N, K]` and `weight` `[K, M]`; of the type of
    /// `x`.
    pub fn linear(&self, x: Tensor<B, 2>, weight: &Param<Tensor<B, 2>>) -> Tensor<B, 2> {
        linear(x, weight.val(), self.precision)
    }

    /// [`Flow::linear`] with some columns of the weight: a part of the result, without a view of the
    /// whole whose rows would be far apart.
    pub fn linear_part(
        &self,
        x: Tensor<B, 2>,
        weight: &Param<Tensor<B, 2>>,
        columns: Range<usize>,
    ) -> Tensor<B, 2> {
        let part = weight.val().narrow(1, columns.start, columns.len());
        linear(x, part, self.precision)
    }

    /// [`Flow::linear`] back into the residual stream: the result has 32 bits, whatever `x` has.
    pub fn project(&self, x: Tensor<B, 2>, weight: &Param<Tensor<B, 2>>) -> Tensor<B, 2> {
        linear_to(x, weight.val(), self.precision, DType::F32)
    }

    /// The stream `x` `[N, D]`, normed and scaled, as an activation.
    pub fn norm(&self, x: Tensor<B, 2>, scale: &Param<Tensor<B, 1>>) -> Tensor<B, 2> {
        rms_norm_to(x, scale.val(), NORM_EPS, self.activations)
    }

    /// In training, keeps each element of `x` `[R·B, C]` with probability `1 − rate` and divides it
    /// by that; else returns `x` as it is. The mask depends on the key of the pass, on how many
    /// dropouts came before in it, and on row and column.
    pub fn dropout(&self, x: Tensor<B, 2>, rate: f32) -> Tensor<B, 2> {
        let Some(DropoutKey { seed, step, row }) = self.dropout_key else { return x };
        let site = self.sites.replace(self.sites.get() + 1);
        if rate == 0.0 {
            return x;
        }
        if rate == 1.0 {
            return x.zeros_like();
        }
        let row = (row * (x.dims()[0] / self.batch)) as u32;
        dropout(x, &Dropout { rate, seed, step: step as u32, site, row })
    }
}
