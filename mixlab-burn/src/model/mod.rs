//! The language model: embedding, blocks, head.

mod bigram;
mod block;
mod format;
mod part;
mod z_loss;

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use mixlab_ops::{
    Activation, Precision, activate, capped_cross_entropy, embedding, linear, linear_to, rms_norm,
};

use crate::blocks::{Block, Builtin, DropoutKey, Flow, Memory, NORM_EPS, label, matrix, ones};
use crate::data::batch::Batch;
use crate::plan::{Bigram, Plan};
use crate::weights;

pub use bigram::bigram_ids;
pub(crate) use bigram::bigrams_after;
pub use block::{BlockModule, BlockWeights};
pub use part::Part;

/// The parameters of a model over block weights `W`, and the plan they belong to.
///
/// Field order is the order in weight files. Name it through [`Model`].
#[derive(Module, Debug)]
pub struct Network<B: Backend, W: Module<B>, K: Sync> {
    /// Token embedding `[V, D]`.
    pub embed: Param<Tensor<B, 2>>,
    /// Output head `[D, V]`; none if tied to the embedding.
    pub head: Option<Param<Tensor<B, 2>>>,
    /// Scale of the final norm `[D]`.
    pub final_norm: Param<Tensor<B, 1>>,
    /// Hashed bigram embedding `[Vb, Db]`.
    pub bigram_table: Option<Param<Tensor<B, 2>>>,
    /// `[Db, D]`, if the widths differ.
    pub bigram_proj: Option<Param<Tensor<B, 2>>>,
    /// Factor of the bigram embedding `[1]`.
    pub bigram_scale: Option<Param<Tensor<B, 1>>>,
    /// Weights of the first half of a U-Net; empty otherwise.
    pub encoder: Vec<W>,
    /// Factors `[D]` of a U-Net's skips.
    pub skip_weight: Vec<Param<Tensor<B, 1>>>,
    /// Weights of the other blocks, one for each block that owns its weights.
    pub blocks: Vec<W>,
    #[module(skip)]
    plan: Arc<Plan<K>>,
}

/// A language model on backend `B` with blocks of type `K`.
pub type Model<B, K = Builtin> = Network<B, <K as Block>::Weights<B>, K>;

/// Token ids on a device, as a model reads them: a tensor of ids becomes one by [`From`].
#[derive(Clone, Debug)]
pub struct Tokens<B: Backend> {
    /// Token ids `[B, T]`.
    pub ids: Tensor<B, 2, Int>,
    /// Hashed bigram ids `[B, T]` ([`bigram_ids`]). A model whose plan has bigrams computes them on
    /// the device if there are none, for rows that nothing comes before; others do not read them.
    pub bigrams: Option<Tensor<B, 2, Int>>,
}

impl<B: Backend> From<Tensor<B, 2, Int>> for Tokens<B> {
    fn from(ids: Tensor<B, 2, Int>) -> Self {
        Self { ids, bigrams: None }
    }
}

impl<B: Backend, K: Block> Model<B, K> {
    /// A model with vectors at their start values and matrices still zero; allocates nothing yet.
    pub fn new(plan: Arc<Plan<K>>, device: &B::Device) -> Self {
        let (dim, vocab) = (plan.dim, plan.vocab);
        let encoder_len = plan.encoder_len();
        let owners = |range: std::ops::Range<usize>| -> Vec<K::Weights<B>> {
            let owned = range.filter(|i| plan.steps[*i].owner == *i);
            owned.map(|i| plan.steps[i].block.init(device)).collect()
        };
        let bigram = plan.bigram.as_ref();
        Self {
            embed: matrix([vocab, dim], device),
            head: (!plan.tie_embeddings).then(|| matrix([dim, vocab], device)),
            final_norm: ones(dim, device),
            bigram_table: bigram.map(|b| matrix([b.vocab, b.dim], device)),
            bigram_proj: bigram.filter(|b| b.dim != dim).map(|b| matrix([b.dim, dim], device)),
            bigram_scale: bigram.map(|_| ones(1, device)),
            encoder: owners(0..encoder_len),
            skip_weight: (0..encoder_len).map(|_| ones(dim, device)).collect(),
            blocks: owners(encoder_len..plan.steps.len()),
            plan,
        }
    }

