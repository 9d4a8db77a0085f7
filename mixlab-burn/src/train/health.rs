//! Losses and gradients that are not finite. Updates with such gradients are skipped on the device;
//! the host learns of it when it reads the loss.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use mixlab_ops::Backend;

use super::Health;
use crate::blocks::Block;
use crate::data::Batch;
use crate::model::Model;
use crate::weights::layout;

/// Skipped updates in a row that end a run.
const LIMIT: usize = 3;
/// Steps whose numbers become one tensor.
const TOGETHER: usize = 64;

/// Loss and health of all steps, read rarely.
pub(super) struct Watch<B: Backend> {
    losses: Vec<Tensor<B, 1>>,
    health: Vec<Health<B>>,
    /// Steps that were read.
    read: usize,
    /// Skipped updates of the whole run.
    pub skipped: usize,
    /// Norm of the gradients of the last step that was read.
    pub norm: f32,
    in_a_row: usize,
}

/// What a look at the steps since the last one found.
pub(super) enum Found {
    /// The loss of the last step.
    Loss(f64),
    /// The loss of this step is NaN.
    NotANumber(usize),
    /// There were too many skipped updates in a row.
    Broken,
}

impl<B: Backend> Watch<B> {
    pub fn new() -> Self {
        let (losses, health) = (Vec::new(), Vec::new());
        Self { losses, health, read: 0, skipped: 0, norm: 0.0, in_a_row: 0 }
    }

    /// Keeps loss and health of a step, on the device; few tensors, however rarely they are read.
    pub fn push(&mut self, loss: Tensor<B, 1>, health: Health<B>) {
        self.losses.push(loss);
        self.health.push(health);
        if self.health.len() == TOGETHER {
            self.losses = vec![Tensor::cat(std::mem::take(&mut self.losses), 0)];
            self.health = vec![Tensor::cat(std::mem::take(&mut self.health), 0)];
        }
    }

    /// Reads what was pushed since the last time.
    pub fn read(&mut self) -> Found {
        let losses = numbers(std::mem::take(&mut self.losses));
        let mut broken = false;
        for step in numbers(std::mem::take(&mut self.health)).chunks(2) {
            let skipped = step[0] < 0.0;
            self.skipped += usize::from(skipped);
            self.in_a_row = if skipped { self.in_a_row + 1 } else { 0 };
            broken |= self.in_a_row >= LIMIT;
            self.norm = step[1];
        }
        let first = self.read;
        self.read += losses.len();
        match losses.iter().position(|loss| loss.is_nan()) {
            Some(at) => Found::NotANumber(first + at),
            None if broken => Found::Broken,
            None => Found::Loss(losses.last().map_or(f64::NAN, |loss| f64::from(*loss))),
        }
    }
}

fn numbers<B: Backend>(tensors: Vec<Tensor<B, 1>>) -> Vec<f32> {
    let data = Tensor::cat(tensors, 0).into_data().convert::<f32>();
    data.to_vec().expect("converted to f32")
}

/// The weight nearest to the loss whose gradient for `batch` is not finite: the backward pass met
/// it first.
pub(super) fn culprit<A, K>(model: &Model<A, K>, batch: &Batch, device: &A::Device) -> String
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    struct Finite<'a, A: AutodiffBackend> {
        grads: &'a mut A::Gradients,
        found: Vec<bool>,
    }
    impl<A: AutodiffBackend> ModuleVisitor<A> for Finite<'_, A> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            let grad = param.val().grad_remove(self.grads);
            let numbers = grad.map(|g| g.into_data().convert::<f32>());
            let finite = |x: burn::tensor::TensorData| x.iter::<f32>().all(|v| v.is_finite());
            self.found.push(numbers.is_none_or(finite));
        }
    }
    let (tokens, targets) = model.upload(batch, device);
    let mut grads = model.loss(tokens, targets, true).backward();
    let mut visitor = Finite::<A> { grads: &mut grads, found: Vec::new() };
    model.visit(&mut visitor);
    let names = layout(model).into_iter().map(|weight| weight.name);
    let mut broken = names.zip(visitor.found).filter(|(_, finite)| !finite);
    broken.next_back().map_or("none in a second try".into(), |(name, _)| format!("`{name}`"))
}
