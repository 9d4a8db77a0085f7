//! Files that onnxruntime-genai runs as a model of type `decoder`.
//!
//! It knows two kinds of layers: keys and values, and recurrent ones that have a `conv_state` and a
//! `recurrent_state` of one shape each. So each door that keeps keys and values becomes a layer, and all
//! else that a model remembers is one recurrent layer, whose state is a row of numbers. Layers of such a
//! file are not blocks of the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::capture::Capture;
use mixlab_ops::{lift, lower};
use serde_json::{Value, json};

use super::language::{bigrams, some};
use super::stateful::{Kept, Length, memory_of, pass};
use super::{Dim, OnnxError, Trace, Traced, trace};
use crate::blocks::{Block, Memory, State};
use crate::model::{Model, Tokens};
use crate::plan::Plan;

/// What a file for onnxruntime-genai remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Pairs of keys and values.
    pub attention: usize,
    /// Heads of keys, and channels of each; 1 if there are none.
    pub heads: [usize; 2],
    /// Numbers in the state of the recurrent layer, which there is unless they are none.
    pub recurrent: usize,
}

/// Traces the model of a plan for onnxruntime-genai.
///
/// # Errors
/// As [`memory_of`] and [`trace()`]; if blocks have keys of several shapes, which it does not allow.
pub fn trace_genai<K: Block>(plan: &Arc<Plan<K>>) -> Result<(Traced, Layers), OnnxError> {
    let kept = memory_of(plan)?;
    let layers = layers(plan, &kept)?;
    let [batch, sequence] = ["batch", "sequence"].map(Dim::from);
    let traced = trace(
        &["batch", "sequence", "past"],
        |device| Model::<Capture, K>::new(plan.clone(), device),
        |model, trace: &Trace<'_>| {
            let ids = some(trace.int("input_ids", [batch.clone(), sequence.clone()]));
            let [rows, columns] = ids.dims();
            let past = trace.size(&Dim::from("past"));
            let mut packed = Packed::open(trace, layers.attention, layers.recurrent);
            let memory = Memory::left(past, rows, inputs(&kept, trace, rows, &mut packed));
            let bigrams = plan.bigram.as_ref().map(|bigram| {
                let before: Tensor<Capture, 2, Int> = packed.take(1).int() - 1;
                bigrams(ids.clone(), before, bigram.vocab)
            });
            let token = ids.clone().narrow(1, columns - 1, 1).float() + 1.0;
            let left = pass(model, trace, Tokens { ids, bigrams }, memory);
            let mut parts = Vec::new();
            let mut pairs = 0;
            for (tensor, one) in left.zip(&kept) {
                if one.grows() {
                    trace.output(&pair("present", pairs), tensor);
                    pairs += 1;
                } else {
                    parts.push(flat(tensor, rows, one));
                }
            }
            parts.extend(plan.bigram.is_some().then_some(token));
            packed.close(trace, parts);
        },
    )?;
    Ok((traced.labelled(plan), layers))
}

/// The layers of what is kept.
fn layers<K: Block>(plan: &Plan<K>, kept: &[Kept]) -> Result<Layers, OnnxError> {
    let (grown, fixed): (Vec<&Kept>, Vec<&Kept>) = kept.iter().partition(|one| one.grows());
    let shape = |one: &&Kept| match one.axes[..] {
        [Length::Rows(1), Length::Fixed(heads), Length::Past, Length::Fixed(width)] => {
            Some([heads, width])
        }
        _ => None,
    };
    let shapes: Option<Vec<[usize; 2]>> = grown.iter().map(shape).collect();
    let shapes = shapes.filter(|shapes| shapes.windows(2).all(|two| two[0] == two[1]));
    let shapes = shapes.ok_or_else(|| {
        OnnxError::Model(
            "onnxruntime-genai takes keys and values of one shape, and those of the blocks differ\n  \
             hint: export with `--stateful` and another profile, which onnxruntime itself runs"
                .into(),
        )
    })?;
    let recurrent = fixed.iter().map(|one| one.width()).sum::<usize>();
    Ok(Layers {
        attention: grown.len() / 2,
        heads: shapes.first().copied().unwrap_or([1, 1]),
        recurrent: recurrent + usize::from(plan.bigram.is_some()),
    })
}

