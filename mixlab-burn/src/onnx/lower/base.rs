//! Operations that move elements.

use burn::tensor::TensorData;
use burn_ir::{BaseOperationIr, OperationIr, TensorIr};

use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{lengths, reshape};
use super::{Lowered, Lowering};

impl Lowering<'_> {
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
        let one = Extent::fixed(1);
        let rank = out.shape.num_dims();
        let times: Vec<_> =
            (0..rank).map(|axis| if axis == dim { times.clone() } else { one.clone() }).collect();
        let times = lengths(self.traced, self.graph, &times)?;
        Ok(self.op("Tile", &[&x, &times]))
    }
}
