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
use super::tensors::Named;
use crate::blocks::plain::Plain;
use crate::blocks::{Block, NORM_EPS, ROPE_BASE};
use crate::model::Model;
use crate::plan::Plan;
use crate::weights::values;

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
                None => "is none of attention and a feed-forward tail with silu",
                Some(block) => unlike(block, first?)?,
            };
            Some(format!("block {index} ({}) {what}", step.label))
        })
    }

    /// `model` as one of this architecture.
    ///
    /// # Errors
    /// With the first difference between the two.
    pub fn of<B: Backend, K: Block>(model: &Model<B, K>, pairs: Pairs) -> Result<Self, HubError> {
        let plan = model.plan();
        if let Some(difference) = Self::difference(plan) {
            return Err(HubError::Differs(difference));
        }
        let block = plan.steps.first().and_then(|step| plain(step.block.as_any()));
        let block = block.ok_or_else(|| HubError::Differs("it has no blocks".into()))?;
        let hidden = width(block);
        let (dim, share) = (plan.dim, plan.dim as f64 / width(block) as f64);
        let (places, all) = (Places::of(model), values(model));
        let global = |name: &str| all[places.globals[name]].as_slice();
        let mut tensors = vec![Named {
            name: "model.embed_tokens.weight".into(),
            shape: vec![plan.vocab, hidden],
            values: padded(global("embed"), dim, hidden),
        }];
        for (index, step) in plan.steps.iter().enumerate() {
            let block = plain(step.block.as_any()).expect("all are");
            let weights = &places.blocks[index];
            let weights = Weights { all: &all, weights, block, hidden, pairs };
            tensors.extend(weights.layer(index));
        }
        tensors.push(norm("model.norm.weight".into(), global("final_norm"), hidden));
        if !plan.tie_embeddings {
            let head = Matrix { values: global("head"), rows: dim, columns: plan.vocab };
            tensors.push(head.turned(
                "lm_head.weight".into(),
                [plan.vocab, hidden],
                |c| c,
                |_| 1.0,
            ));
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

/// Rows of `dim` columns with zeros up to `to`.
fn padded(values: &[f32], dim: usize, to: usize) -> Vec<f32> {
    let row = |row: &[f32]| [row, &vec![0.0; to - dim]].concat();
    values.chunks(dim).flat_map(row).collect()
}

/// The scale of a norm over `to` channels, of which those after `scale` are zero.
fn norm(name: String, scale: &[f32], to: usize) -> Named {
    let share = (scale.len() as f64 / to as f64).sqrt();
    let scale: Vec<f32> = scale.iter().map(|s| (f64::from(*s) * share) as f32).collect();
    Named { name, shape: vec![to], values: padded(&scale, scale.len(), to) }
}

/// `[in, out]`, row by row.
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
}

impl Matrix<'_> {
    /// As `[out, in]` of the shape `to`, with zeros where there is nothing: column `from(n)`, times
    /// its `scale`, becomes row `n`.
    fn turned(
        &self,
        name: String,
        to: [usize; 2],
        from: impl Fn(usize) -> usize,
        scale: impl Fn(usize) -> f32,
    ) -> Named {
        let mut values = vec![0.0; to[0] * to[1]];
        for n in 0..self.columns {
            let column = from(n);
            let factor = scale(column);
            for row in 0..self.rows {
                values[n * to[1] + row] = self.values[row * self.columns + column] * factor;
            }
        }
        Named { name, shape: to.to_vec(), values }
    }
}

/// The weights of one block.
struct Weights<'a> {
    all: &'a [Vec<f32>],
    weights: &'a HashMap<String, usize>,
    block: &'a Plain,
    hidden: usize,
    pairs: Pairs,
}

impl Weights<'_> {
    fn get(&self, name: &str) -> Option<&[f32]> {
        self.weights.get(name).map(|index| self.all[*index].as_slice())
    }

    fn matrix(&self, name: &str, columns: usize) -> Matrix<'_> {
        let values = self.get(name).expect("a block without `kv_source` has them all");
        Matrix { values, rows: values.len() / columns, columns }
    }

    /// The layer's weights in the order in which it uses them.
    fn layer(&self, index: usize) -> Vec<Named> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let Self { hidden, block, .. } = *self;
        let Plain { dim, ffn, head_dim, .. } = *block;
        let keys = block.kv_heads * head_dim;
        let bias = |part: &str, values: Vec<f32>| Named {
            name: name(part),
            shape: vec![values.len()],
            values,
        };
        let channel = |value: f32| {
            let mut values = vec![0.0; hidden];
            values[dim] = value;
            values
        };
        let factor = |scale: &str| {
            let scale = self.get(scale);
            move |column: usize| scale.map_or(1.0, |scale| scale[column])
        };
        let gain = |column: usize| self.get("qk_gain").map_or(1.0, |gain| gain[column / head_dim]);
        let output = factor("attn_scale");
        let output = |column| if block.skip_attention { 0.0 } else { output(column) };
        let undone = (f64::from(LARGE) / (hidden as f64).sqrt()) as f32;
        let rotated = |n: usize| self.rotated(n);
        let same = |n: usize| n;
        let one = |_: usize| 1.0;
        let matrix = |part: &str, of: &str, columns: usize| (name(part), self.matrix(of, columns));
        let (q, wq) = matrix("self_attn.q_proj.weight", "wq", dim);
        let (k, wk) = matrix("self_attn.k_proj.weight", "wk", keys);
        let (v, wv) = matrix("self_attn.v_proj.weight", "wv", keys);
        let (o, wo) = matrix("self_attn.o_proj.weight", "wo", dim);
        let (gate, ff1) = matrix("mlp.gate_proj.weight", "ff1", ffn);
        let (down, ff2) = matrix("mlp.down_proj.weight", "ff2", dim);
        let scale = self.get("norm_scale").expect("each block has one");
        vec![
            norm(name("input_layernorm.weight"), scale, hidden),
            wq.turned(q, [dim, hidden], rotated, gain),
            bias("self_attn.q_proj.bias", vec![0.0; dim]),
            wk.turned(k, [keys, hidden], rotated, one),
            bias("self_attn.k_proj.bias", vec![0.0; keys]),
            wv.turned(v, [keys, hidden], same, one),
            bias("self_attn.v_proj.bias", vec![0.0; keys]),
            wo.turned(o, [hidden, dim], same, output),
            bias("self_attn.o_proj.bias", channel(LARGE)),
            bias("post_attention_layernorm.weight", padded(&vec![undone; dim], dim, hidden)),
            ff1.turned(gate, [ffn, hidden], same, one),
            bias("mlp.gate_proj.bias", vec![0.0; ffn]),
            Named {
                name: name("mlp.up_proj.weight"),
                shape: vec![ffn, hidden],
                values: vec![0.0; ffn * hidden],
            },
            bias("mlp.up_proj.bias", vec![1.0; ffn]),
            ff2.turned(down, [hidden, ffn], same, factor("mlp_scale")),
            bias("mlp.down_proj.bias", channel(-LARGE)),
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
