//! Where an operation is, for people who must find it in their module.

use std::collections::{HashSet, VecDeque};

use mixlab_ops::capture::{Node, Origin, Program, ValueId};

use crate::model::Part;

/// The part of the model that `node` belongs to, and the weight that it follows most closely: through
/// its path a module is found that has no numbered parts.
pub(super) fn place(program: &Program, node: &Node) -> String {
    let part = match node.scope.map(Part::of) {
        None => "the forward".into(),
        Some(Part::Embedding) => "the embedding".into(),
        Some(Part::Head) => "the head".into(),
        Some(Part::Block(index)) => format!("blocks[{index}]"),
    };
    match weight_before(program, node) {
        Some(path) => format!("{part}, after the weight `{path}`,"),
        None => part,
    }
}

/// What `node` reads and makes, as ` of f32[2, 3] to f32[2]`.
pub(super) fn shapes(program: &Program, node: &Node) -> String {
    let list = |ids: &[ValueId]| {
        let all: Vec<String> = ids.iter().map(|id| program.value(*id).to_string()).collect();
        all.join(", ")
    };
    format!(" of {} to {}", list(&node.inputs), list(&node.outputs))
}

/// The first operations by which two programs differ, as people find them.
pub(super) fn difference(one: &Program, other: &Program) -> [String; 2] {
    let kind = |node: &Node| (node.name.clone(), node.scope);
    let pairs = || one.nodes().iter().zip(other.nodes());
    let differing = pairs().position(|(a, b)| kind(a) != kind(b));
    // The same operations, of other values.
    let rewired = || pairs().position(|(a, b)| a.inputs != b.inputs || a.outputs != b.outputs);
    let shorter = one.nodes().len().min(other.nodes().len());
    let same_length = one.nodes().len() == other.nodes().len();
    let at = differing.or_else(|| rewired().filter(|_| same_length)).unwrap_or(shorter);
    [one, other].map(|program| match program.nodes().get(at) {
        Some(node) => {
            format!("`{}`{} in {}", node.name, shapes(program, node), place(program, node))
        }
        None => "nothing more".into(),
    })
}

/// The path of the parameter that reaches `node` through the fewest operations.
fn weight_before<'a>(program: &'a Program, node: &Node) -> Option<&'a str> {
    let mut waiting: VecDeque<ValueId> = node.inputs.iter().copied().collect();
    let mut seen: HashSet<ValueId> = HashSet::new();
    while let Some(id) = waiting.pop_front() {
        match program.value(id).origin {
            Origin::Parameter(index) => return Some(&program.parameters()[index].paths[0]),
            Origin::Node(index) if seen.insert(id) => {
                waiting.extend(&program.nodes()[index].inputs)
            }
            _ => {}
        }
    }
    None
}
