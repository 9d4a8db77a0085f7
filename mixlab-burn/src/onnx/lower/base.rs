//! Operations that move elements.

use burn::tensor::{Slice, TensorData};
use burn_ir::{BaseOperationIr, OperationIr, SliceAssignOpIr, SliceOpIr, TensorIr};
use mixlab_ops::capture::Node;

use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{length, lengths, position, reshape};
use super::{Lowered, Site};

impl Site<'_> {
    pub(super) fn base(&mut self, op: &BaseOperationIr) -> Lowered {
        use BaseOperationIr as Op;
        match op {
            Op::Reshape(op) => {
                let x = self.input(&op.input)?;
                self.reshape(&x, &op.input, &op.out)
            }
            Op::SwapDims(op) => {
                let mut axes: Vec<usize> = (0..op.input.shape.num_dims()).collect();
                axes.swap(op.dim1, op.dim2);
                let x = self.input(&op.input)?;
                Ok(self.transpose(&x, &axes))
            }
            Op::Permute(op) => {
                let x = self.input(&op.input)?;
                Ok(self.transpose(&x, &op.axes))
            }
            Op::Expand(op) => {
                let (x, to) = (self.input(&op.input)?, self.extents(&op.out));
                let shape = lengths(self.traced, self.graph, &to)?;
                Ok(self.op("Expand", &[&x, &shape]))
            }
            Op::Flip(op) => self.flip(&op.input, &op.axes),
            Op::Slice(op) => self.slice(op),
            Op::SliceAssign(op) => self.slice_assign(op),
            Op::Select(op) => {
                let (x, at) = (self.input(&op.tensor)?, self.input(&op.indices)?);
                Ok(self.graph.node(
                    "Gather",
                    &[&x, &at],
                    vec![Attribute::Int("axis", op.dim as i64)],
                ))
            }
            Op::Gather(op) => {
                let (x, at) = (self.input(&op.tensor)?, self.input(&op.indices)?);
                let axis = vec![Attribute::Int("axis", op.dim as i64)];
                Ok(self.graph.node("GatherElements", &[&x, &at], axis))
            }
            Op::MaskWhere(op) => {
                let (mask, x) = (self.input(&op.mask)?, self.input(&op.tensor)?);
                let value = self.input(&op.value)?;
                Ok(self.op("Where", &[&mask, &value, &x]))
            }
            Op::MaskFill(op) => {
                let (mask, x) = (self.input(&op.mask)?, self.input(&op.tensor)?);
                let value = self.number(0, op.tensor.dtype)?;
                Ok(self.op("Where", &[&mask, &value, &x]))
            }
            Op::Equal(op) => self.binary("Equal", op),
            Op::EqualElem(op) => self.with_number("Equal", op),
            Op::RepeatDim(op) => self.repeat(&op.tensor, &op.out, op.dim),
            Op::Cat(op) => {
                let parts =
                    op.tensors.iter().map(|x| self.input(x)).collect::<Result<Vec<_>, _>>()?;
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                Ok(self.graph.node("Concat", &parts, vec![Attribute::Int("axis", op.dim as i64)]))
            }
            Op::Cast(op) => {
                let x = self.input(&op.input)?;
                if op.input.dtype == op.out.dtype { Ok(x) } else { self.cast(&x, op.out.dtype) }
            }
            Op::Zeros(op) | Op::Empty(op) => self.filled(&op.out, 0.0),
            Op::Ones(op) => self.filled(&op.out, 1.0),
            Op::Unfold(op) => self.unfold(op),
            Op::SelectAssign(op) => self.select_assign(op),
            Op::Scatter(op) => self.scatter(op),
            Op::ScatterNd(op) => self.scatter_nd(op),
            Op::GatherNd(op) => self.gather_nd(op),
        }
    }

    /// `x`, the value `from`, in the shape of `to`.
    pub(super) fn reshape(&mut self, x: &str, from: &TensorIr, to: &TensorIr) -> Lowered {
        let [from, to] = [from, to].map(|tensor| self.extents(tensor));
        let shape = reshape(self.traced, self.graph, &from, &to)?;
        Ok(self.op("Reshape", &[x, &shape]))
    }

    /// A tensor like `out` whose elements are all `value`.
    pub(super) fn filled(&mut self, out: &TensorIr, value: f64) -> Lowered {
        let shape = lengths(self.traced, self.graph, self.traced.extents(out.into()))?;
        let value = TensorData::new(vec![value], [1]).convert_dtype(out.dtype);
        let value = super::super::graph::tensor_proto("", &value);
        let value = vec![Attribute::Tensor("value", value)];
        Ok(self.graph.node("ConstantOfShape", &[&shape], value))
    }

    fn flip(&mut self, input: &TensorIr, axes: &[usize]) -> Lowered {
        let x = self.input(input)?;
        let all = |value: i64| vec![value; axes.len()];
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        let numbers = [all(-1), all(i64::MIN), axes.clone(), all(-1)];
        let numbers = numbers.map(|values| self.graph.ints(&values));
        let [start, end, axes, step] = numbers.each_ref().map(String::as_str);
        Ok(self.op("Slice", &[&x, start, end, axes, step]))
    }

    fn repeat(&mut self, input: &TensorIr, out: &TensorIr, dim: usize) -> Lowered {
        let x = self.input(input)?;
        let times = self.extent("the number of repetitions", |node| match &node.operation {
            OperationIr::BaseFloat(BaseOperationIr::RepeatDim(op))
            | OperationIr::BaseInt(BaseOperationIr::RepeatDim(op))
            | OperationIr::BaseBool(BaseOperationIr::RepeatDim(op)) => op.times as i64,
            _ => unreachable!("all captures have the same operations"),
        })?;
        let one = self.traced.basis.fixed(1);
        let rank = out.shape.num_dims();
        let times: Vec<_> =
            (0..rank).map(|axis| if axis == dim { times.clone() } else { one.clone() }).collect();
        let times = lengths(self.traced, self.graph, &times)?;
        Ok(self.op("Tile", &[&x, &times]))
    }

    fn slice(&mut self, op: &SliceOpIr) -> Lowered {
        let x = self.input(&op.tensor)?;
        let whole = self.extents(&op.tensor);
        let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
        for (axis, length) in whole.iter().enumerate().take(op.ranges.len()) {
            let [start, end, step] = [
                self.extent("the start", |node| bounds(node, axis)[0])?,
                self.extent("the end", |node| bounds(node, axis)[1])?,
                self.extent("the step", |node| bounds(node, axis)[2])?,
            ];
            if start.constant() == Some(0) && end == *length && step.constant() == Some(1) {
                continue;
            }
            let step = match step.constant() {
                Some(step) if step != 0 => step,
                _ => return Err(self.unsupported("only steps of a fixed size are")),
            };
            // Back from the last to the first, and to before the first of all.
            let back = |at: &Extent| at.minus(&self.traced.basis.fixed(1));
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

    /// Along the first axis where the new part is not the whole: what is before it, it, what is after.
    /// Where there is another such axis, the same happens within the part.
    fn slice_assign(&mut self, op: &SliceAssignOpIr) -> Lowered {
        let (x, value) = (self.input(&op.tensor)?, self.input(&op.value)?);
        let mut partial = Vec::new();
        for (axis, length) in self.extents(&op.tensor).into_iter().enumerate().take(op.ranges.len())
        {
            let start = self.extent("the start", |node| bounds(node, axis)[0])?;
            let end = self.extent("the end", |node| bounds(node, axis)[1])?;
            if op.ranges[axis].step != 1 {
                return Err(self.unsupported("only assignments without steps are"));
            }
            if start.constant() != Some(0) || end != length {
                partial.push(Part { axis, start, end, length });
            }
        }
        self.assigned(&x, value, &partial)
    }

    /// `x` with `value` at `parts`.
    fn assigned(&mut self, x: &str, value: String, parts: &[Part]) -> Lowered {
        let [Part { axis, start, end, length: whole }, rest @ ..] = parts else { return Ok(value) };
        let axes = self.graph.ints(&[*axis as i64]);
        let at_start = length(self.traced, self.graph, start)?;
        let at_end = length(self.traced, self.graph, end)?;
        let slice = |site: &mut Self, from: &str, to: &str| site.op("Slice", &[x, from, to, &axes]);
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
}

/// A part of an axis that is assigned to.
struct Part {
    axis: usize,
    start: Extent,
    end: Extent,
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
