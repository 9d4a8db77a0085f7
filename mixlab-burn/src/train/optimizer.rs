//! One optimizer step over all weights: clip, then AdamW or Muon, each weight by its group.
//!
//! Runs on the backend without autodiff and never reads the device. Whether an update happens is
//! known there alone: a step whose gradients are not finite leaves weights and state as they are,
//! the bias of AdamW's moments included, so that it might as well not have been.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, FloatDType, Tensor, TensorData, TensorMetadata};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{
    AdamW, Backend, Precision, Rates, adamw, clip_factor, lift, lower, momentum, muon_step,
    orthogonalize,
};

use super::parameters::{Gradients, Put, Take, gradients};
use super::{Health, State, StateError};
use crate::plan::{Group, Optimizer as Algorithm, Training};
use crate::weights::{Kind, Weight, layout};

/// How one weight is updated, and the state of that.
#[derive(Clone, Debug)]
struct Slot<B: Backend> {
    shape: Vec<usize>,
    group: Group,
    decay: bool,
    muon: bool,
    /// AdamW's first moment or Muon's momentum.
    first: Option<FloatTensor<B>>,
    /// AdamW's second moment.
    second: Option<FloatTensor<B>>,
    beta1: f32,
    /// Place of `β₁` among those of [`Bias`].
    bias: usize,
}

/// Elements of the matrices that are updated together, or a few more: enough to fill a device, and
/// little beside what a model holds anyway.
const TOGETHER: usize = 1 << 23;

/// Matrices of one shape, which Muon updates together.
#[derive(Clone, Debug)]
struct Matrices {
    shape: [usize; 2],
    /// Their places among the weights.
    members: Vec<usize>,
}

/// AdamW and Muon over the weights of one model.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    slots: Vec<Slot<B>>,
    /// Names of the weights in files.
    names: Arc<[String]>,
    muon: Vec<Matrices>,
    settings: Settings,
    bias: Bias<B>,
}

/// How far moving averages that started at 0 fall short after `t` updates: `1 − βᵗ`, the moving
/// average of ones, for each `β`.
#[derive(Clone, Debug)]
struct Bias<B: Backend> {
    /// `[β₂, β₁, β₁ of matrices]`.
    betas: Tensor<B, 1>,
    value: Tensor<B, 1>,
}

#[derive(Clone, Debug)]
struct Settings {
    base_lr: f32,
    grad_clip: Option<f32>,
    beta2: f32,
    epsilon: f32,
    newton_schulz_steps: usize,
    nesterov: bool,
    precision: Option<Precision>,
}

