//! Stacks of `plain` blocks as the architecture `llama` of `transformers` and of llama.cpp.
//!
//! A `plain` block is a Llama layer but for its feed-forward tail, which sees the stream without a
//! norm and has no gate. Both are expressed by what the architecture has:
//!
//! - *No gate.* `silu(x·ff1) ⊙ up` with an `up` of zeros whose bias is one.
//! - *No norm.* The stream gets channels more, as many as make its width a multiple of 32 and of the
//!   heads. They are zero, but the first of them is `C = 2²⁴` while the tail runs: the bias of
//!   attention's output adds it, the bias of the tail's output takes it away, both exactly. Then the
//!   root mean square is `C/√D'` whatever the other channels hold (off by `|x|²/2C²`, which is below
//!   the rounding of 32 bits for any `|x| < 5000`), so that a norm scale of `C/√D'` undoes the norm.
//!   Attention sees zeros there, and its norm is corrected for the wider mean: scale and epsilon.
//!
//! Gains of queries (`qk_gain`) and scales of branches (`block_scales`) are multiplied into weights.
//! Blocks that share weights get copies. 16-bit floats cannot hold `C`; bf16 can.

use std::any::Any;
use std::collections::HashMap;

use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use super::HubError;
use super::planned::Places;
use super::tensors::{Elements, Named};
use crate::blocks::plain::Plain;
use crate::blocks::{Block, NORM_EPS, ROPE_BASE};
use crate::model::Model;
use crate::plan::Plan;
use crate::weights::Source;

/// What the channel holds that makes the norm of the tail do nothing.
const LARGE: f32 = 16_777_216.0;
/// Widths are multiples of this.
const ALIGNMENT: usize = 32;

/// Which channels of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `i` and `i + hd/2`, as in `transformers`.
    Halves,
    /// `2i` and `2i + 1`, as here and in llama.cpp.
    Neighbours,
}

/// A model of the architecture, with the names of `transformers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// Width of the stream with the channels that were added, `D'`.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward tail.
    pub ffn: usize,
    /// Vocabulary size.
    pub vocab: usize,
    /// Length of rows in training.
    pub seq_len: usize,
    /// Added to mean squares.
    pub eps: f32,
    /// Base of the wavelengths of positions.
    pub rope_base: f32,
    /// Whether the embedding is the head.
    pub tied: bool,
    /// Weights, matrices as `[out, in]`.
    pub tensors: Vec<Named>,
}

impl Llama {
    /// What of `plan` the architecture cannot express, if anything.
    pub fn difference<K: Block>(plan: &Plan<K>) -> Option<String> {
        let other = [
            (plan.softcap.is_some(), "`logit_softcap` bounds its logits"),
            (plan.bigram.is_some(), "its embedding has bigrams"),
            (plan.unet, "`unet` adds skips between its blocks"),
        ];
        if let Some((_, what)) = other.into_iter().find(|(has, _)| *has) {
            return Some(what.into());
        }
        let first = plan.steps.first().and_then(|step| plain(step.block.as_any()));
        plan.steps.iter().enumerate().find_map(|(index, step)| {
            let what = match plain(step.block.as_any()) {
                None => "is no `plain` block, which is attention and a feed-forward tail with silu",
                Some(block) => unlike(block, first?)?,
            };
            Some(format!("block {index} ({}) {what}", step.label))
        })
    }

