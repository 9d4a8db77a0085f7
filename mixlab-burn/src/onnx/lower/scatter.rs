//! Operations that take and put elements at places that are data.

use burn::tensor::{DType, IndexingUpdateOp};
use burn_ir::{GatherNdOpIr, ScatterNdOpIr, ScatterOpIr, SelectAssignOpIr, TensorIr, UnfoldOpIr};

use super::super::OnnxError;
use super::super::graph::Attribute;
use super::shape::{counted, lengths};
use super::{Lowered, Site};

impl Site<'_> {
    /// The windows along an axis, one of its own at the end for what is in them.
    pub(super) fn unfold(&mut self, op: &UnfoldOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        let (zero, count) = (self.traced.basis.fixed(0), self.extents(&op.out)[op.dim].clone());
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
        let reduction = self.update(op.update, op.tensor.dtype)?;
        let (x, at, value) =
            (self.input(&op.tensor)?, self.input(&op.indices)?, self.input(&op.value)?);
        let mut column = vec![1; op.value.shape.num_dims()];
        column[op.dim] = -1;
        let column = self.graph.ints(&column);
        let at = self.op("Reshape", &[&at, &column]);
        let shape = self.extents(&op.value);
        let shape = lengths(self.traced, self.graph, &shape)?;
        let at = self.op("Expand", &[&at, &shape]);
        let axis = Attribute::Int("axis", op.dim as i64);
        Ok(self.graph.node("ScatterElements", &[&x, &at, &value], vec![axis, reduction]))
    }

    pub(super) fn scatter(&mut self, op: &ScatterOpIr) -> Lowered {
        let reduction = self.update(op.update, op.tensor.dtype)?;
        let (x, at, value) =
            (self.input(&op.tensor)?, self.input(&op.indices)?, self.input(&op.value)?);
        let axis = Attribute::Int("axis", op.dim as i64);
        Ok(self.graph.node("ScatterElements", &[&x, &at, &value], vec![axis, reduction]))
    }

    pub(super) fn scatter_nd(&mut self, op: &ScatterNdOpIr) -> Lowered {
        let reduction = self.update(op.reduction, op.data.dtype)?;
        let (x, value) = (self.input(&op.data)?, self.input(&op.values)?);
        let at = self.long(&op.indices)?;
        Ok(self.graph.node("ScatterND", &[&x, &at, &value], vec![reduction]))
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

    /// What becomes of an element that is there already.
    fn update(&self, op: IndexingUpdateOp, dtype: DType) -> Result<Attribute, OnnxError> {
        let name = match op {
            IndexingUpdateOp::Assign => "none",
            _ if matches!(dtype, DType::Bool(_)) => {
                return Err(self.unsupported("booleans can only be replaced"));
            }
            IndexingUpdateOp::Add => "add",
            IndexingUpdateOp::Mul => "mul",
            IndexingUpdateOp::Min => "min",
            IndexingUpdateOp::Max => "max",
        };
        Ok(Attribute::Text("reduction", name))
    }
}