    /// A model ready to train: matrices drawn by the plan's rule and seed.
    pub fn init(plan: Arc<Plan<K>>, device: &B::Device) -> Self {
        let (init, seed) = (plan.training.weight_init, plan.training.seed);
        let model = weights::initialize(Self::new(plan.clone(), device), init, seed);
        let owners = plan.steps.iter().enumerate().filter(|(i, step)| step.owner == *i);
        let mut blocks = owners.map(|(_, step)| &step.block);
        let mut drawn = |weights: Vec<K::Weights<B>>| -> Vec<K::Weights<B>> {
            weights.into_iter().zip(&mut blocks).map(|(w, block)| block.drawn(w)).collect()
        };
        let (encoder, blocks) = (drawn(model.encoder), drawn(model.blocks));
        Self { encoder, blocks, ..model }
    }

    /// The plan this model was made from.
    pub fn plan(&self) -> &Arc<Plan<K>> {
        &self.plan
    }

    /// Uploads the tokens of a batch, and its targets `[N]`.
    ///
    /// # Panics
    /// If one of them is none of the vocabulary, naming it and its place. (Batches of a
    /// [`Loader`](crate::data::Loader) have none.)
    pub fn upload(&self, batch: Batch, device: &B::Device) -> (Tokens<B>, Tensor<B, 1, Int>) {
        check_vocabulary("token", &batch.x, self.plan.vocab);
        check_vocabulary("target", &batch.y, self.plan.vocab);
        let shape = [batch.batch, batch.seq];
        let tensor = |ids: Vec<i32>| Tensor::from_data(TensorData::new(ids, shape), device);
        let bigrams = self.plan.bigram.as_ref().map(|b| tensor(bigram_ids(&batch, b.vocab)));
        let count = [batch.y.len()];
        let targets = Tensor::from_data(TensorData::new(batch.y, count), device);
        (Tokens { ids: tensor(batch.x), bigrams }, targets)
    }
}

fn check_vocabulary(what: &str, ids: &[i32], vocab: usize) {
    let known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocab);
    if let Some(place) = ids.iter().position(|id| !known(id)) {
        panic!("{what} `{}` at place `{place}` of the batch is not in 0..{vocab}", ids[place]);
    }
}

impl<B: mixlab_ops::Backend, K: Block> Model<B, K> {
    /// The residual stream after the final norm, `[N, D]`; with dropout if there is a key for it.
    ///
    /// # Panics
    /// As [`Model::forward`].
    pub fn hidden(&self, tokens: impl Into<Tokens<B>>, key: Option<DropoutKey>) -> Tensor<B, 2> {
        let tokens = self.hashed(tokens.into(), None);
        let mut flow = self.flow(&tokens);
        flow.dropout_key = key;
        self.pass(tokens, &mut flow)
    }

    /// The residual stream `[N, D]` as each block leaves it, and last the one after the final norm.
    ///
    /// # Panics
    /// As [`Model::forward`].
    pub fn layers(&self, tokens: impl Into<Tokens<B>>) -> Vec<Tensor<B, 2>> {
        let tokens = self.hashed(tokens.into(), None);
        let (mut flow, mut layers) = (self.flow(&tokens), Vec::new());
        let last = self.pass_by(tokens, &mut flow, |x| layers.push(x.clone()));
        layers.push(last);
        layers
    }

    /// The memory before the first token, for [`Model::advance`]. `None` if a block needs the whole
    /// row again for what comes next: [`Plan::is_streaming`].
    pub fn memory(&self) -> Option<Memory<B>> {
        self.plan.is_streaming().then(Memory::new)
    }