    /// `model` with the weights of `source` as one of this architecture.
    ///
    /// # Errors
    /// With the first difference between the two, or that of `source`.
    pub fn of<B: Backend, K: Block>(
        model: &Model<B, K>,
        source: &mut dyn Source,
        pairs: Pairs,
    ) -> Result<Self, HubError> {
        let plan = model.plan();
        if let Some(difference) = Self::difference(plan) {
            return Err(HubError::Differs(difference));
        }
        let block = plan.steps.first().and_then(|step| plain(step.block.as_any()));
        let block = block.ok_or_else(|| HubError::Differs("it has no blocks".into()))?;
        let hidden = width(block);
        let (dim, share) = (plan.dim, plan.dim as f64 / width(block) as f64);
        let places = Places::of(model);
        let global = |name: &str| places.globals[name];
        let mut tensors = vec![Named {
            name: "model.embed_tokens.weight".into(),
            shape: vec![plan.vocab, hidden],
            elements: Elements::Padded { weight: global("embed"), width: dim },
        }];
        for (index, step) in plan.steps.iter().enumerate() {
            let block = plain(step.block.as_any()).expect("all are");
            let vectors = vectors(&places, index, source)?;
            let weights = Weights { places: &places, index, vectors, block, hidden, pairs };
            tensors.extend(weights.layer());
        }
        let last = source.read(global("final_norm"))?;
        tensors.push(norm("model.norm.weight".into(), &last, hidden));
        if !plan.tie_embeddings {
            let rows = (0..plan.vocab).map(|column| (column, 1.0)).collect();
            tensors.push(Named {
                name: "lm_head.weight".into(),
                shape: vec![plan.vocab, hidden],
                elements: Elements::Turned { weight: global("head"), rows, width: plan.vocab },
            });
        }
        let Plain { heads, kv_heads, head_dim, ffn, .. } = *block;
        Ok(Self {
            hidden,
            layers: plan.steps.len(),
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab: plan.vocab,
            seq_len: plan.seq_len,
            eps: (f64::from(NORM_EPS) * share) as f32,
            rope_base: ROPE_BASE,
            tied: plan.tie_embeddings,
            tensors,
        })
    }

    /// Its `config.json`.
    pub(super) fn config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.seq_len,
            "rms_norm_eps": self.eps,
            "rope_theta": self.rope_base,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_base},
            "attention_bias": true,
            "mlp_bias": true,
            "tie_word_embeddings": self.tied,
        })
    }
}

fn plain(block: &dyn Any) -> Option<&Plain> {
    block.downcast_ref()
}

/// What `block` does that no layer does, or not beside a layer like `first`.
fn unlike(block: &Plain, first: &Plain) -> Option<&'static str> {
    let sizes = |block: &Plain| (block.heads, block.kv_heads, block.ffn);
    let found = [
        (block.parallel, "shares its norm with the block beside it"),
        (block.resid_mix, "mixes the embedding into the stream (`resid_mix`)"),
        (block.xsa, "takes its own value out of what attention finds (`xsa`)"),
        (block.kv_source.is_some(), "reads keys and values of another block (`kv_source`)"),
        (block.rope_dims != block.head_dim, "rotates a part of each head (`rope_dims`)"),
        (!block.head_dim.is_multiple_of(2), "has heads of an odd width"),
        (sizes(block) != sizes(first), "has other heads than the first block"),
    ];
    found.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// `D'`: the next multiple of the heads and of [`ALIGNMENT`] above `D`.
fn width(block: &Plain) -> usize {
    let step = (1..).map(|n| n * block.heads).find(|n| n.is_multiple_of(ALIGNMENT));
    let step = step.expect("multiples of both exist");
    (block.dim + 1).next_multiple_of(step)
}

/// The scale of a norm over `to` channels, of which those after `scale` are zero.
fn norm(name: String, scale: &[f32], to: usize) -> Named {
    let share = (scale.len() as f64 / to as f64).sqrt();
    let mut values: Vec<f32> = scale.iter().map(|s| (f64::from(*s) * share) as f32).collect();
    values.resize(to, 0.0);
    Named { name, shape: vec![to], elements: Elements::Given(values) }
}

/// The weights of block `index` that have one axis: they are few, and factors of others.
fn vectors(
    places: &Places,
    index: usize,
    source: &mut dyn Source,
) -> Result<HashMap<String, Vec<f32>>, HubError> {
    let is_vector = |at: &usize| places.files[*at].1.len() < 2;
    let of = places.blocks[index].iter().filter(|(_, at)| is_vector(at));
    of.map(|(name, at)| Ok((name.clone(), source.read(*at)?))).collect()
}

/// The weights of one block.
struct Weights<'a> {
    places: &'a Places,
    index: usize,
    vectors: HashMap<String, Vec<f32>>,
    block: &'a Plain,
    hidden: usize,
    pairs: Pairs,
}

