//! A training step, recorded: forward, backward and update, and what its operations do.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor};
use burn_backend::tensor::IntTensor;
use mixlab_ops::capture::{Capture, CaptureError, Session, watch_program};

use super::Memory;
use super::counts::Known;
use crate::blocks::{Block, DropoutKey};
use crate::model::{Model, Tokens};
use crate::plan::Plan;
use crate::train::{Optimizer, parameters};
use crate::weights::{Weight, layout};

/// What all operations of one name do in a training step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Name of the operation ([`Node::name`](mixlab_ops::capture::Node::name)).
    pub name: String,
    /// How many there are, without views.
    pub count: usize,
    /// Floating-point operations of their products
    /// ([`Program::flops`](mixlab_ops::capture::Program::flops)).
    pub flops: u64,
    /// Bytes that they read and write, each tensor once an operation
    /// ([`Program::bytes`](mixlab_ops::capture::Program::bytes)).
    pub bytes: u64,
}

/// A training step: what it does and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What its operations do, by name.
    pub work: Vec<Work>,
    /// What it holds.
    pub memory: Memory,
}

impl Step {
    /// Of the plan's model. `half` as in [`Memory::of`].
    ///
    /// # Errors
    /// As [`Memory::of`].
    pub fn of<K: Block>(plan: &Arc<Plan<K>>, half: Option<DType>) -> Result<Self, CaptureError> {
        let (program, (memory, count)) =
            watch_program(|session| Run::usual_step(session, plan, half))?;
        let mut known = Known::default();
        let mut works: BTreeMap<&str, Work> = BTreeMap::new();
        for node in &program.nodes()[program.nodes().len() - count..] {
            let work = works.entry(&node.name).or_default();
            let bytes = program.bytes(node);
            work.count += usize::from(bytes > 0);
            work.bytes = work.bytes.saturating_add(bytes);
            work.flops = work.flops.saturating_add(known.flops(&program, node)?);
        }
        let moving = works.into_iter().filter(|(_, work)| work.count > 0);
        let work = moving.map(|(name, work)| Work { name: name.into(), ..work }).collect();
        Ok(Self { work, memory })
    }
}

type Recorded = Autodiff<Capture>;

/// Steps of training that are recorded.
pub(super) struct Run<'a, K: Block> {
    session: &'a Session,
    plan: &'a Arc<Plan<K>>,
    optimizer: Optimizer<Capture>,
    /// Bytes of the weights.
    weights: u64,
    /// Inputs so far, each of which has a name of its own.
    inputs: usize,
}

impl<'a, K: Block> Run<'a, K> {
    /// What a step holds that is like all others, and how many operations it has. `half` as in
    /// [`Memory::of`].
    pub(super) fn usual_step(
        session: &'a Session,
        plan: &'a Arc<Plan<K>>,
        half: Option<DType>,
    ) -> (Memory, usize) {
        let (mut run, model) = Self::new(session, plan, half);
        // The first step makes the moments, and the second is like all others.
        let (model, first) = run.step(model, 0);
        let before = session.operations();
        let (_, second) = run.step(model, run.moments());
        let (peak, reserved) = (first.peak.max(second.peak), session.reserved());
        (Memory { peak, reserved, ..second }, session.operations() - before)
    }

    fn new(
        session: &'a Session,
        plan: &'a Arc<Plan<K>>,
        half: Option<DType>,
    ) -> (Self, Model<Recorded, K>) {
        session.set_half(half);
        let model = Model::<Recorded, K>::new(plan.clone(), session.device());
        let elements: usize = layout(&model).iter().map(Weight::len).sum();
        let optimizer = Optimizer::new(&model, &plan.training, session.device());
        (Self { session, plan, optimizer, weights: 4 * elements as u64, inputs: 0 }, model)
    }

    /// Bytes held beside the weights: between two steps those of the optimizer.
    fn moments(&self) -> u64 {
        self.session.held().saturating_sub(self.weights)
    }

