//! A plan as `modeling_mixlab.py` reads it: every option resolved, every weight by its name.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;

use burn::tensor::backend::Backend;
use mixlab_ops::Activation;
use serde_json::{Map, Value, json};

use super::HubError;
use crate::blocks::cross_attention::{CrossAttention, Source};
use crate::blocks::custom::Custom;
use crate::blocks::{
    Block, NORM_EPS, ROPE_BASE, bottleneck, mamba, mamba3, mlp, perceiver, plain, retnet, rwkv,
    swiglu, token_blend,
};
use crate::model::Model;
use crate::weights::layout;

/// Where the weights of a model are in the order of its weights.
pub(super) struct Places {
    /// Before the blocks: embeddings, head, final norm.
    pub globals: HashMap<String, usize>,
    /// Of each block, those that it uses: by name.
    pub blocks: Vec<HashMap<String, usize>>,
    /// The factors of the U-Net's skips.
    pub skips: Range<usize>,
    /// Name and shape in files of all.
    pub files: Vec<(String, Vec<usize>)>,
}

impl Places {
    pub fn of<B: Backend, K: Block>(model: &Model<B, K>) -> Self {
        let weights = layout(model);
        let count = |blocks: &[K::Weights<B>]| -> Vec<usize> {
            blocks.iter().map(|block| layout(block).len()).collect()
        };
        let (encoder, blocks) = (count(&model.encoder), count(&model.blocks));
        let skips = model.skip_weight.len();
        let all: usize = encoder.iter().chain(&blocks).sum::<usize>() + skips;
        let globals = weights.len() - all;
        let mut at = globals;
        let mut take = |count: usize| {
            at += count;
            at - count..at
        };
        let mut ranges: Vec<_> = encoder.into_iter().map(&mut take).collect();
        let skips = take(skips);
        ranges.extend(blocks.into_iter().map(take));
        let names = |range: Range<usize>| -> HashMap<String, usize> {
            range.map(|index| (weights[index].name.clone(), index)).collect()
        };
        let mut owned = ranges.into_iter().map(&names);
        let mut blocks: Vec<HashMap<String, usize>> = Vec::new();
        for (index, step) in model.plan().steps.iter().enumerate() {
            let own = step.owner == index;
            let own = own.then(|| owned.next().expect("an owner has weights"));
            blocks.push(own.unwrap_or_else(|| blocks[step.owner].clone()));
        }
        let file = |(index, weight): (usize, &crate::weights::Weight)| {
            (weight.file_name(index), weight.shape.clone())
        };
        let files = weights.iter().enumerate().map(file).collect();
        Self { globals: names(0..globals), blocks, skips, files }
    }

    fn names(&self, of: &HashMap<String, usize>) -> Map<String, Value> {
        let name =
            |(name, index): (&String, &usize)| (name.clone(), self.files[*index].0.clone().into());
        let mut names: Vec<_> = of.iter().collect();
        names.sort_by_key(|(_, index)| **index);
        names.into_iter().map(name).collect()
    }
}

/// The plan of `model`.
///
/// # Errors
/// If the modelling file does not know a block.
pub(super) fn describe<B: Backend, K: Block>(
    model: &Model<B, K>,
    places: &Places,
) -> Result<Value, HubError> {
    let plan = model.plan();
    let block = |index: usize| {
        let step = &plan.steps[index];
        let refused = |reason: String| HubError::Block { index, label: step.label.clone(), reason };
        let mut block = options(step.block.as_any(), &places.blocks[index]).map_err(refused)?;
        block["weights"] = places.names(&places.blocks[index]).into();
        block["owner"] = step.owner.into();
        block["stream"] = step.stream.clone().into();
        let skip = plan.skip(index).map(|skip| {
            let scale = &places.files[places.skips.start + skip].0;
            json!({"from": plan.encoder_len() - 1 - skip, "scale": scale})
        });
        block["skip"] = skip.into();
        Ok(block)
    };
    let blocks = (0..plan.steps.len()).map(block).collect::<Result<Vec<_>, HubError>>()?;
    Ok(json!({
        "rms_norm_eps": NORM_EPS,
        "rope_base": ROPE_BASE,
        "softcap": plan.softcap,
        "bigram_vocab": plan.bigram.as_ref().map(|bigram| bigram.vocab),
        "streaming": plan.is_streaming(),
        "weights": places.files,
        "globals": places.names(&places.globals),
        "blocks": blocks,
    }))
}