    /// As [`Model::hidden`] without dropout, for `tokens` that follow those which `memory` has seen;
    /// and the memory of all of them. The result is what those tokens have in a pass over whole rows.
    ///
    /// Bigram ids, if they are given, are those of a batch whose `prev` is the last token before.
    ///
    /// # Panics
    /// As [`Model::forward`], and if `memory` is of another model, or of another number of rows.
    pub fn advance(
        &self,
        tokens: impl Into<Tokens<B>>,
        memory: Memory<B>,
    ) -> (Tensor<B, 2>, Memory<B>) {
        let tokens = self.hashed(tokens.into(), memory.last());
        let last = self.plan.bigram.as_ref().map(|_| {
            let columns = tokens.ids.dims()[1];
            tokens.ids.clone().narrow(1, columns - 1, 1)
        });
        let mut flow = self.flow(&tokens);
        flow.go_on(memory);
        let hidden = self.pass(tokens, &mut flow);
        (hidden, flow.into_memory().expect("this pass keeps one").after(last))
    }

    /// `tokens` with bigram ids, if the plan has bigrams: those that they have, or those that follow
    /// from the ids and from `before` `[B, 1]`, the tokens before them.
    fn hashed(&self, tokens: Tokens<B>, before: Option<Tensor<B, 2, Int>>) -> Tokens<B> {
        let Tokens { ids, bigrams } = tokens;
        let hash = |bigram: &Bigram| bigrams_after(ids.clone(), before, bigram.vocab);
        let bigrams = bigrams.or_else(|| self.plan.bigram.as_ref().map(hash));
        Tokens { ids, bigrams }
    }

    fn flow(&self, tokens: &Tokens<B>) -> Flow<B> {
        let [batch, seq] = tokens.ids.dims();
        let mut flow = Flow::new(batch, seq);
        let device = tokens.ids.device();
        flow.precision = self.precision(&device);
        flow.activations = self.activations(&device);
        flow
    }

    fn pass(&self, tokens: Tokens<B>, flow: &mut Flow<B>) -> Tensor<B, 2> {
        self.pass_by(tokens, flow, |_| ())
    }

    /// The residual stream after the final norm; `see` is shown what each block leaves.
    fn pass_by(
        &self,
        tokens: Tokens<B>,
        flow: &mut Flow<B>,
        see: impl FnMut(&Tensor<B, 2>),
    ) -> Tensor<B, 2> {
        let device = tokens.ids.device();
        Part::Embedding.enter::<B>(&device);
        let x = self.embedded(tokens);
        flow.set_x0(x.clone());
        let x = self.trunk(x, flow, see);
        Part::Head.enter::<B>(&device);
        rms_norm(x, self.final_norm.val(), NORM_EPS)
    }

    /// Logits `[N, V]` of the token after each position of `tokens`, ids `[B, T]` below `V`; rows in
    /// batch-major order, so that `reshape([B, T, V])` parts them.
    ///
    /// # Panics
    /// If there are no tokens. If the plan has bigrams, `tokens` has no ids of them, and `B` has no
    /// bitwise operations on integers, as candle: there [`Model::upload`] makes them. (An id of `V` or
    /// more reads nothing: it has the embedding zero.)
    pub fn forward(&self, tokens: impl Into<Tokens<B>>) -> Tensor<B, 2> {
        self.logits(self.hidden(tokens, None))
    }

    /// Loss of each target `[N]` in nats, `[N]`; with dropout if there is a key for it. A target of `V`
    /// or more has the loss zero.
    ///
    /// # Panics
    /// As [`Model::forward`], and if there are not as many targets as tokens.
    pub fn losses(
        &self,
        tokens: impl Into<Tokens<B>>,
        targets: Tensor<B, 1, Int>,
        key: Option<DropoutKey>,
    ) -> Tensor<B, 1> {
        let hidden = self.hidden(tokens, key);
        let half = self.activations(&hidden.device());
        let losses = |hidden, targets, dtype| {
            capped_cross_entropy(self.scores(hidden, dtype), targets, self.plan.softcap)
        };
        // A gradient as wide as logits is worth halving. Without one they keep their bits, in two
        // parts where that makes them wider: they take the memory that those of training had.
        if key.is_some() || half == DType::F32 {
            return losses(hidden, targets, half);
        }
        let parts = hidden.chunk(2, 0).into_iter().zip(targets.chunk(2, 0));
        Tensor::cat(parts.map(|(hidden, targets)| losses(hidden, targets, DType::F32)).collect(), 0)
    }

