//! One or more cases for every row of the table, each with a naive form in 64 bits.

mod arrangements;
mod elements;
mod sequences;

use serde_json::Value as Json;

use super::numbers::Host;

type Naive = Box<dyn Fn(&[Host]) -> Vec<f64>>;

/// An operation on inputs, and what it should give: all outputs in a row.
pub struct Case {
    pub op: &'static str,
    pub params: Json,
    pub inputs: Vec<Host>,
    pub naive: Naive,
    /// How many of the inputs have a gradient.
    pub differentiable: usize,
}

fn case(
    op: &'static str,
    params: Json,
    inputs: Vec<Host>,
    naive: impl Fn(&[Host]) -> Vec<f64> + 'static,
) -> Case {
    let differentiable = inputs.len();
    Case { op, params, inputs, naive: Box::new(naive), differentiable }
}

pub fn all() -> Vec<Case> {
    [elements::all(), arrangements::all(), sequences::all()].into_iter().flatten().collect()
}
