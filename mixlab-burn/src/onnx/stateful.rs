//! The forward of a language model that goes on from what earlier tokens left: their memory is
//! inputs, and the memory after the new tokens is outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Shape};
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::capture::{Capture, Session, watch};

use super::language::{bigrams, some, still};
use super::{Dim, OnnxError, Profile, Trace, Traced, trace};
use crate::blocks::{Block, Memory, State, Time};
use crate::model::{Model, Tokens};
use crate::plan::Plan;

/// The length of an axis of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Always the same.
    Fixed(usize),
    /// So many for each row of the batch.
    Rows(usize),
    /// As many as there were tokens.
    Past,
}

/// One tensor of what tokens leave for those after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The place of the block in the stack.
    pub block: usize,
    /// The door of time within the block.
    pub door: usize,
    /// What it is called after `past_key_values.` as an input and after `present.` as an output.
    pub name: String,
    /// The lengths of its axes.
    pub axes: Vec<Length>,
    /// Its type.
    pub dtype: DType,
}

impl Kept {
    /// Whether it gets longer with each token.
    pub fn grows(&self) -> bool {
        self.axes.contains(&Length::Past)
    }

    /// Its shape for `rows` rows of `past` tokens.
    pub fn shape(&self, rows: usize, past: usize) -> Vec<usize> {
        let length = |axis: &Length| match axis {
            Length::Fixed(n) => *n,
            Length::Rows(n) => n * rows,
            Length::Past => past,
        };
        self.axes.iter().map(length).collect()
    }

    /// How many numbers it has for each row and token.
    pub fn width(&self) -> usize {
        self.shape(1, 1).iter().product()
    }
}

/// The previous token of each row plus one, `[batch, 1]`: zero before the first.
const PAST_TOKEN: &str = "past_token";

/// All that a model remembers, in the order of blocks and doors. Zeros, and nothing along
/// [`Length::Past`], are what there is before the first token.
///
/// # Errors
/// If a block needs the whole row again for each token, naming it.
pub fn memory_of<K: Block>(plan: &Arc<Plan<K>>) -> Result<Vec<Kept>, OnnxError> {
    still(plan)?;
    streams(plan)?;
    // Longer than what any block looks back, so that a state that could still grow has its full size.
    let past = 16 * plan.seq_len.max(64);
    let [one, more, longer] =
        [(1, past), (3, past), (1, 2 * past)].map(|(batch, past)| present_of(plan, batch, past));
    let (one, more, longer) = (one?, more?, longer?);
    let mut kept: Vec<Kept> = Vec::new();
    for (i, (block, door, shape, dtype)) in one.iter().enumerate() {
        let axis = |a: usize| match (shape[a], more[i].2[a], longer[i].2[a]) {
            (n, m, l) if n == m && n == l => Some(Length::Fixed(n)),
            (n, m, l) if 3 * n == m && n == l => Some(Length::Rows(n)),
            (n, m, l) if n == past && m == past && l == 2 * past => Some(Length::Past),
            _ => None,
        };
        let axes: Option<Vec<_>> = (0..shape.num_dims()).map(axis).collect();
        let axes = axes.ok_or_else(|| {
            OnnxError::Model(format!(
                "`blocks[{block}]` ({}) leaves a state of {:?} after {past} tokens, which cannot be \
                 said for any number of tokens\n  hint: export it without --stateful",
                plan.steps[*block].label,
                &shape[..]
            ))
        })?;
        kept.push(Kept { block: *block, door: *door, name: String::new(), axes, dtype: *dtype });
    }
    name(&mut kept);
    Ok(kept)
}

/// Why the model does not stream, if it does not.
fn streams<K: Block>(plan: &Plan<K>) -> Result<(), OnnxError> {
    let odd = plan.steps.iter().enumerate().find(|(_, s)| s.block.time() != Time::Streaming);
    let Some((index, step)) = odd else { return Ok(()) };
    let reason = match step.block.time() {
        Time::Whole => {
            let what =
                step.block.looks_ahead().map_or_else(String::new, |what| format!(": {what}"));
            format!("reads later tokens{what}")
        }
        _ => "reads earlier tokens themselves, not what they left".into(),
    };
    Err(OnnxError::Model(format!(
        "`blocks[{index}]` ({}) {reason}: there is no state from which it could go on\n  \
         hint: export it without --stateful; a program then runs the whole row for each token",
        step.label
    )))
}

type Present = Vec<(usize, usize, Shape, DType)>;

