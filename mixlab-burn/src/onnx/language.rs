//! The forward of a language model from token ids to logits.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use mixlab_ops::capture::Capture;

use super::{Dim, OnnxError, Trace, Traced, trace};
use crate::blocks::Block;
use crate::model::{Model, Tokens};
use crate::plan::Plan;

/// Traces the model of a plan: `input_ids` `[batch, sequence]` to `logits`
/// `[batch, sequence, vocab]`. Bigram ids are computed in the graph, each row by itself. Matrix
/// products are exported in 32 bits, whatever the precision of the plan.
///
/// # Errors
/// As [`trace()`].
pub fn trace_model<K: Block>(plan: &Arc<Plan<K>>) -> Result<Traced, OnnxError> {
    still(plan)?;
    let [batch, sequence] = ["batch", "sequence"].map(Dim::from);
    let traced = trace(
        &["batch", "sequence"],
        |device| Model::<Capture, K>::new(plan.clone(), device),
        |model, trace: &Trace<'_>| {
            let ids = some(trace.int("input_ids", [batch.clone(), sequence.clone()]));
            let bigrams = plan.bigram.as_ref().map(|bigram| {
                let none = Tensor::full([ids.dims()[0], 1], -1, &ids.device());
                bigrams(ids.clone(), none, bigram.vocab)
            });
            let [rows, columns] = ids.dims();
            let logits = model.forward(Tokens { ids, bigrams });
            trace.output("logits", logits.reshape([rows, columns, plan.vocab]));
        },
    )?;
    Ok(traced.labelled(plan))
}

/// The ids `[B, T]`, for which a file fails if there are none: the `Scan`s after them would end the whole
/// process (onnxruntime 1.20 to 1.32, two rows).
pub(super) fn some(ids: Tensor<Capture, 2, Int>) -> Tensor<Capture, 2, Int> {
    let first = ids.clone().select(1, Tensor::from_ints([0], &ids.device()));
    ids + (first.clone() - first)
}

/// Refuses a model that goes on learning from what it reads: a file has its weights as they are.
pub(super) fn still<K: Block>(plan: &Plan<K>) -> Result<(), OnnxError> {
    if plan.training.ttt.is_none() {
        return Ok(());
    }
    Err(OnnxError::Model(
        "the config asks for test-time training, which changes weights with what is read: an ONNX file \
         cannot\n  hint: the model without it is exported with `--set training.ttt_steps=0`"
            .into(),
    ))
}

/// [`bigram_ids`](crate::model::bigram_ids) of rows `[B, T]` after the tokens `before` `[B, 1]`, which
/// are negative where there is none, as operations.
pub(super) fn bigrams(
    ids: Tensor<Capture, 2, Int>,
    before: Tensor<Capture, 2, Int>,
    vocab: usize,
) -> Tensor<Capture, 2, Int> {
    let columns = ids.dims()[1];
    let previous = Tensor::cat(vec![before, ids.clone()], 1).narrow(1, 0, columns);
    let mixed = (ids * 36_313).bitwise_xor(previous.clone() * 27_191);
    let modulus = vocab as i64 - 1;
    mixed.remainder_scalar(modulus).mask_fill(previous.lower_elem(0), modulus)
}