impl Weights<'_> {
    fn name(&self, part: &str) -> String {
        format!("model.layers.{}.{part}", self.index)
    }

    /// The weight `of` `[in, out]` as `[out, in]` of the shape `to`, with zeros where there is nothing:
    /// column `from(n)`, times its `scale`, becomes row `n`.
    fn matrix(
        &self,
        part: &str,
        of: &str,
        to: [usize; 2],
        from: impl Fn(usize) -> usize,
        scale: impl Fn(usize) -> f32,
    ) -> Named {
        let weight = self.places.blocks[self.index][of];
        let width = self.places.files[weight].1[1];
        let rows = (0..width).map(|n| (from(n), scale(from(n)))).collect();
        let elements = Elements::Turned { weight, rows, width };
        Named { name: self.name(part), shape: to.into(), elements }
    }

    fn given(&self, part: &str, values: Vec<f32>) -> Named {
        let shape = vec![values.len()];
        Named { name: self.name(part), shape, elements: Elements::Given(values) }
    }

    fn same(&self, part: &str, shape: &[usize], value: f32) -> Named {
        let elements = Elements::Same(value);
        Named { name: self.name(part), shape: shape.into(), elements }
    }

    /// The layer's weights in the order in which it uses them.
    fn layer(&self) -> Vec<Named> {
        let Self { hidden, block, ref vectors, .. } = *self;
        let Plain { dim, ffn, head_dim, .. } = *block;
        let keys = block.kv_heads * head_dim;
        let channel = |value: f32| {
            let mut values = vec![0.0; hidden];
            values[dim] = value;
            values
        };
        let factor = |scale: &str| {
            let scale = vectors.get(scale);
            move |column: usize| scale.map_or(1.0, |scale| scale[column])
        };
        let gain = |column: usize| vectors.get("qk_gain").map_or(1.0, |g| g[column / head_dim]);
        let output = factor("attn_scale");
        let output = |column| if block.skip_attention { 0.0 } else { output(column) };
        let mut undone = vec![(f64::from(LARGE) / (hidden as f64).sqrt()) as f32; dim];
        undone.resize(hidden, 0.0);
        let rotated = |n: usize| self.rotated(n);
        let same = |n: usize| n;
        let one = |_: usize| 1.0;
        vec![
            norm(self.name("input_layernorm.weight"), &vectors["norm_scale"], hidden),
            self.matrix("self_attn.q_proj.weight", "wq", [dim, hidden], rotated, gain),
            self.same("self_attn.q_proj.bias", &[dim], 0.0),
            self.matrix("self_attn.k_proj.weight", "wk", [keys, hidden], rotated, one),
            self.same("self_attn.k_proj.bias", &[keys], 0.0),
            self.matrix("self_attn.v_proj.weight", "wv", [keys, hidden], same, one),
            self.same("self_attn.v_proj.bias", &[keys], 0.0),
            self.matrix("self_attn.o_proj.weight", "wo", [hidden, dim], same, output),
            self.given("self_attn.o_proj.bias", channel(LARGE)),
            self.given("post_attention_layernorm.weight", undone),
            self.matrix("mlp.gate_proj.weight", "ff1", [ffn, hidden], same, one),
            self.same("mlp.gate_proj.bias", &[ffn], 0.0),
            self.same("mlp.up_proj.weight", &[ffn, hidden], 0.0),
            self.same("mlp.up_proj.bias", &[ffn], 1.0),
            self.matrix("mlp.down_proj.weight", "ff2", [hidden, ffn], same, factor("mlp_scale")),
            self.given("mlp.down_proj.bias", channel(-LARGE)),
        ]
    }

    /// Which channel of the heads goes to place `n`.
    fn rotated(&self, n: usize) -> usize {
        let width = self.block.head_dim;
        let (head, place) = (n / width, n % width);
        match self.pairs {
            Pairs::Neighbours => n,
            Pairs::Halves if place < width / 2 => head * width + 2 * place,
            Pairs::Halves => head * width + 2 * (place - width / 2) + 1,
        }
    }
}
