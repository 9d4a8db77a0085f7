//! Reductions, and what else goes along an axis.

use burn::tensor::DType;
use burn_ir::{NumericOperationIr, ReduceDimOpIr, ReduceDimWithIndicesOpIr, ReduceOpIr, TensorIr};
use mixlab_ops::capture::ValueId;

use super::super::OnnxError;
use super::super::graph::Attribute;
use super::shape::length;
use super::{Lowered, Lowering};

impl Lowering<'_> {
    pub(super) fn reduction(&mut self, op: &NumericOperationIr) -> Lowered {
        use NumericOperationIr as Op;
        match op {
            Op::SumDim(op) => self.along("ReduceSum", op),
            Op::MeanDim(op) => self.along("ReduceMean", op),
            Op::ProdDim(op) => self.along("ReduceProd", op),
            Op::MaxDim(op) => self.along("ReduceMax", op),
            Op::MinDim(op) => self.along("ReduceMin", op),
            Op::Sum(op) => self.whole("ReduceSum", op),
            Op::Mean(op) => self.whole("ReduceMean", op),
            Op::Prod(op) => self.whole("ReduceProd", op),
            Op::Max(op) => self.whole("ReduceMax", op),
            Op::Min(op) => self.whole("ReduceMin", op),
            Op::ArgMax(op) => self.argument("ArgMax", op),
            Op::ArgMin(op) => self.argument("ArgMin", op),
            Op::MaxDimWithIndices(op) => self.with_place("ReduceMax", "ArgMax", op),
            Op::MinDimWithIndices(op) => self.with_place("ReduceMin", "ArgMin", op),
            Op::MaxAbs(op) => {
                let x = self.size(&op.input)?;
                Ok(self.all("ReduceMax", &x))
            }
            Op::MaxAbsDim(op) => {
                let x = self.size(&op.input)?;
                Ok(self.reduced("ReduceMax", &x, &[op.axis as i64]))
            }
            Op::TopK(op) => Ok(self.top(op)?.0),
            Op::ArgTopK(op) => Ok(self.top(op)?.1),
            Op::CumProd(op) => self.cumulative("Mul", op),
            Op::CumMin(op) => self.cumulative("Min", op),
            Op::CumMax(op) => self.cumulative("Max", op),
            _ => Err(self.unsupported("no lowering is written for it")),
        }
    }

    fn along(&mut self, name: &str, op: &ReduceDimOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        if name == "ReduceSum" || op.out.shape[op.axis] == 1 {
            return Ok(self.reduced(name, &x, &[op.axis as i64]));
        }
        Err(self.unsupported("only reductions to one element are"))
    }

    /// The reduction of `x` over `axes`, which stay with length 1.
    pub(super) fn reduced(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        // With opset 18 axes are an input.
        let axes = self.graph.ints(axes);
        self.graph.node(name, &[x, &axes], vec![Attribute::Int("keepdims", 1)])
    }

    fn whole(&mut self, name: &str, op: &ReduceOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        Ok(self.all(name, &x))
    }

    /// The reduction of all of `x` to `[1]`.
    fn all(&mut self, name: &str, x: &str) -> String {
        let all = self.graph.node(name, &[x], vec![Attribute::Int("keepdims", 0)]);
        let shape = self.graph.ints(&[1]);
        self.op("Reshape", &[&all, &shape])
    }

    /// How large the elements of `x` are.
    fn size(&mut self, x: &TensorIr) -> Lowered {
        let x = self.input(x)?;
        Ok(self.op("Abs", &[&x]))
    }

    fn argument(&mut self, name: &str, op: &ReduceDimOpIr) -> Lowered {
        if op.out.shape[op.axis] != 1 {
            return Err(self.unsupported("only reductions to one element are"));
        }
        let x = self.input(&op.input)?;
        self.place(name, &x, op.axis, op.out.dtype)
    }

    /// Where along `axis` the element is that `name` tells.
    fn place(&mut self, name: &str, x: &str, axis: usize, dtype: DType) -> Lowered {
        let axis = vec![Attribute::Int("axis", axis as i64), Attribute::Int("keepdims", 1)];
        let at = self.graph.node(name, &[x], axis);
        self.places(at, dtype)
    }

    /// Places, which ONNX has as `i64`, as `dtype`.
    fn places(&mut self, at: String, dtype: DType) -> Lowered {
        if dtype == DType::I64 { Ok(at) } else { self.cast(&at, dtype) }
    }

    /// A reduction, and where the element is that it found.
    fn with_place(&mut self, value: &str, place: &str, op: &ReduceDimWithIndicesOpIr) -> Lowered {
        let x = self.input(&op.tensor)?;
        let at = self.place(place, &x, op.dim, op.out_indices.dtype)?;
        self.names[ValueId::from(&op.out_indices).index()] = Some(at);
        Ok(self.reduced(value, &x, &[op.dim as i64]))
    }

    /// The largest elements along an axis, from the largest on, and where they are.
    fn top(&mut self, op: &ReduceDimOpIr) -> Result<(String, String), OnnxError> {
        let count = self.extents(&op.out)[op.axis].clone();
        let (x, count) = (self.input(&op.input)?, length(self.traced, self.graph, &count)?);
        let axis = vec![Attribute::Int("axis", op.axis as i64)];
        let [values, at] =
            self.graph.outputs("TopK", &[&x, &count], axis, 2).try_into().expect("two");
        let at = if op.out.dtype == op.input.dtype { at } else { self.places(at, op.out.dtype)? };
        Ok((values, at))
    }
}
