//! What flows between the parts of a model.

use std::collections::BTreeSet;

use mixlab_ops::capture::{Node, Origin, Program};

use crate::model::Part;

/// A value that one part of a model makes and another reads. The residual stream is called `x`, as it
/// left the embedding `x0`. Only values with a name count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Where it is made.
    pub from: Part,
    /// Where it is read.
    pub to: Part,
    /// What the forward calls it.
    pub name: String,
}

/// All edges of the program of a model, by their ends and in the order in which values are made.
pub fn edges(program: &Program) -> Vec<Edge> {
    let part = |node: &Node| node.scope.map(Part::of);
    let mut found = BTreeSet::new();
    for node in program.nodes() {
        for &id in &node.inputs {
            let value = program.value(id);
            let (Origin::Node(maker), Some(name)) = (value.origin, &value.name) else { continue };
            if let (Some(from), Some(to)) = (part(&program.nodes()[maker]), part(node))
                && from != to
            {
                found.insert((from, to, id, name));
            }
        }
    }
    let edge = |(from, to, _, name): (_, _, _, &String)| Edge { from, to, name: name.clone() };
    found.into_iter().map(edge).collect()
}
