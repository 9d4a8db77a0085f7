//! Blocks in a test: planned from JSON, with weights by rule, applied to a few numbers.

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;

use super::{Block, Flow};
use crate::config::{ConfigError, Problem};
use crate::plan::{Plan, Planned};
use crate::weights::{fill, layout};

/// Plans the comma-separated `blocks` in a model of width 8.
pub fn planned<K: Block>(blocks: &str) -> Result<Planned<K>, ConfigError> {
    let json = format!(r#"{{"model_dim": 8, "vocab_size": 11, "blocks": [{blocks}]}}"#);
    Plan::parse(&json, "test.json", &[])
}

/// Plans one block.
pub fn plan<K: Block>(block: &str) -> Result<K, ConfigError> {
    planned::<K>(block).map(|planned| planned.plan.steps[0].block.clone())
}

fn line(problem: &Problem) -> String {
    format!("{}: {}", problem.path, problem.message)
}

/// The errors of a config with these `blocks`; panics if there are none.
pub fn errors<K: Block>(blocks: &str) -> Vec<String> {
    planned::<K>(blocks).unwrap_err().problems().map(line).collect()
}

/// The warnings of a valid config with these `blocks`.
pub fn warnings<K: Block>(blocks: &str) -> Vec<String> {
    planned::<K>(blocks).unwrap().warnings.iter().map(|w| line(&w.problem)).collect()
}

/// Names and shapes of the weights of `block`, in order.
pub fn layout_of(block: &impl Block) -> String {
    let weights = layout(&block.init::<Flex>(&Default::default()));
    let each = weights.iter().map(|weight| format!("{} {:?}", weight.name, weight.shape));
    each.collect::<Vec<_>>().join(", ")
}

/// The output of `block` for a batch of rows of tokens, with every element of a weight at
/// `weight(name)`.
pub fn apply<const D: usize>(
    block: &impl Block,
    rows: &[Vec<[f32; D]>],
    weight: impl Fn(&str) -> f32,
) -> Vec<Vec<[f32; D]>> {
    apply_with(block, rows, |name, _| weight(name))
}

/// As [`apply`], with element `i` of a weight at `weight(name, i)`.
pub fn apply_with<const D: usize>(
    block: &impl Block,
    rows: &[Vec<[f32; D]>],
    weight: impl Fn(&str, usize) -> f32,
) -> Vec<Vec<[f32; D]>> {
    let device = Default::default();
    let weights = fill(block.init::<Flex>(&device), |_, w| {
        Some((0..w.len()).map(|i| weight(&w.name, i)).collect())
    });
    let (batch, seq) = (rows.len(), rows[0].len());
    let x = TensorData::new(rows.concat().concat(), [batch * seq, D]);
    let mut flow = Flow::new(batch, seq);
    let y = block.forward(&weights, Tensor::from_data(x, &device), &mut flow);
    let y = y.into_data().to_vec::<f32>().unwrap();
    y.as_chunks().0.chunks(seq).map(<[_]>::to_vec).collect()
}
