//! A block's operations with their names resolved: values are numbered slots.
//!
//! Slot 0 is the stream as it comes in, then one slot for each weight, then one for each result.
//! A name that is written twice is two slots, so what each operation reads is settled at planning.

use burn_backend::tensor::FloatTensor;
use mixlab_ops::Backend;

use super::fault::Fault;
use super::ops::{Call, Dims, Row, run};
use super::params::{Params, Site};
use super::shape::Extent;
use crate::blocks::Flow;

/// The slot of the stream.
pub const STREAM: usize = 0;

/// One operation on slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Its name in the table.
    pub op: &'static str,
    /// Its parameters.
    pub params: Params,
    /// The slots that it reads.
    pub inputs: Vec<usize>,
    /// The slots that it writes.
    pub outputs: Vec<usize>,
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
    /// The operation; none if it is the stream at the end.
    pub op: Option<usize>,
    /// What is wrong there.
    pub fault: Fault,
}

impl Instruction {
    /// The shapes of the outputs for inputs of the given shapes.
    pub fn shapes(&self, extent: Extent, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
        let row = Row::find(self.op).expect("planning knows every operation");
        let site = Site { params: &self.params, extent };
        (row.shapes)(&site, inputs).map_err(|fault| Fault {
            message: format!("`{}`{}: {}", self.op, listed(inputs), fault.message),
            hint: fault.hint,
        })
    }
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
    pub fn check(&self, extent: Extent) -> Result<(), Refusal> {
        let mut shapes = vec![vec![]; self.slots];
        shapes[STREAM] = vec![extent.batch * extent.seq, self.dim];
        shapes[1..=self.weights.len()].clone_from_slice(&self.weights);
        for (index, instruction) in self.instructions.iter().enumerate() {
            let inputs: Vec<_> =
                instruction.inputs.iter().map(|slot| shapes[*slot].clone()).collect();
            let outputs = instruction.shapes(extent, &inputs);
            let outputs = outputs.map_err(|fault| Refusal { op: Some(index), fault })?;
            for (slot, dims) in instruction.outputs.iter().zip(outputs) {
                shapes[*slot] = dims;
            }
        }
        let stream = check_stream(&shapes[self.stream], extent, self.dim);
        stream.map_err(|fault| Refusal { op: None, fault })
    }

    /// Which operations reach the stream at the end, or a weight that was written.
    pub fn live(&self) -> Vec<bool> {
        let mut needed = vec![false; self.slots];
        needed[self.stream] = true;
        self.rewrites.iter().for_each(|(_, slot)| needed[*slot] = true);
        let mut live = vec![false; self.instructions.len()];
        for (index, instruction) in self.instructions.iter().enumerate().rev() {
            live[index] = instruction.outputs.iter().any(|slot| needed[*slot]);
            if live[index] {
                instruction.inputs.iter().for_each(|slot| needed[*slot] = true);
            }
        }
        live
    }

    /// Runs the live operations on the stream `x` and the weights. Returns `x` at the end; weights
    /// that were written are left in `flow`.
    pub fn run<B: Backend>(
        &self,
        x: FloatTensor<B>,
        weights: Vec<FloatTensor<B>>,
        flow: &mut Flow<B>,
    ) -> FloatTensor<B> {
        let device = B::float_device(&x);
        let extent = Extent { batch: flow.batch, seq: flow.seq };
        let live = self.live();
        let mut values = Values::<B>::new(self, &live);
        values.start(std::iter::once(x).chain(weights));
        for (instruction, _) in self.instructions.iter().zip(live).filter(|(_, live)| *live) {
            let inputs: Vec<_> = instruction.inputs.iter().map(|slot| values.take(*slot)).collect();
            let shapes: Vec<_> = inputs.iter().map(|x| shape::<B>(x)).collect();
            let shapes = instruction.shapes(extent, &shapes);
            let shapes = shapes.expect("planning has checked every shape");
            let site = Site { params: &instruction.params, extent };
            let call = Call { site, inputs, shapes, flow, device: &device };
            for (slot, value) in instruction.outputs.iter().zip(run(instruction.op, call)) {
                values.put(*slot, value);
            }
        }
        for (weight, slot) in &self.rewrites {
            flow.rewrite(*weight, values.take(*slot));
        }
        values.take(self.stream)
    }
}

fn shape<B: Backend>(x: &FloatTensor<B>) -> Dims {
    use burn::tensor::TensorMetadata;
    x.shape().to_vec()
}

/// The values in the slots, each kept until it was read for the last time.
struct Values<B: Backend> {
    held: Vec<Option<FloatTensor<B>>>,
    reads: Vec<usize>,
}

impl<B: Backend> Values<B> {
    fn new(program: &Program, live: &[bool]) -> Self {
        let mut reads = vec![0; program.slots];
        let executed = program.instructions.iter().zip(live).filter(|(_, live)| **live);
        let inputs = executed.flat_map(|(instruction, _)| &instruction.inputs);
        inputs.for_each(|slot| reads[*slot] += 1);
        program.rewrites.iter().for_each(|(_, slot)| reads[*slot] += 1);
        reads[program.stream] += 1;
        Self { held: (0..program.slots).map(|_| None).collect(), reads }
    }

    fn start(&mut self, values: impl Iterator<Item = FloatTensor<B>>) {
        values.enumerate().for_each(|(slot, value)| self.put(slot, value));
    }

    fn put(&mut self, slot: usize, value: FloatTensor<B>) {
        if self.reads[slot] > 0 {
            self.held[slot] = Some(value);
        }
    }

    fn take(&mut self, slot: usize) -> FloatTensor<B> {
        self.reads[slot] -= 1;
        let value = match self.reads[slot] {
            0 => self.held[slot].take(),
            _ => self.held[slot].clone(),
        };
        value.expect("planning has checked that values are written before they are read")
    }
}
