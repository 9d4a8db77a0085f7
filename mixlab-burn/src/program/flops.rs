//! Floating-point operations of a node: two for each multiply-add of a matrix product, none for
//! element-wise work.

use mixlab_ops::capture::{Node, Program, ValueId};

/// Operations that `node` takes.
///
/// Attention counts its two products in full, masked half included, as is customary.
pub fn node_flops(program: &Program, node: &Node) -> u64 {
    let dims = |id: ValueId| program.value(id).shape.to_vec();
    let elements = |id: ValueId| program.value(id).shape.num_elements() as u64;
    let Some(&output) = node.outputs.first() else { return 0 };
    match node.name.as_str() {
        "matmul" | "linear" | "mixlab.linear" => {
            let inner = dims(node.inputs[0]).last().copied().unwrap_or(0) as u64;
            2 * inner * elements(output)
        }
        "mixlab.attention" | "mixlab.retention" => {
            let keys = dims(node.inputs[1])[2] as u64;
            4 * keys * elements(output)
        }
        _ => 0,
    }
}