/// The type of a block and its options.
fn options(block: &dyn Any, weights: &HashMap<String, usize>) -> Result<Value, String> {
    if let Some(block) = block.downcast_ref::<plain::Plain>() {
        let plain::Plain { heads, kv_heads, rope_dims, .. } = block;
        return Ok(json!({
            "type": "plain", "heads": heads, "kv_heads": kv_heads, "rope_dims": rope_dims,
            "kv_source": block.kv_source, "xsa": block.xsa, "parallel": block.parallel,
            "skip_attention": block.skip_attention,
        }));
    }
    if let Some(block) = block.downcast_ref::<mlp::Mlp>() {
        let (activation, slope) = match block.activation {
            Activation::Silu => ("silu", 0.0),
            Activation::Gelu => ("gelu", 0.0),
            Activation::Relu => ("relu", 0.0),
            Activation::LeakyReluSquared { slope } => ("leaky_relu_sq", slope),
            ref other => return Err(format!("its activation is `{other:?}`")),
        };
        return Ok(json!({"type": "mlp", "activation": activation, "slope": slope}));
    }
    if let Some(block) = block.downcast_ref::<CrossAttention>() {
        let source = match &block.source {
            Source::Current => "x",
            Source::Embedding => "x0",
            Source::Published(name) => name,
        };
        // Streams of other names cannot be called `x` or `x0`: a config would not reach them.
        return Ok(json!({"type": "cross_attention", "heads": block.heads, "source": source}));
    }
    let heads = |kind: &str, heads: usize| json!({"type": kind, "heads": heads});
    if let Some(block) = block.downcast_ref::<retnet::Retnet>() {
        return Ok(heads("retnet", block.heads));
    }
    if let Some(block) = block.downcast_ref::<perceiver::Perceiver>() {
        return Ok(heads("perceiver", block.heads));
    }
    if let Some(bottleneck::Bottleneck(block)) = block.downcast_ref() {
        return Ok(heads("perceiver", block.heads));
    }
    if let Some(block) = block.downcast_ref::<Custom>() {
        return custom(block, weights);
    }
    let plainly = [
        ("swiglu", block.is::<swiglu::Swiglu>()),
        ("mamba", block.is::<mamba::Mamba>()),
        ("mamba3", block.is::<mamba3::Mamba3>()),
        ("rwkv", block.is::<rwkv::Rwkv>()),
        ("token_blend", block.is::<token_blend::TokenBlend>()),
    ];
    let kind = plainly.into_iter().find(|(_, is)| *is).map(|(kind, _)| json!({"type": kind}));
    kind.ok_or_else(|| "`modeling_mixlab.py` has no such block".into())
}

/// A block that the config programs, with names resolved to slots: the stream, then each weight.
fn custom(block: &Custom, weights: &HashMap<String, usize>) -> Result<Value, String> {
    let program = block.program();
    if !program.rewrites.is_empty() {
        return Err("an operation writes to the name of a weight".into());
    }
    let mut slots: Vec<(&String, &usize)> = weights.iter().collect();
    slots.sort_by_key(|(_, index)| **index);
    let names: Vec<&String> = slots.into_iter().map(|(name, _)| name).collect();
    let remembers = &block.outlook().remembers;
    let op = |(instruction, remembers): (&crate::blocks::custom::Instruction, &bool)| {
        json!({
            "op": instruction.name(),
            "inputs": instruction.inputs,
            "outputs": instruction.outputs.clone().collect::<Vec<_>>(),
            "params": instruction.params.to_json(),
            "remembers": remembers,
        })
    };
    let ops: Vec<Value> = program.instructions.iter().zip(remembers).map(op).collect();
    Ok(json!({"type": "custom", "slots": names, "ops": ops, "result": program.stream}))
}
