//! What a model consists of and what it costs, read off a captured forward pass.

mod diagram;
mod flops;

use std::sync::Arc;

use mixlab_ops::capture::{CaptureError, Program, capture};

use crate::blocks::Block;
use crate::model::{Model, Tokens};
use crate::plan::Plan;
use crate::weights::{Weight, layout};

pub use diagram::diagram;
pub use flops::node_flops;

/// Captures the forward of a plan's model at its training batch. Allocates no weights.
///
/// # Errors
/// If a block's forward reads values, which no description can follow.
pub fn describe<K: Block>(plan: &Arc<Plan<K>>) -> Result<Program, CaptureError> {
    let shape = [plan.batch(), plan.seq_len];
    let program = capture(
        |device| Model::<_, K>::new(plan.clone(), device),
        |model, session| {
            let ids = session.input_int("input_ids", shape);
            let bigrams = plan.bigram.as_ref().map(|_| session.input_int("bigram_ids", shape));
            session.output("logits", model.forward(Tokens { ids, bigrams }));
        },
    )?;
    Ok(program.without_dead_nodes())
}

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
}

impl Counts {
    /// Counts a plan's model.
    ///
    /// # Errors
    /// As [`describe`].
    pub fn of<K: Block>(plan: &Arc<Plan<K>>) -> Result<Self, CaptureError> {
        let program = describe(plan)?;
        let model =
            Model::<mixlab_ops::capture::Capture, K>::new(plan.clone(), &Default::default());
        let elements = |weights: &[Weight]| weights.iter().map(Weight::len).sum::<usize>();
        let weights = layout(&model);
        let shared = plan.steps.iter().enumerate().filter(|(i, step)| step.owner != *i);
        let repeated = shared.map(|(_, step)| {
            elements(&layout(&step.block.init::<mixlab_ops::capture::Capture>(&Default::default())))
        });
        let parameters = elements(&weights);
        Ok(Self {
            weights: weights.len(),
            parameters,
            expanded: parameters + repeated.sum::<usize>(),
            blocks: plan.steps.len(),
            ops: program.nodes().len(),
            forward_flops: program.nodes().iter().map(|node| node_flops(&program, node)).sum(),
            tokens: plan.training.batch_tokens,
        })
    }

    /// Operations of a training step: a backward pass has two products for each of the forward.
    pub fn training_flops(&self) -> u64 {
        3 * self.forward_flops
    }

    /// Operations of a training step for each token.
    pub fn flops_per_token(&self) -> u64 {
        self.training_flops() / self.tokens as u64
    }
}