/// What one step needs; each weight and gradient, in the order of the module, until it is used.
struct Step<B: Backend> {
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
        let weights = layout(module);
        let slots: Vec<Slot<B>> = weights.iter().map(|w| Slot::new(w, training)).collect();
        let muon = weights.iter().enumerate().filter(|(i, _)| slots[*i].muon);
        let muon = together(muon.map(|(i, w)| (i, [w.shape[0], w.shape[1]])));
        let settings = Settings {
            base_lr: training.lr as f32,
            grad_clip: training.grad_clip,
            beta2: training.beta2,
            epsilon: training.epsilon,
            newton_schulz_steps: training.muon_backend_steps,
            nesterov: training.muon_nesterov,
            precision: training.precision,
        };
        let names = weights.iter().enumerate().map(|(i, w)| w.file_name(i)).collect();
        let betas = [training.beta2, training.beta1, training.muon_momentum];
        let betas = Tensor::from_data(TensorData::from(betas), (device, DType::F32));
        let bias = Bias { value: betas.zeros_like(), betas };
        Self { slots, names, muon, settings, bias }
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
        let grads = gradients.values;
        let health = clip_factor::<B>(grads.iter().flatten(), self.settings.grad_clip);
        let health = health.expect("a model has weights that the loss depends on");
        self.bias.update(&health);
        let mut take = Take { weights: Vec::new(), stand_in: lower(health.clone()) };
        let module = module.map(&mut take);
        let (weights, factor) = (take.weights, take.stand_in);
        let mut step = Step { weights, grads, factor, lr_scale: lr / self.settings.base_lr };
        self.adamw(&mut step);
        for matrices in 0..self.muon.len() {
            self.muon(matrices, &mut step);
        }
        let weights = step.weights.into_iter();
        (module.map(&mut Put { weights }), health)
    }

    /// Adds the moments of all weights to `state`, once there are some; reads the device.
    pub fn save(&self, state: &mut State) {
        let mut add = |name: String, x: Tensor<B, 1>, shape: &[usize]| {
            let data = TensorData { shape: shape.to_vec().into(), ..x.into_data() };
            state.tensors.insert(name, data);
        };
        add("bias".into(), self.bias.value.clone(), &self.bias.value.dims());
        for (name, slot) in self.names.iter().zip(&self.slots) {
            for (part, moment) in [("m", &slot.first), ("v", &slot.second)] {
                let Some(moment) = moment.clone() else { continue };
                let flat = B::float_reshape(moment, [slot.shape.iter().product::<usize>()].into());
                add(format!("{name}.{part}"), lift(flat), &slot.shape);
            }
        }
    }

    /// Takes the moments of all weights out of `state`.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn resume(&mut self, state: &mut State, device: &B::Device) -> Result<(), StateError> {
        let bias = state.tensor("bias", DType::F32, &self.bias.betas.dims())?;
        self.bias.value = Tensor::from_data(bias, device);
        for (name, slot) in self.names.iter().zip(&mut self.slots) {
            let mut moment = |part| {
                let data = state.tensor(&format!("{name}.{part}"), DType::F32, &slot.shape)?;
                Ok::<_, StateError>(B::float_from_data(data, device))
            };
            slot.first = Some(moment("m")?);
            slot.second = if slot.muon { None } else { Some(moment("v")?) };
        }
        Ok(())
    }

    /// Updates all weights that Muon does not.
    fn adamw(&mut self, step: &mut Step<B>) {
        let indices: Vec<usize> = (0..self.slots.len()).filter(|i| !self.slots[*i].muon).collect();
        let (mut rates, mut tensors) = (Vec::new(), Vec::new());
        for &i in &indices {
            let slot = &mut self.slots[i];
            let weight = step.weights[i].take().expect("not yet updated");
            let (shape, device) = (weight.shape(), B::float_device(&weight));
            let zeros = || B::float_zeros(shape.clone(), &device, FloatDType::F32);
            let rest = [step.grads[i].take(), slot.first.take(), slot.second.take()];
            let [grad, first, second] = rest.map(|x| x.unwrap_or_else(zeros));
            tensors.push([weight, grad, first, second]);
            let (lr, decay) = slot.rates(step.lr_scale);
            rates.push(Rates { lr, decay, beta1: slot.beta1, bias: slot.bias });
        }
        let Settings { beta2, epsilon, .. } = self.settings;
        let op = AdamW { rates, beta2, epsilon };
        let bias = lower(self.bias.value.clone());
        let updated = adamw::<B>(&op, [&step.factor, &bias], tensors);
        for (i, [weight, first, second]) in indices.into_iter().zip(updated) {
            step.weights[i] = Some(weight);
            (self.slots[i].first, self.slots[i].second) = (Some(first), Some(second));
        }
    }

    /// Updates some matrices of one shape.
    fn muon(&mut self, matrices: usize, step: &mut Step<B>) {
        let Self { slots, muon, settings, .. } = self;
        let Matrices { shape: [rows, columns], members } = &muon[matrices];
        let device = B::float_device(&step.factor);
        let zeros = || B::float_zeros([*rows, *columns].into(), &device, FloatDType::F32);
        // All of the same group.
        let (lr, decay) = slots[members[0]].rates(step.lr_scale);
        let beta1 = slots[members[0]].beta1;
        let matrix = |&i: &usize| {
            [step.grads[i].take(), slots[i].first.take()].map(|x| x.unwrap_or_else(zeros))
        };
        let matrices = members.iter().map(matrix).collect();
        let (updates, momenta) = momentum::<B>(beta1, settings.nesterov, &step.factor, matrices);
        let precision = settings.precision.unwrap_or_else(|| B::precision(&device));
        let updates = orthogonalize(updates, settings.newton_schulz_steps, precision);
        // Larger for tall matrices.
        let aspect = (*rows as f32 / *columns as f32).max(1.0).sqrt();
        let weights = members.iter().map(|&i| step.weights[i].take().expect("not yet updated"));
        let weights = muon_step(lr * aspect, decay, &step.factor, updates, weights.collect());
        for ((&i, weight), momentum) in members.iter().zip(weights).zip(momenta) {
            step.weights[i] = Some(weight);
            slots[i].first = Some(momentum);
        }
    }
}

impl<B: Backend> Bias<B> {
    /// Counts one more update, unless it is skipped.
    fn update(&mut self, health: &Health<B>) {
        let skipped = health.clone().narrow(0, 0, 1).lower_elem(0.0).expand(self.betas.shape());
        let rest = -self.betas.clone() + 1.0;
        let next = self.value.clone() * self.betas.clone() + rest;
        self.value = next.mask_where(skipped, self.value.clone());
    }
}

impl<B: Backend> Slot<B> {
    fn new(weight: &Weight, training: &Training) -> Self {
        let group = match weight.kind {
            Kind::Embed => training.embed,
            Kind::Head => training.head,
            Kind::Scalar => training.scalar,
            Kind::Matrix => training.matrix,
        };
        let matrix = weight.kind == Kind::Matrix;
        Self {
            shape: weight.shape.clone(),
            group,
            decay: weight.shape.len() >= 2,
            muon: matrix && training.optimizer == Algorithm::Muon,
            first: None,
            second: None,
            beta1: if matrix { training.muon_momentum } else { training.beta1 },
            bias: if matrix { 2 } else { 1 },
        }
    }

    /// Learning rate, and what part of the weight decays.
    fn rates(&self, lr_scale: f32) -> (f32, f32) {
        let lr = self.group.lr * lr_scale;
        (lr, if self.decay { lr * self.group.weight_decay } else { 0.0 })
    }
}

/// Matrices of one shape together, until there are enough.
fn together(matrices: impl Iterator<Item = (usize, [usize; 2])>) -> Vec<Matrices> {
    let mut found: Vec<Matrices> = Vec::new();
    for (i, shape) in matrices {
        let full = |m: &Matrices| m.members.len() * shape[0] * shape[1] >= TOGETHER;
        match found.iter_mut().find(|m| m.shape == shape && !full(m)) {
            Some(matrices) => matrices.members.push(i),
            None => found.push(Matrices { shape, members: vec![i] }),
        }
    }
    found
}
