//! One optimizer step over all weights: clip, then AdamW or Muon, each weight by its group.
//!
//! Runs on the backend without autodiff and never reads the device. Whether an update happens is
//! known there alone: a step whose gradients are not finite leaves weights and state as they are,
//! the bias of AdamW's moments included, so that it might as well not have been.

mod plan;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, FloatDType, Shape, Tensor, TensorData};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{
    AdamW, Backend, Precision, Rates, adamw, clip_factor, lower, momentum, muon_step, orthogonalize,
};

use super::Health;
use super::parameters::{Gradients, Put, Take, gradients};
use super::state::{Snapshot, State, StateError};
use crate::plan::{Algorithm, Training};

pub use plan::{Assignment, OptimizerGroup, OptimizerPlan, OptimizerPlanError};

/// The state of one weight's updates; none if it is frozen or was never updated.
#[derive(Clone, Debug)]
struct Slot<B: Backend> {
    /// AdamW's first moment or Muon's momentum.
    first: Option<FloatTensor<B>>,
    /// AdamW's second moment.
    second: Option<FloatTensor<B>>,
}

/// Elements of the matrices that are updated together, or a few more: enough to fill a device, and
/// little beside what a model holds anyway.
const TOGETHER: usize = 1 << 23;

/// Matrices of one shape and group, which Muon updates together.
#[derive(Clone, Debug)]
struct Matrices {
    shape: [usize; 2],
    group: usize,
    decay: bool,
    /// Their places among the weights.
    members: Vec<usize>,
}

/// Weights that AdamW updates with one `β₂` and `ε`.
#[derive(Clone, Debug)]
struct Family<B: Backend> {
    beta2: f32,
    epsilon: f32,
    /// The `β₁` that there are among them.
    beta1: Vec<f32>,
    /// Their places among the weights.
    members: Vec<usize>,
    bias: Bias<B>,
}

/// AdamW and Muon over the weights of one model.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    plan: OptimizerPlan,
    slots: Vec<Slot<B>>,
    /// Names of the weights in files.
    names: Arc<[String]>,
    muon: Vec<Matrices>,
    adamw: Vec<Family<B>>,
    precision: Option<Precision>,
}

/// How far moving averages that started at 0 fall short after `t` updates: `1 − βᵗ`, the moving
/// average of ones, for each `β`.
#[derive(Clone, Debug)]
struct Bias<B: Backend> {
    /// `β₂`, then each `β₁`.
    betas: Tensor<B, 1>,
    value: Tensor<B, 1>,
}

/// What one step needs; each weight and gradient, in the order of the module, until it is used.
struct Update<B: Backend> {
    weights: Vec<Option<FloatTensor<B>>>,
    /// `None` from the start if the loss does not depend on the weight, which still decays.
    grads: Vec<Option<FloatTensor<B>>>,
    factor: FloatTensor<B>,
    lr_scale: f32,
}

impl<B: Backend> Optimizer<B> {
    /// An optimizer for `module` with fresh state.
    pub fn new<A: burn::tensor::backend::Backend, M: Module<A>>(
        module: &M,
        training: &Training,
        device: &B::Device,
    ) -> Self {
        Self::of(OptimizerPlan::of(module, training), training.precision, device)
    }

    /// An optimizer with fresh state for the weights of a plan that was checked; Muon multiplies with
    /// `precision`, or that of the backend.
    pub fn of(plan: OptimizerPlan, precision: Option<Precision>, device: &B::Device) -> Self {
        let slots = plan.weights.iter().map(|_| Slot { first: None, second: None }).collect();
        let names = plan.weights.iter().map(|weight| weight.name.clone()).collect();
        let (muon, adamw) = (together(&plan), families(&plan, device));
        Self { plan, slots, names, muon, adamw, precision }
    }

    /// How it updates each weight.
    pub fn plan(&self) -> &OptimizerPlan {
        &self.plan
    }