/// What the `number`-th tensor of the pairs is called.
fn pair(side: &str, number: usize) -> String {
    let kind = ["key", "value"][number % 2];
    format!("{side}.{}.{kind}", number / 2)
}

/// What is kept as inputs, by block and door.
fn inputs(
    kept: &[Kept],
    trace: &Trace<'_>,
    rows: usize,
    packed: &mut Packed,
) -> BTreeMap<(usize, usize), State<Capture>> {
    let past = trace.size(&Dim::from("past"));
    let mut doors: BTreeMap<(usize, usize), State<Capture>> = BTreeMap::new();
    let mut pairs = 0;
    for one in kept {
        let shape = one.shape(rows, past);
        let tensor = if one.grows() {
            let name = pair("past_key_values", pairs);
            pairs += 1;
            trace.session().input(&name, shape, one.dtype)
        } else {
            Capture::float_reshape(lower(packed.take(one.width())), shape.into())
        };
        doors.entry((one.block, one.door)).or_default().push(tensor);
    }
    doors
}

/// A state as rows `[B, W]`.
fn flat(tensor: FloatTensor<Capture>, rows: usize, one: &Kept) -> Tensor<Capture, 2> {
    lift(Capture::float_reshape(tensor, [rows, one.width()].into()))
}

/// The recurrent layer: rows `[B, W]` of numbers that states are taken from one after the other.
struct Packed {
    layer: usize,
    rows: Option<Tensor<Capture, 2>>,
    /// Asked for by onnxruntime-genai, of no use here.
    conv: Option<Tensor<Capture, 3>>,
    taken: usize,
}

impl Packed {
    fn open(trace: &Trace<'_>, layer: usize, width: usize) -> Self {
        if width == 0 {
            return Self { layer, rows: None, conv: None, taken: 0 };
        }
        let (batch, one) = (Dim::from("batch"), Dim::Fixed(1));
        let name = |kind: &str| format!("past_key_values.{layer}.{kind}");
        let conv = trace.float(&name("conv_state"), [batch.clone(), one.clone(), one.clone()]);
        let dims = [batch, one.clone(), one, Dim::Fixed(width)];
        let state = trace.float::<4>(&name("recurrent_state"), dims);
        let rows = state.dims()[0];
        Self { layer, rows: Some(state.reshape([rows, width])), conv: Some(conv), taken: 0 }
    }

    /// The next `width` numbers of each row.
    fn take(&mut self, width: usize) -> Tensor<Capture, 2> {
        let rows = self.rows.clone().expect("there is a layer if something is kept in it");
        self.taken += width;
        rows.narrow(1, self.taken - width, width)
    }

    /// What later tokens find.
    fn close(self, trace: &Trace<'_>, parts: Vec<Tensor<Capture, 2>>) {
        let (Some(conv), false) = (self.conv, parts.is_empty()) else { return };
        let name = |kind: &str| format!("present.{}.{kind}", self.layer);
        trace.output(&name("conv_state"), conv);
        let rows = Tensor::cat(parts, 1);
        let [batch, width] = rows.dims();
        trace.output(&name("recurrent_state"), rows.reshape([batch, 1, 1, width]));
    }
}

/// What onnxruntime-genai must know of a file, `genai_config.json` in its folder. `eos` is the token that
/// ends a text; one is asked for, and without one the last of the vocabulary takes its place.
pub fn genai_config<K: Block>(
    plan: &Plan<K>,
    layers: &Layers,
    file: &str,
    eos: Option<usize>,
) -> Value {
    let end = eos.unwrap_or(plan.vocab - 1);
    json!({
        "model": {
            "type": "decoder",
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": end,
            "vocab_size": plan.vocab,
            "context_length": plan.seq_len,
            "decoder": {
                "filename": file,
                "hidden_size": plan.dim,
                "num_attention_heads": layers.heads[0],
                "num_key_value_heads": layers.heads[0],
                "head_size": layers.heads[1],
                "num_hidden_layers": layers.attention + usize::from(layers.recurrent > 0),
                "session_options": { "log_id": "onnxruntime-genai", "provider_options": [] },
                "inputs": {
                    "input_ids": "input_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": false,
            "max_length": plan.seq_len,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": false,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
        },
    })
}