    /// One step of training, and what it holds beside `moments`.
    fn step(&mut self, model: Model<Recorded, K>, moments: u64) -> (Model<Recorded, K>, Memory) {
        let before = self.weights + moments;
        self.session.take_peak();
        let (tokens, targets) = self.batch();
        parameters::join(&model);
        let loss = model.loss(tokens, targets, Some(DropoutKey { seed: 0, step: 0, row: 0 }));
        let activations = self.session.held().saturating_sub(before);
        let mut found = loss.backward();
        let gradients = self.optimizer.gradients(&model, &mut found);
        drop(found);
        let held = self.session.held().saturating_sub(before);
        let (model, _health) = self.optimizer.apply(model, gradients, 1.0);
        let (weights, peak) = (self.weights, self.session.take_peak());
        let memory = Memory {
            weights,
            optimizer: moments,
            gradients: held,
            activations,
            peak,
            ..Default::default()
        };
        (model, memory)
    }

    /// Tokens and targets of a batch.
    fn batch(&mut self) -> (Tokens<Recorded>, Tensor<Recorded, 1, Int>) {
        let shape = [self.plan.batch(), self.plan.seq_len];
        let ids = Tensor::from_primitive(self.input(&shape));
        let bigrams = self.plan.bigram.is_some();
        let bigrams = bigrams.then(|| Tensor::from_primitive(self.input(&shape)));
        let targets = self.input(&[shape[0] * shape[1]]);
        (Tokens { ids, bigrams }, Tensor::from_primitive(targets))
    }

    fn input(&mut self, shape: &[usize]) -> IntTensor<Capture> {
        self.inputs += 1;
        self.session.input(&format!("ids {}", self.inputs), shape, DType::I32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Builtin;

    fn works(optimizer: &str) -> BTreeMap<String, Work> {
        let json = format!(
            r#"{{"model_dim": 32, "vocab_size": 64, "seq_len": 16, "blocks": [{{"type": "swiglu"}}],
            "training": {{"batch_tokens": 128, "optimizer": "{optimizer}"}}}}"#
        );
        let plan = Arc::new(Plan::<Builtin>::parse(&json, "c", &[]).unwrap().plan);
        let step = Step::of(&plan, None).unwrap();
        assert_eq!(step.memory, Memory::of(&plan, None).unwrap());
        step.work.into_iter().map(|work| (work.name.clone(), work)).collect()
    }

    #[test]
    fn products_of_a_step_have_the_operations_and_bytes_of_their_shapes() {
        let works = works("adamw");
        // Three products of 32 × 85 and the head of 32 × 64, over 128 tokens.
        let multiplications = 128 * (3 * 32 * 85 + 32 * 64);
        let forward = &works["mixlab.linear"];
        assert_eq!((forward.count, forward.flops), (4, 2 * multiplications));
        let tensors = |k: u64, m: u64| 128 * k + k * m + 128 * m;
        let elements = 2 * tensors(32, 85) + tensors(85, 32) + tensors(32, 64);
        assert_eq!(forward.bytes, 4 * elements);
        let backward = &works["mixlab.linear_gradient"];
        assert_eq!((backward.count, backward.flops), (4, 4 * multiplications));
        // Inputs and gradient of the output are read, the other gradients written.
        let twice: u64 = [(32, 85), (32, 85), (85, 32), (32, 64)]
            .map(|(k, m): (u64, u64)| 2 * (128 * k + k * m) + 128 * m)
            .iter()
            .sum();
        assert_eq!(backward.bytes, 4 * twice);
    }

    #[test]
    fn an_update_moves_weight_gradient_and_moments_once_each_way() {
        let (adamw, muon) = (works("adamw"), works("muon"));
        let parameters = 2 * 32 * 64 + 2 * 32 + 3 * 32 * 85;
        let update = |works: &BTreeMap<String, Work>| works["mixlab.adamw"].bytes;
        // Weight, gradient and two moments are read, all but the gradient written; and some scalars.
        let moved = |found: u64, parameters: u64| {
            let tensors = 4 * 7 * parameters;
            assert!((tensors..tensors + 256).contains(&found), "{found} instead of {tensors}");
        };
        moved(update(&adamw), parameters);
        moved(update(&muon), parameters - 3 * 32 * 85);
        let flops = |works: &BTreeMap<String, Work>| works.values().map(|w| w.flops).sum::<u64>();
        assert!(flops(&muon) > flops(&adamw), "Newton–Schulz multiplies");
    }
}