    /// The gradients of the weights of `module` in `grads`, which loses them.
    pub fn gradients<A, M>(&self, module: &M, grads: &mut A::Gradients) -> Gradients<B>
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        Gradients { names: self.names.clone(), values: gradients::<A, M>(module, grads) }
    }

    /// Updates `module` with `gradients` at learning rate `lr`; if their norm is not finite, leaves
    /// weights and state as they are.
    ///
    /// # Panics
    /// If the loss depends on no weight.
    pub fn apply<A, M>(&mut self, module: M, gradients: Gradients<B>, lr: f32) -> (M, Health<B>)
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let health = self.health(&gradients.values);
        let mut take = Take { weights: Vec::new(), stand_in: lower(health.clone()) };
        let module = module.map(&mut take);
        let weights = self.update(take.weights, gradients.values, &health, lr);
        let weights = weights.into_iter();
        (module.map(&mut Put { weights }), health)
    }

    /// What [`Optimizer::update`] multiplies gradients by.
    pub(super) fn health(&self, grads: &[Option<FloatTensor<B>>]) -> Health<B> {
        let health = clip_factor::<B>(grads.iter().flatten(), self.plan.grad_clip);
        health.expect("a model has weights that the loss depends on")
    }

    /// The new values of `weights`, all of the plan's and in its order.
    pub(super) fn update(
        &mut self,
        weights: Vec<Option<FloatTensor<B>>>,
        grads: Vec<Option<FloatTensor<B>>>,
        health: &Health<B>,
        lr: f32,
    ) -> Vec<Option<FloatTensor<B>>> {
        let base = self.plan.base_lr;
        let lr_scale = if base > 0.0 { lr / base } else { 1.0 };
        let mut update = Update { weights, grads, factor: lower(health.clone()), lr_scale };
        for family in 0..self.adamw.len() {
            self.adamw[family].bias.update(health);
            self.adamw(family, &mut update);
        }
        for matrices in 0..self.muon.len() {
            self.muon(matrices, &mut update);
        }
        update.weights
    }

    /// Adds the moments of all weights to `snapshot`, once there are some.
    pub(super) fn save(&self, snapshot: &mut Snapshot<B>) {
        for (index, family) in self.adamw.iter().enumerate() {
            let shape = family.bias.value.dims();
            snapshot.tensor(bias_name(index), lower(family.bias.value.clone()), &shape);
        }
        for (weight, slot) in self.plan.weights.iter().zip(&self.slots) {
            for (part, moment) in [("m", &slot.first), ("v", &slot.second)] {
                let Some(moment) = moment.clone() else { continue };
                snapshot.tensor(format!("{}.{part}", weight.name), moment, &weight.shape);
            }
        }
    }

    /// Takes the moments of all weights out of `state`.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub(super) fn resume(
        &mut self,
        state: &mut State,
        device: &B::Device,
    ) -> Result<(), StateError> {
        for (index, family) in self.adamw.iter_mut().enumerate() {
            let shape = family.bias.betas.dims();
            let bias = state.tensor(&bias_name(index), DType::F32, &shape)?;
            family.bias.value = Tensor::from_data(bias, device);
        }
        for (weight, slot) in self.plan.weights.iter().zip(&mut self.slots) {
            let Some(group) = self.plan.group(weight) else { continue };
            let mut moment = |part| {
                let name = format!("{}.{part}", weight.name);
                let data = state.tensor(&name, DType::F32, &weight.shape)?;
                Ok::<_, StateError>(B::float_from_data(data, device))
            };
            slot.first = Some(moment("m")?);
            slot.second = match group.algorithm {
                Algorithm::Muon => None,
                Algorithm::AdamW => Some(moment("v")?),
            };
        }
        Ok(())
    }

    /// Learning rate of a group, and what part of its weights decays.
    fn rates(&self, group: usize, decay: bool, lr_scale: f32) -> (f32, f32) {
        let group = &self.plan.groups[group];
        let lr = group.lr * lr_scale;
        (lr, if decay { lr * group.weight_decay } else { 0.0 })
    }

    /// Updates the weights of a family of AdamW.
    fn adamw(&mut self, family: usize, update: &mut Update<B>) {
        let family = self.adamw[family].clone();
        let (mut rates, mut tensors) = (Vec::new(), Vec::new());
        for &i in &family.members {
            let weight = &self.plan.weights[i];
            let group = weight.group.expect("an updated weight has a group");
            let beta1 = self.plan.groups[group].beta1;
            let place = family.beta1.iter().position(|beta| *beta == beta1);
            let (lr, decay) = self.rates(group, weight.decay, update.lr_scale);
            let bias = 1 + place.expect("a family knows the betas of its weights");
            rates.push(Rates { lr, decay, beta1, bias });
            let value = update.weights[i].take().expect("not yet updated");
            let (shape, device) = (Shape::from(weight.shape.clone()), B::float_device(&value));
            let zeros = || B::float_zeros(shape.clone(), &device, FloatDType::F32);
            let slot = &mut self.slots[i];
            let rest = [update.grads[i].take(), slot.first.take(), slot.second.take()];
            let [grad, first, second] = rest.map(|x| x.unwrap_or_else(zeros));
            tensors.push([value, grad, first, second]);
        }
        let op = AdamW { rates, beta2: family.beta2, epsilon: family.epsilon };
        let bias = lower(family.bias.value);
        let updated = adamw::<B>(&op, [&update.factor, &bias], tensors);
        for (i, [weight, first, second]) in family.members.into_iter().zip(updated) {
            update.weights[i] = Some(weight);
            self.slots[i] = Slot { first: Some(first), second: Some(second) };
        }
    }

    /// Updates some matrices of one shape and group.
    fn muon(&mut self, matrices: usize, update: &mut Update<B>) {
        let Matrices { shape: [rows, columns], group, decay, ref members } = self.muon[matrices];
        let (lr, decay) = self.rates(group, decay, update.lr_scale);
        let rule = self.plan.groups[group];
        let (device, slots) = (B::float_device(&update.factor), &mut self.slots);
        let zeros = || B::float_zeros([rows, columns].into(), &device, FloatDType::F32);
        let matrix = |&i: &usize| {
            [update.grads[i].take(), slots[i].first.take()].map(|x| x.unwrap_or_else(zeros))
        };
        let matrices = members.iter().map(matrix).collect();
        let (updates, momenta) = momentum::<B>(rule.beta1, rule.nesterov, &update.factor, matrices);
        let precision = self.precision.unwrap_or_else(|| B::precision(&device));
        let updates = orthogonalize(updates, rule.newton_schulz_steps, precision);
        // Larger for tall matrices.
        let aspect = (rows as f32 / columns as f32).max(1.0).sqrt();
        let weights = members.iter().map(|&i| update.weights[i].take().expect("not yet updated"));
        let weights = muon_step(lr * aspect, decay, &update.factor, updates, weights.collect());
        for ((&i, weight), momentum) in members.iter().zip(weights).zip(momenta) {
            update.weights[i] = Some(weight);
            slots[i].first = Some(momentum);
        }
    }
}