    /// Mean loss of `targets` `[N]` in nats, `[1]`; with dropout if there is a key for it.
    ///
    /// # Panics
    /// As [`Model::losses`].
    pub fn loss(
        &self,
        tokens: impl Into<Tokens<B>>,
        targets: Tensor<B, 1, Int>,
        key: Option<DropoutKey>,
    ) -> Tensor<B, 1> {
        let tokens = tokens.into();
        let [batch, seq] = tokens.ids.dims();
        // By rows first: a GPU sums one long row on a single multiprocessor. Divided once, so that
        // the gradient of each loss is what the op expects.
        let losses = self.losses(tokens, targets, key).reshape([batch, seq]);
        losses.sum_dim(1).sum().mul_scalar(1.0 / (batch * seq) as f64)
    }

    /// Logits `[N, V]` of a final stream `[N, D]`.
    pub fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let scores = self.scores(hidden, DType::F32);
        match self.plan.softcap {
            Some(cap) => activate(Activation::Softcap { cap }, scores),
            None => scores,
        }
    }

    /// Logits before the softcap, as `dtype`.
    fn scores(&self, hidden: Tensor<B, 2>, dtype: DType) -> Tensor<B, 2> {
        let device = hidden.device();
        let (activations, precision) = (self.activations(&device), self.precision(&device));
        let head = match &self.head {
            Some(head) => head.val(),
            None => self.embed.val().transpose(),
        };
        linear_to(hidden.cast(activations), head, precision, dtype)
    }

    /// Number format of matrix products on `device`.
    pub fn precision(&self, device: &B::Device) -> Precision {
        format::precision::<B>(self.plan.training.precision, device)
    }

    fn activations(&self, device: &B::Device) -> DType {
        format::activations::<B>(self.plan.training.precision, device)
    }

    fn embedded(&self, tokens: Tokens<B>) -> Tensor<B, 2> {
        let rows = |table: &Param<Tensor<B, 2>>, ids: Tensor<B, 2, Int>| {
            embedding(table.val(), ids.flatten(0, 1))
        };
        let x = rows(&self.embed, tokens.ids);
        let (Some(table), Some(scale)) = (&self.bigram_table, &self.bigram_scale) else { return x };
        let ids = tokens.bigrams.expect("every pass hashes bigrams");
        let e: Tensor<B, 2> = rows(table, ids);
        let e = match &self.bigram_proj {
            Some(proj) => {
                let precision = self.precision(&e.device());
                linear(e, proj.val(), precision)
            }
            None => e,
        };
        x + e * scale.val().unsqueeze()
    }

    /// All blocks; in a U-Net, decoder block `d` first adds the output of encoder block `E−1−d`.
    fn trunk(
        &self,
        mut x: Tensor<B, 2>,
        flow: &mut Flow<B>,
        mut see: impl FnMut(&Tensor<B, 2>),
    ) -> Tensor<B, 2> {
        let encoder_len = self.plan.encoder_len();
        let (weights, device) = (self.owned(), x.device());
        let mut encoded = Vec::with_capacity(encoder_len);
        for (index, step) in self.plan.steps.iter().enumerate() {
            Part::Block(index).enter::<B>(&device);
            if let Some(skip) = self.plan.skip(index) {
                let source: &Tensor<B, 2> = &encoded[encoder_len - 1 - skip];
                x = x + source.clone() * self.skip_weight[skip].val().unsqueeze();
            }
            flow.enter(index, step.owner);
            let weights = weights[step.owner].expect("an owner has weights");
            x = step.block.forward(weights, x, flow);
            label(&x, "x");
            see(&x);
            if let Some(name) = &step.stream {
                flow.publish_stream(name, x.clone());
            }
            if index < encoder_len {
                encoded.push(x.clone());
            }
        }
        x
    }

    /// The weights of each block that owns some, by block index.
    fn owned(&self) -> Vec<Option<&K::Weights<B>>> {
        let mut stored = self.encoder.iter().chain(&self.blocks);
        let steps = self.plan.steps.iter().enumerate();
        steps.map(|(i, step)| if step.owner == i { stored.next() } else { None }).collect()
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