/// What a pass of `past` tokens leaves in each of `batch` rows.
fn present_of<K: Block>(
    plan: &Arc<Plan<K>>,
    batch: usize,
    past: usize,
) -> Result<Present, OnnxError> {
    let left = watch(|session| {
        let model = Model::<Capture, K>::new(plan.clone(), session.device());
        let ids = session.input_int("input_ids", [batch, past]);
        let tokens = Tokens { bigrams: plan.bigram.as_ref().map(|_| ids.clone()), ids };
        let memory = model.advance(tokens, Memory::new()).1.into_kept();
        let all = memory.into_iter().flat_map(|((block, door), state)| {
            state.into_iter().map(move |tensor| (block, door, tensor.shape(), tensor.dtype()))
        });
        all.collect()
    });
    Ok(left?)
}

/// Gives names: `2.key` and `2.value` for a pair that grows, `2.recurrent_state` for all else; the
/// second of a kind in a block has a number.
fn name(kept: &mut [Kept]) {
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let mut before = None;
    for one in kept {
        let place = (one.block, one.door);
        let kind = match (one.grows(), before == Some(place)) {
            (true, false) => "key",
            (true, true) => "value",
            (false, _) => "recurrent_state",
        };
        before = Some(place);
        let count = counts.entry((one.block, kind)).or_insert(0);
        let number = if *count == 0 { String::new() } else { format!(".{count}") };
        *count += 1;
        one.name = format!("{}.{kind}{number}", one.block);
    }
}

/// Traces the model of a plan with its memory: beside `input_ids` and `logits` as
/// [`trace_model`](super::trace_model), inputs `past_key_values.NAME` and outputs `present.NAME` for
/// each of [`memory_of`]. Before the first token all of them are zeros, and those that grow are empty;
/// the same file reads a prompt and then token by token. A pass needs at least one token.
///
/// # Errors
/// As [`memory_of`] and [`trace()`].
pub fn trace_stateful<K: Block>(plan: &Arc<Plan<K>>) -> Result<Traced, OnnxError> {
    let kept = memory_of(plan)?;
    let traced = traced(plan, &kept, false)?;
    match super::lower::lower(&traced, Profile::Portable) {
        // Positions matter, and nothing that grows tells how many tokens there were.
        Err(OnnxError::Axis { .. }) => self::traced(plan, &kept, true),
        _ => Ok(traced),
    }
}

fn traced<K: Block>(plan: &Arc<Plan<K>>, kept: &[Kept], mask: bool) -> Result<Traced, OnnxError> {
    let [batch, sequence] = ["batch", "sequence"].map(Dim::from);
    let traced = trace(
        &["batch", "sequence", "past"],
        |device| Model::<Capture, K>::new(plan.clone(), device),
        |model, trace: &Trace<'_>| {
            let ids = some(trace.int("input_ids", [batch.clone(), sequence.clone()]));
            let [rows, columns] = ids.dims();
            let past = trace.size(&Dim::from("past"));
            if mask {
                trace.session().input_int("attention_mask", [rows, past + columns]);
            }
            let bigrams = plan.bigram.as_ref().map(|bigram| {
                let before = trace.int(PAST_TOKEN, [batch.clone(), Dim::Fixed(1)]) - 1;
                trace.output("present_token", ids.clone().narrow(1, columns - 1, 1) + 1);
                bigrams(ids.clone(), before, bigram.vocab)
            });
            let memory = Memory::left(past, rows, inputs(kept, trace.session(), rows, past));
            let left = pass(model, trace, Tokens { ids, bigrams }, memory);
            for (tensor, one) in left.zip(kept) {
                trace.output(&format!("present.{}", one.name), tensor);
            }
        },
    )?;
    Ok(traced.labelled(plan))
}

/// Reads `tokens` after what `memory` says, and names the logits; what is left then, in the order of
/// [`memory_of`].
pub(super) fn pass<K: Block>(
    model: &Model<Capture, K>,
    trace: &Trace<'_>,
    tokens: Tokens<Capture>,
    memory: Memory<Capture>,
) -> impl Iterator<Item = FloatTensor<Capture>> {
    let [rows, columns] = tokens.ids.dims();
    let (hidden, memory) = model.advance(tokens, memory);
    let logits = model.logits(hidden);
    trace.output("logits", logits.reshape([rows, columns, model.plan().vocab]));
    memory.into_kept().into_values().flatten()
}

/// What is kept as inputs, by block and door.
fn inputs(
    kept: &[Kept],
    session: &Session,
    rows: usize,
    past: usize,
) -> BTreeMap<(usize, usize), State<Capture>> {
    let mut doors: BTreeMap<(usize, usize), State<Capture>> = BTreeMap::new();
    for one in kept {
        let name = format!("past_key_values.{}", one.name);
        let tensor = session.input(&name, one.shape(rows, past), one.dtype);
        doors.entry((one.block, one.door)).or_default().push(tensor);
    }
    doors
}