impl<B: Backend> Bias<B> {
    fn new(betas: Vec<f32>, device: &B::Device) -> Self {
        let count = betas.len();
        let betas = Tensor::from_data(TensorData::new(betas, [count]), (device, DType::F32));
        Self { value: betas.zeros_like(), betas }
    }

    /// Counts one more update, unless it is skipped.
    fn update(&mut self, health: &Health<B>) {
        let skipped = health.clone().narrow(0, 0, 1).lower_elem(0.0).expand(self.betas.shape());
        let rest = -self.betas.clone() + 1.0;
        let next = self.value.clone() * self.betas.clone() + rest;
        self.value = next.mask_where(skipped, self.value.clone());
    }
}

/// The name of the biases of a family in a state.
fn bias_name(family: usize) -> String {
    if family == 0 { "bias".into() } else { format!("bias.{family}") }
}

/// The weights that AdamW updates, by what one call of it has in common.
fn families<B: Backend>(plan: &OptimizerPlan, device: &B::Device) -> Vec<Family<B>> {
    let mut found: Vec<Family<B>> = Vec::new();
    for (i, weight) in plan.weights.iter().enumerate() {
        let group = plan.group(weight).filter(|group| group.algorithm == Algorithm::AdamW);
        let Some(&OptimizerGroup { beta1, beta2, epsilon, .. }) = group else { continue };
        let known = found.iter().position(|f| (f.beta2, f.epsilon) == (beta2, epsilon));
        let at = known.unwrap_or(found.len());
        if known.is_none() {
            let (beta1, members) = (Vec::new(), Vec::new());
            let bias = Bias::new(vec![beta2], device);
            found.push(Family { beta2, epsilon, beta1, members, bias });
        }
        let family = &mut found[at];
        family.members.push(i);
        if !family.beta1.contains(&beta1) {
            family.beta1.push(beta1);
        }
    }
    for family in &mut found {
        let betas = [&[family.beta2], &family.beta1[..]].concat();
        family.bias = Bias::new(betas, device);
    }
    found
}

/// The matrices that Muon updates, those of one shape and group together, until there are enough.
fn together(plan: &OptimizerPlan) -> Vec<Matrices> {
    let mut found: Vec<Matrices> = Vec::new();
    for (i, weight) in plan.weights.iter().enumerate() {
        let (Some(group), &[rows, columns]) = (weight.group, &weight.shape[..]) else { continue };
        if plan.groups[group].algorithm != Algorithm::Muon {
            continue;
        }
        let fits = |m: &&mut Matrices| {
            let full = m.members.len() * rows * columns >= TOGETHER;
            !full && (m.shape, m.group, m.decay) == ([rows, columns], group, weight.decay)
        };
        match found.iter_mut().find(fits) {
            Some(matrices) => matrices.members.push(i),
            None => {
                let shape = [rows, columns];
                found.push(Matrices { shape, group, decay: weight.decay, members: vec![i] });
            }
        }
    }
    found
}
