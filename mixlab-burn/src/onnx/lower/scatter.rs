//! Operations that take and put elements at places that are data.

use burn::tensor::{DType, IndexingUpdateOp};
use burn_ir::{GatherNdOpIr, ScatterNdOpIr, ScatterOpIr, SelectAssignOpIr, TensorIr, UnfoldOpIr};

use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{counted, lengths};
use super::{Lowered, Lowering};

impl Lowering<'_> {
    /// The windows along an axis, one of its own at the end for what is in them.
    pub(super) fn unfold(&mut self, op: &UnfoldOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        let (zero, count) = (Extent::fixed(0), self.extents(&op.out)[op.dim].clone());
        let first = counted(self.traced, self.graph, &zero, &count)?;
        let (step, last) = (self.graph.ints(&[op.step as i64]), self.graph.ints(&[-1]));
        let first = self.op("Mul", &[&first, &step]);
        let first = self.op("Unsqueeze", &[&first, &last]);
        let within = self.graph.ints(&(0..op.size as i64).collect::<Vec<_>>());
        let places = self.op("Add", &[&first, &within]);
        let axis = Attribute::Int("axis", op.dim as i64);
        let windows = self.graph.node("Gather", &[&x, &places], vec![axis]);
        let rank = op.input.shape.num_dims();
        let mut axes: Vec<usize> = (0..=rank).filter(|axis| *axis != op.dim + 1).collect();
        axes.push(op.dim + 1);
        Ok(self.transpose(&windows, &axes))
    }

    /// Whole slices along an axis, put at `indices`.
    pub(super) fn select_assign(&mut self, op: &SelectAssignOpIr) -> Lowered {
        let at = self.input(&op.indices)?;
        let mut column = vec![1; op.value.shape.num_dims()];
        column[op.dim] = -1;
        let column = self.graph.ints(&column);
        let at = self.op("Reshape", &[&at, &column]);
        let shape = self.extents(&op.value);
        let shape = lengths(self.traced, self.graph, &shape)?;
        let at = self.op("Expand", &[&at, &shape]);
        self.put([&op.tensor, &op.value], &at, Some(op.dim), op.update)
    }

    pub(super) fn scatter(&mut self, op: &ScatterOpIr) -> Lowered {
        let at = self.input(&op.indices)?;
        self.put([&op.tensor, &op.value], &at, Some(op.dim), op.update)
    }

    pub(super) fn scatter_nd(&mut self, op: &ScatterNdOpIr) -> Lowered {
        let at = self.long(&op.indices)?;
        self.put([&op.data, &op.values], &at, None, op.reduction)
    }

    pub(super) fn gather_nd(&mut self, op: &GatherNdOpIr) -> Lowered {
        let (x, at) = (self.input(&op.data)?, self.long(&op.indices)?);
        Ok(self.op("GatherND", &[&x, &at]))
    }

    /// Integers in 64 bits.
    fn long(&mut self, x: &TensorIr) -> Lowered {
        let name = self.input(x)?;
        if x.dtype == DType::I64 { Ok(name) } else { self.cast(&name, DType::I64) }
    }

    /// `x` with `value` put at the places `at`: along `axis`, or at whole places if there is none. The
    /// sum of booleans is whether one of them is true.
    fn put(
        &mut self,
        [x, value]: [&TensorIr; 2],
        at: &str,
        axis: Option<usize>,
        update: IndexingUpdateOp,
    ) -> Lowered {
        let dtype = x.dtype;
        let either = matches!(dtype, DType::Bool(_)) && update == IndexingUpdateOp::Add;
        let [mut x, mut value] = [self.input(x)?, self.input(value)?];
        if either {
            [x, value] = [self.cast(&x, DType::I32)?, self.cast(&value, DType::I32)?];
        }
        let reduction = match update {
            _ if either => "max",
            IndexingUpdateOp::Assign => "none",
            IndexingUpdateOp::Add => "add",
            IndexingUpdateOp::Mul => "mul",
            IndexingUpdateOp::Min => "min",
            IndexingUpdateOp::Max => "max",
        };
        let mut attributes = vec![Attribute::Text("reduction", reduction)];
        attributes.extend(axis.map(|axis| Attribute::Int("axis", axis as i64)));
        let op = if axis.is_some() { "ScatterElements" } else { "ScatterND" };
        let put = self.graph.node(op, &[&x, at, &value], attributes);
        if either { self.cast(&put, dtype) } else { Ok(put) }
    }
}
