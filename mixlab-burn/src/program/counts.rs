//! What a model costs: weights, operations and FLOPs, whole and by part.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mixlab_ops::capture::{Capture, CaptureError, Node, Program, ValueId};

use super::describe;
use crate::blocks::Block;
use crate::model::Part;
use crate::plan::Plan;
use crate::weights::{Weight, layout};

/// Sizes and costs of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Distinct weights.
    pub weights: usize,
    /// Their elements.
    pub parameters: usize,
    /// Elements if every block had its own weights.
    pub expanded: usize,
    /// Executed blocks.
    pub blocks: usize,
    /// Operations of a forward pass.
    pub ops: usize,
    /// Floating-point operations of the matrix products of a forward pass over one batch.
    pub forward_flops: u64,
    /// Tokens of that batch.
    pub tokens: usize,
    /// The same by part, in the order of execution; what no part has comes first.
    pub parts: Vec<Cost>,
}

/// What one part of a model costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The part; none for weights that no operation reads.
    pub part: Option<Part>,
    /// Elements of the weights that it is the first to read.
    pub parameters: usize,
    /// Its operations in a forward pass.
    pub ops: usize,
    /// Floating-point operations of its matrix products.
    pub flops: u64,
}

impl Counts {
    /// Counts a plan's model at its training batch.
    ///
    /// # Errors
    /// As [`describe`].
    pub fn of<K: Block>(plan: &Arc<Plan<K>>) -> Result<Self, CaptureError> {
        let program = describe(plan, [plan.batch(), plan.seq_len])?;
        let parts = parts(&program)?;
        let shared = plan.steps.iter().enumerate().filter(|(i, step)| step.owner != *i);
        let repeated = shared.map(|(_, step)| {
            let weights = layout(&step.block.init::<Capture>(&Default::default()));
            weights.iter().map(Weight::len).sum::<usize>()
        });
        let parameters = parts.iter().map(|part| part.parameters).sum();
        Ok(Self {
            weights: program.parameters().len(),
            parameters,
            expanded: parameters + repeated.sum::<usize>(),
            blocks: plan.steps.len(),
            ops: program.nodes().len(),
            forward_flops: parts.iter().fold(0, |sum, part| sum.saturating_add(part.flops)),
            tokens: plan.training.batch_tokens,
            parts,
        })
    }

    /// Operations of a training step: a backward pass has two products for each of the forward.
    pub fn training_flops(&self) -> u64 {
        self.forward_flops.saturating_mul(3)
    }

    /// Operations of a training step for each token.
    pub fn flops_per_token(&self) -> u64 {
        self.training_flops() / self.tokens as u64
    }
}

/// FLOPs of the ops that a program has met: blocks repeat, and each look takes an op apart.
#[derive(Default)]
pub(super) struct Known(HashMap<(String, String, String), u64>);

impl Known {
    pub(super) fn flops(&mut self, program: &Program, node: &Node) -> Result<u64, CaptureError> {
        if node.own.is_none() {
            return program.flops(node);
        }
        let values = node.inputs.iter().chain(&node.outputs).map(|id| program.value(*id));
        let shapes: Vec<_> = values.map(|value| (&value.shape, value.dtype)).collect();
        let key = (node.name.clone(), node.attributes.clone(), format!("{shapes:?}"));
        if let Some(flops) = self.0.get(&key) {
            return Ok(*flops);
        }
        let flops = program.flops(node)?;
        self.0.insert(key, flops);
        Ok(flops)
    }
}

/// Nodes and parameters of `program` by the part that they belong to.
fn parts(program: &Program) -> Result<Vec<Cost>, CaptureError> {
    let mut known = Known::default();
    let mut costs: BTreeMap<Option<Part>, Cost> = BTreeMap::new();
    let mut readers: HashMap<ValueId, Option<Part>> = HashMap::new();
    for node in program.nodes() {
        let part = node.scope.map(Part::of);
        let cost = costs.entry(part).or_insert_with(|| Cost { part, ..Cost::default() });
        cost.ops += 1;
        cost.flops = cost.flops.saturating_add(known.flops(program, node)?);
        for id in &node.inputs {
            readers.entry(*id).or_insert(part);
        }
    }
    for parameter in program.parameters() {
        let part = readers.get(&parameter.value).copied().flatten();
        let cost = costs.entry(part).or_insert_with(|| Cost { part, ..Cost::default() });
        cost.parameters += program.value(parameter.value).shape.num_elements();
    }
    Ok(costs.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Builtin;

    fn counts(blocks: &str, more: &str) -> Counts {
        let json = format!(
            r#"{{"model_dim": 8, "vocab_size": 9, "seq_len": 4, {more} "blocks": [{blocks}],
            "training": {{"batch_tokens": 8}}}}"#
        );
        let plan = Plan::<Builtin>::parse(&json, "c", &[]).unwrap().plan;
        Counts::of(&Arc::new(plan)).unwrap()
    }

    fn check(counts: &Counts) {
        let sum = |of: fn(&Cost) -> u64| counts.parts.iter().map(of).sum::<u64>();
        assert_eq!(sum(|part| part.ops as u64), counts.ops as u64);
        assert_eq!(sum(|part| part.flops), counts.forward_flops);
        assert_eq!(sum(|part| part.parameters as u64), counts.parameters as u64);
    }

    const PLAIN: &str = r#"{"type": "plain", "heads": 2}"#;

    #[test]
    fn parts_add_up_and_shared_weights_count_once() {
        let counts = counts(&[PLAIN; 2].join(","), r#""recurrence": [0, 0],"#);
        check(&counts);
        let [embedding, first, second, head] = &counts.parts[..] else { panic!("{counts:?}") };
        let parts = [Part::Embedding, Part::Block(0), Part::Block(1), Part::Head].map(Some);
        assert_eq!([embedding, first, second, head].map(|cost| cost.part), parts);
        assert_eq!([embedding.parameters, head.parameters], [72, 80]);
        assert_eq!((second.parameters, second.ops), (0, first.ops));
        assert_eq!((second.flops, head.flops), (first.flops, 2 * 8 * 8 * 9));
        assert_eq!(first.parameters, counts.expanded - counts.parameters);
    }

    #[test]
    fn weights_that_no_operation_reads_have_no_part() {
        let counts = counts(r#"{"type": "plain", "heads": 2, "skip_attention": true}"#, "");
        check(&counts);
        let unread = &counts.parts[0];
        // The norm's scale, wq, wk, wv and wo.
        assert_eq!((unread.part, unread.parameters, unread.ops), (None, 8 + 4 * 64, 0));
    }
}
