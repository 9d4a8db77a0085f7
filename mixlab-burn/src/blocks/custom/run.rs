//! Running a program: what it works out once for each extent, and the values while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use burn_backend::tensor::FloatTensor;
use mixlab_ops::Backend;

use super::ops::{Call, Dims, run};
use super::params::Site;
use super::program::{Program, Refusal};
use super::shape::Extent;
use crate::blocks::Flow;

/// How many extents are remembered beside the first.
const OTHERS: usize = 3;

/// The shapes of all slots for the extents that a program was run at: the first for good, since it
/// is that of training, and the last few others.
///
/// They follow from the program, so two of these are always equal.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<Vec<(Extent, Arc<[Dims]>)>>);

impl Shapes {
    /// The shapes of `program` at `extent`.
    ///
    /// # Errors
    /// If the program does not fit.
    pub fn at(&self, program: &Program, extent: Extent) -> Result<Arc<[Dims]>, Refusal> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shapes)) = known.iter().find(|(at, _)| *at == extent) {
            return Ok(shapes.clone());
        }
        let shapes: Arc<[Dims]> = program.shapes(extent)?.into();
        if known.len() > OTHERS {
            known.remove(1);
        }
        known.push((extent, shapes.clone()));
        Ok(shapes)
    }
}

impl Clone for Shapes {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

impl PartialEq for Shapes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What is known before a program runs.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The shapes of all slots.
    pub shapes: &'a [Dims],
    /// For each operation, whether it goes on from what was before.
    pub remembers: &'a [bool],
}

impl Program {
    /// Runs the operations on the stream `x` and the weights.
    /// Returns `x` at the end; weights that were written are left in `flow`.
    pub fn run<B: Backend>(
        &self,
        x: FloatTensor<B>,
        weights: Vec<FloatTensor<B>>,
        at: Run<'_>,
        flow: &mut Flow<B>,
    ) -> FloatTensor<B> {
        let device = &B::float_device(&x);
        let extent = Extent { batch: flow.batch, seq: flow.seq };
        let mut values = Values::<B>::new(self);
        values.start(std::iter::once(x).chain(weights));
        for (instruction, remembers) in self.instructions.iter().zip(at.remembers) {
            let inputs = instruction.inputs.iter().map(|slot| values.take(*slot)).collect();
            let site = Site { params: &instruction.params, extent };
            let shapes = &at.shapes[instruction.outputs.clone()];
            let call = Call { site, inputs, shapes, flow, remembers: *remembers, device };
            for (slot, value) in instruction.outputs.clone().zip(run(instruction.row, call)) {
                values.put(slot, value);
            }
        }
        for (weight, slot) in &self.rewrites {
            flow.rewrite(*weight, values.take(*slot));
        }
        values.take(self.stream)
    }
}

/// The values in the slots, each kept until it was read for the last time.
struct Values<B: Backend> {
    held: Vec<Option<FloatTensor<B>>>,
    reads: Vec<usize>,
}

impl<B: Backend> Values<B> {
    fn new(program: &Program) -> Self {
        let mut reads = vec![0; program.slots];
        let inputs = program.instructions.iter().flat_map(|instruction| &instruction.inputs);
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
        let value =
            if self.reads[slot] == 0 { self.held[slot].take() } else { self.held[slot].clone() };
        value.expect("planning has checked that values are written before they are read")
    }
}
