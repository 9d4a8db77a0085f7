//! Slices, and assignments to them.

use burn::tensor::Slice;
use burn_ir::{BaseOperationIr, OperationIr, SliceAssignOpIr, SliceOpIr};
use mixlab_ops::capture::Node;

use super::super::OnnxError;
use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{counted, length, position};
use super::{Lowered, Lowering};

impl Lowering<'_> {
    pub(super) fn slice(&mut self, op: &SliceOpIr) -> Lowered {
        let x = self.input(&op.tensor)?;
        let whole = self.extents(&op.tensor);
        let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
        for (axis, length) in whole.iter().enumerate().take(op.ranges.len()) {
            let Part { start, end, step, .. } = self.part_along(axis, length)?;
            if start.constant() == Some(0) && end == *length && step == 1 {
                continue;
            }
            // Back from the last to the first, and to before the first of all.
            let back = |at: &Extent| at.minus(&Extent::fixed(1));
            let [from, to] = if step > 0 { [start, end] } else { [back(&end), back(&start)] };
            starts.push(position(self.traced, self.graph, &from, length)?);
            ends.push(match to.constant() {
                Some(..0) => self.graph.ints(&[i64::MIN]),
                _ => position(self.traced, self.graph, &to, length)?,
            });
            axes.push(axis as i64);
            steps.push(step);
        }
        if axes.is_empty() {
            return Ok(x);
        }
        let [starts, ends] = [starts, ends].map(|parts| self.joined(parts));
        let [axes, steps] = [axes, steps].map(|values| self.graph.ints(&values));
        Ok(self.op("Slice", &[&x, &starts, &ends, &axes, &steps]))
    }

    /// Tensors `[1]` as one.
    fn joined(&mut self, parts: Vec<String>) -> String {
        match parts.as_slice() {
            [one] => one.clone(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.graph.node("Concat", &parts, vec![Attribute::Int("axis", 0)])
            }
        }
    }

    /// What is taken or assigned along `axis`, which has this `length`.
    fn part_along(&self, axis: usize, length: &Extent) -> Result<Part, OnnxError> {
        let start = self.extent("the start", |node| bounds(node, axis)[0])?;
        let end = self.extent("the end", |node| bounds(node, axis)[1])?;
        let step = self.extent("the step", |node| bounds(node, axis)[2])?.constant();
        let step = step.ok_or_else(|| self.unsupported("only steps of a fixed size are"))?;
        Ok(Part { axis, start, end, step, length: length.clone() })
    }

    /// Along the first axis where the new part is not the whole: what is before it, it, what is after.
    /// Where there is another such axis, the same happens within the part.
    pub(super) fn slice_assign(&mut self, op: &SliceAssignOpIr) -> Lowered {
        let (x, value) = (self.input(&op.tensor)?, self.input(&op.value)?);
        let mut partial = Vec::new();
        let lengths = self.extents(&op.tensor);
        for (axis, length) in lengths.iter().enumerate().take(op.ranges.len()) {
            let part = self.part_along(axis, length)?;
            if part.start.constant() != Some(0) || part.end != *length || part.step != 1 {
                let count = self.extents(&op.value)[axis].clone();
                partial.push((part, count));
            }
        }
        self.assigned(&x, value, &partial)
    }

    /// `x` with `value` at `parts`, of which each has so many places.
    fn assigned(&mut self, x: &str, value: String, parts: &[(Part, Extent)]) -> Lowered {
        let [(Part { axis, start, end, step, length: whole }, count), rest @ ..] = parts else {
            return Ok(value);
        };
        if *step != 1 {
            let first = if *step > 0 { start.clone() } else { end.minus(&self.fixed(1)) };
            return self.assigned_in_steps(x, value, (*axis, first, *step, count), rest);
        }
        let axes = self.graph.ints(&[*axis as i64]);
        let at_start = length(self.traced, self.graph, start)?;
        let at_end = length(self.traced, self.graph, end)?;
        let slice =
            |lowering: &mut Self, from: &str, to: &str| lowering.op("Slice", &[x, from, to, &axes]);
        let mut joined = Vec::new();
        if start.constant() != Some(0) {
            let zero = self.graph.ints(&[0]);
            joined.push(slice(self, &zero, &at_start));
        }
        if rest.is_empty() {
            joined.push(value);
        } else {
            let part = slice(self, &at_start, &at_end);
            joined.push(self.assigned(&part, value, rest)?);
        }
        if end != whole {
            let last = self.graph.ints(&[i64::MAX]);
            joined.push(slice(self, &at_end, &last));
        }
        let joined: Vec<&str> = joined.iter().map(String::as_str).collect();
        Ok(self.graph.node("Concat", &joined, vec![Attribute::Int("axis", *axis as i64)]))
    }

    /// `x` with `value` at every `step`-th place of an axis, so many from the first on; within these
    /// slices at `rest`.
    fn assigned_in_steps(
        &mut self,
        x: &str,
        value: String,
        (axis, first, step, count): (usize, Extent, i64, &Extent),
        rest: &[(Part, Extent)],
    ) -> Lowered {
        let places = counted(self.traced, self.graph, &self.fixed(0), count)?;
        let (step, first) = (self.graph.ints(&[step]), length(self.traced, self.graph, &first)?);
        let places = self.op("Mul", &[&places, &step]);
        let places = self.op("Add", &[&places, &first]);
        let along = || vec![Attribute::Int("axis", axis as i64)];
        let value = if rest.is_empty() {
            value
        } else {
            let part = self.graph.node("Gather", &[x, &places], along());
            self.assigned(&part, value, rest)?
        };
        let node = self.node().operation.outputs().next().expect("an assignment has a result");
        let mut column = vec![1; node.shape.num_dims()];
        column[axis] = -1;
        let (column, shape) = (self.graph.ints(&column), self.op("Shape", &[&value]));
        let places = self.op("Reshape", &[&places, &column]);
        let places = self.op("Expand", &[&places, &shape]);
        Ok(self.graph.node("ScatterElements", &[x, &places, &value], along()))
    }

    fn fixed(&self, value: i64) -> Extent {
        Extent::fixed(value)
    }
}

/// A part of an axis.
struct Part {
    axis: usize,
    start: Extent,
    end: Extent,
    step: i64,
    /// Of the axis.
    length: Extent,
}

/// Start, end and step of the slice along `axis` of a slice or an assignment to one.
fn bounds(node: &Node, axis: usize) -> [i64; 3] {
    let (OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op)) =
        &node.operation
    else {
        unreachable!("all captures have the same operations")
    };
    let (slice, length): (&Slice, usize) = match op {
        BaseOperationIr::Slice(op) => (&op.ranges[axis], op.tensor.shape[axis]),
        BaseOperationIr::SliceAssign(op) => (&op.ranges[axis], op.tensor.shape[axis]),
        _ => unreachable!("all captures have the same operations"),
    };
    let length = length as i64;
    let from_front = |at: isize| if at < 0 { at as i64 + length } else { at as i64 };
    let end = slice.end.map_or(length, from_front);
    [from_front(slice.start), end.min(length), slice.step as i64]
}
