//! A block's operations with their names resolved: values are numbered slots.
//!
//! Slot 0 is the stream as it comes in, then one slot for each weight, then one for each result.
//! A name that is written twice is two slots, so what each operation reads is settled at planning.

use std::ops::Range;

use super::fault::Fault;
use super::ops::{Dims, ROWS, Row};
use super::params::{Params, Site};
use super::shape::Extent;

/// The slot of the stream.
pub const STREAM: usize = 0;

/// One operation on slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Its place among the operations of the config.
    pub index: usize,
    /// Its row in the table.
    pub row: usize,
    /// Its parameters.
    pub params: Params,
    /// The slots that it reads.
    pub inputs: Vec<usize>,
    /// The slots that it writes.
    pub outputs: Range<usize>,
}

/// Operations in order, and what they start from and lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The operations.
    pub instructions: Vec<Instruction>,
    /// Width of the stream, `D`.
    pub dim: usize,
    /// The weights as operations see them.
    pub weights: Vec<Dims>,
    /// Number of slots.
    pub slots: usize,
    /// The slot that `x` means at the end.
    pub stream: usize,
    /// Weights whose name was written, and the slot that it means at the end.
    pub rewrites: Vec<(usize, usize)>,
}

/// Why some data do not fit a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The operation, by its place in the config; none if it is the stream at the end.
    pub op: Option<usize>,
    /// What is wrong there.
    pub fault: Fault,
}

impl Instruction {
    /// Its row in the table.
    pub fn row(&self) -> &'static Row {
        &ROWS[self.row]
    }

    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        self.row().name()
    }

    /// Where it stands, for people.
    pub fn place(&self) -> String {
        format!("ops[{}] `{}`", self.index, self.name())
    }

    /// The shapes of the outputs for inputs of the given shapes.
    ///
    /// # Errors
    /// If the inputs do not fit, or a result has more than `most` elements.
    pub fn shapes(&self, extent: Extent, inputs: &[Dims], most: usize) -> Result<Vec<Dims>, Fault> {
        let site = Site { params: &self.params, extent };
        let bounded = |shapes: Vec<Dims>| match shapes.iter().find(|s| !fits(s, most)) {
            Some(shape) => Err(too_large(shape, most)),
            None => Ok(shapes),
        };
        (self.row().shapes)(&site, inputs).and_then(bounded).map_err(|fault| Fault {
            message: format!("`{}`{}: {}", self.name(), listed(inputs), fault.message),
            hint: fault.hint,
        })
    }
}

/// Whether a value of this shape has at most `most` elements.
fn fits(shape: &[usize], most: usize) -> bool {
    let count = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    count.is_some_and(|count| count <= most)
}

fn too_large(shape: &[usize], most: usize) -> Fault {
    Fault::new(
        format!("the result {shape:?} has more than `{most}` elements"),
        "use smaller sizes, or a smaller training.batch_tokens if they depend on the batch",
    )
}

/// ` of [24, 16] and [16, 32]`, or nothing.
fn listed(inputs: &[Dims]) -> String {
    let shapes: Vec<_> = inputs.iter().map(|dims| format!("{dims:?}")).collect();
    match shapes.split_last() {
        None => String::new(),
        Some((only, [])) => format!(" of {only}"),
        Some((last, rest)) => format!(" of {} and {last}", rest.join(", ")),
    }
}

/// The stream must leave a block as it came.
pub fn check_stream(found: &Dims, extent: Extent, dim: usize) -> Result<(), Fault> {
    let expected = vec![extent.batch * extent.seq, dim];
    if *found == expected {
        return Ok(());
    }
    Err(Fault::new(
        format!("`x` ends with shape {found:?} instead of {expected:?}"),
        "the last value written to `x` must have the shape `[\"BT\", \"D\"]`; use reshape",
    ))
}

impl Program {
    /// Whether all shapes fit for data of this extent.
    ///
    /// # Errors
    /// As [`Program::shapes`].
    pub fn check(&self, extent: Extent) -> Result<(), Refusal> {
        self.shapes(extent).map(drop)
    }

    /// The shape of each slot for data of this extent; those of results that were pruned are empty.
    ///
    /// # Errors
    /// With the first operation whose inputs do not fit.
    pub fn shapes(&self, extent: Extent) -> Result<Vec<Dims>, Refusal> {
        let mut shapes = vec![vec![]; self.slots];
        shapes[STREAM] = vec![extent.batch * extent.seq, self.dim];
        shapes[1..=self.weights.len()].clone_from_slice(&self.weights);
        for instruction in &self.instructions {
            let inputs: Vec<_> =
                instruction.inputs.iter().map(|slot| shapes[*slot].clone()).collect();
            let outputs = instruction.shapes(extent, &inputs, usize::MAX);
            let op = Some(instruction.index);
            let outputs = outputs.map_err(|fault| Refusal { op, fault })?;
            for (slot, dims) in instruction.outputs.clone().zip(outputs) {
                shapes[slot] = dims;
            }
        }
        let stream = check_stream(&shapes[self.stream], extent, self.dim);
        stream.map(|()| shapes).map_err(|fault| Refusal { op: None, fault })
    }

    /// Keeps only the operations that reach the stream at the end, or a weight that was written.
    /// Returns the others.
    pub fn prune(&mut self) -> Vec<Instruction> {
        let mut needed = vec![false; self.slots];
        needed[self.stream] = true;
        self.rewrites.iter().for_each(|(_, slot)| needed[*slot] = true);
        let mut dead = Vec::new();
        let mut live = Vec::new();
        for instruction in std::mem::take(&mut self.instructions).into_iter().rev() {
            if instruction.outputs.clone().any(|slot| needed[slot]) {
                instruction.inputs.iter().for_each(|slot| needed[*slot] = true);
                live.push(instruction);
            } else {
                dead.push(instruction);
            }
        }
        live.reverse();
        dead.reverse();
        self.instructions = live;
        dead
    }
}
