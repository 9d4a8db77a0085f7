//! Tests of the whole: what programs look like, and how sessions live together.

mod modules;
mod ops;
mod programs;
#[cfg(feature = "cpu")]
mod reference;
mod sessions;

use std::collections::HashSet;

use burn_ir::{TensorIr, TensorStatus};

use super::{Origin, Program, ValueId};

/// Panics unless every value is made once and before it is read, and the operations inside of the
/// nodes say the same as the nodes.
fn check(program: &Program) {
    let leaves = program.inputs().iter().map(|port| port.value);
    let leaves = leaves.chain(program.parameters().iter().map(|parameter| parameter.value));
    let leaves = leaves.chain(program.constants().iter().map(|constant| constant.value));
    let mut made: HashSet<ValueId> = leaves.collect();
    for (place, node) in program.nodes().iter().enumerate() {
        let ids = |tensors: Vec<&TensorIr>| tensors.into_iter().map(ValueId::from).collect();
        let inputs: Vec<ValueId> = ids(node.operation.inputs().collect());
        let outputs: Vec<ValueId> = ids(node.operation.outputs().collect());
        assert_eq!((&inputs, &outputs), (&node.inputs, &node.outputs), "{node:?}");
        assert!(inputs.iter().all(|id| made.contains(id)), "{node:?}");
        assert!(node.operation.inputs().all(|t| t.status == TensorStatus::ReadOnly), "{node:?}");
        assert!(node.operation.outputs().all(|t| t.status == TensorStatus::NotInit), "{node:?}");
        for id in outputs {
            assert!(made.insert(id), "{node:?}");
            assert_eq!(program.value(id).origin, Origin::Node(place));
        }
    }
    assert!(program.outputs().iter().all(|port| made.contains(&port.value)));
    assert_eq!(made, (0..program.values().len()).map(ValueId).collect(), "numbers have gaps");
}

fn names(program: &Program) -> Vec<&str> {
    program.nodes().iter().map(|node| node.name.as_str()).collect()
}
