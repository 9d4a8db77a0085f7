//! Tests of whole blocks and of every row of the table.

mod along;
mod blocks;
mod bounds;
mod cases;
mod errors;
mod golden;
mod numbers;
mod rows;
mod shapes;
mod warnings;

use serde_json::{Value as Json, json};

use super::Custom;
use crate::blocks::Builtin;
use crate::config::ConfigError;
use crate::plan::{Plan, Planned};

/// A model of width 16, 12 tokens in a row and 2 rows, with the given blocks.
pub fn config(blocks: Json) -> Json {
    json!({
        "name": "test", "model_dim": 16, "vocab_size": 37, "seq_len": 12,
        "blocks": blocks, "training": {"batch_tokens": 24},
    })
}

pub fn plan(blocks: Json) -> Result<Planned, ConfigError> {
    Plan::parse(&config(blocks).to_string(), "test.json", &[])
}

/// A `custom` block; each weight is `name: shape`, each operation `[op, inputs, outputs, params]`.
pub fn block(weights: &[(&str, Json)], ops: &[(&str, Json, Json, Json)]) -> Json {
    let weights: Vec<_> =
        weights.iter().map(|(name, shape)| json!({"name": name, "shape": shape})).collect();
    let ops = ops.iter().map(|(op, inputs, output, params)| {
        let key = if output.is_array() { "outputs" } else { "output" };
        json!({"op": op, "inputs": inputs, key: output, "params": params})
    });
    json!({"type": "custom", "name": "n", "weights": weights, "ops": ops.collect::<Vec<_>>()})
}

/// The first block of a plan.
pub fn first(planned: &Planned) -> &Custom {
    match &planned.plan.steps[0].block {
        Builtin::Custom(custom) => custom,
        other => panic!("{other:?}"),
    }
}
