//! What a node costs. Floating-point operations: two for each multiply-add of a product, none for
//! element-wise work. Bytes: what it reads and what it writes, each once.

use burn_ir::{FloatOperationIr, ModuleOperationIr, OperationIr, TensorIr};

use super::ledger::view;
use super::{CaptureError, Node, Origin, Program, ValueId};

impl Program {
    /// Floating-point operations of the products in `node`.
    ///
    /// An op has those of its reference: nobody states them a second time. So attention has its two
    /// products in full, the masked half included, as is customary.
    ///
    /// # Errors
    /// As [`Program::expanded`].
    pub fn flops(&self, node: &Node) -> Result<u64, CaptureError> {
        let Some(own) = &node.own else { return Ok(products(&node.operation)) };
        let reference = self.reference(node, own)?.without_dead_nodes();
        Ok(reference.nodes.iter().map(|node| products(&node.operation)).sum())
    }
}

impl Program {
    /// Bytes that `node` must move: each input and each output once; none for a view, which moves
    /// nothing. An input that is a view counts as what it looks at, where that is smaller.
    ///
    /// A lower bound of what a kernel moves, and for an op of several kernels a low one.
    pub fn bytes(&self, node: &Node) -> u64 {
        if view(&node.operation).is_some() {
            return 0;
        }
        let mut inputs = node.inputs.clone();
        inputs.sort();
        inputs.dedup();
        let ids = inputs.iter().chain(&node.outputs);
        ids.fold(0, |sum, id| sum.saturating_add(self.seen(*id)))
    }

    /// Bytes of `id`, or of what it is a view of.
    fn seen(&self, mut id: ValueId) -> u64 {
        let mut least = u64::MAX;
        loop {
            let value = self.value(id);
            let elements = value.shape.iter().fold(1u64, |n, axis| n.saturating_mul(*axis as u64));
            least = least.min(elements.saturating_mul(value.dtype.size() as u64));
            match value.origin {
                Origin::Node(place) if view(&self.nodes[place].operation).is_some() => {
                    id = self.nodes[place].inputs[0];
                }
                _ => return least,
            }
        }
    }
}

/// Operations of one of Burn's products; 0 for whatever is none.
fn products(operation: &OperationIr) -> u64 {
    match operation {
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => contraction(&op.lhs, &op.out),
        OperationIr::Module(op) => match op {
            ModuleOperationIr::Linear(op) => contraction(&op.x, &op.out),
            ModuleOperationIr::Conv1d(op) => convolution(&op.weight, &op.out),
            ModuleOperationIr::Conv2d(op) => convolution(&op.weight, &op.out),
            ModuleOperationIr::Conv3d(op) => convolution(&op.weight, &op.out),
            ModuleOperationIr::Attention(op) => {
                // Scores [.., Tq, Tk] sum over the width of a key, results over all keys.
                let keys = op.key.shape[op.key.shape.num_dims() - 2] as u64;
                2 * keys * (elements(&op.query) + elements(&op.out))
            }
            _ => 0,
        },
        _ => 0,
    }
}

/// Each element of `out` sums over the last axis of `x`.
fn contraction(x: &TensorIr, out: &TensorIr) -> u64 {
    2 * x.shape[x.shape.num_dims() - 1] as u64 * elements(out)
}

/// Each element of `out` sums over all of `weight` `[channels, …]` that makes its channel.
fn convolution(weight: &TensorIr, out: &TensorIr) -> u64 {
    let channels = weight.shape[0].max(1) as u64;
    2 * elements(weight) / channels * elements(out)
}

fn elements(tensor: &TensorIr) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}
