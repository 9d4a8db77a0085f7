//! One optimizer step over all weights: clip, then AdamW or Muon, each weight by its group.
//!
//! Runs on the backend without autodiff and never reads the device.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{FloatDType, Tensor, TensorMetadata};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{
    AdamW, Backend, Precision, Rates, adamw, clip_factor, lift, lower, momentum, muon_step,
    orthogonalize,
};

use crate::plan::{Group, Optimizer as Algorithm, Training};
use crate::weights::{Kind, Weight, layout};

/// How one weight is updated, and the state of that.
#[derive(Clone, Debug)]
struct Slot<B: Backend> {
    group: Group,
    decay: bool,
    muon: bool,
    /// AdamW's first moment or Muon's momentum.
    first: Option<FloatTensor<B>>,
    /// AdamW's second moment.
    second: Option<FloatTensor<B>>,
    beta1: f32,
}

/// Elements of the matrices that are updated together, or a few more: enough to fill a device, and
/// little beside what a model holds anyway.
const TOGETHER: usize = 1 << 23;

/// Matrices of one shape, which Muon updates together.
#[derive(Clone, Debug)]
struct Batch {
    shape: [usize; 2],
    /// Their places among the weights.
    members: Vec<usize>,
}

/// AdamW and Muon over the weights of one model.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    slots: Vec<Slot<B>>,
    batches: Vec<Batch>,
    settings: Settings,
    /// Updates done.
    time: i32,
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

/// Multiplier of the gradients and their norm, `[factor, norm]`, on the device. A negative factor
/// tells that the norm was not finite and nothing was updated.
pub type Health<B> = Tensor<B, 1>;

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
    ) -> Self {
        let weights = layout(module);
        let slots: Vec<Slot<B>> = weights.iter().map(|w| Slot::new(w, training)).collect();
        let muon = weights.iter().enumerate().filter(|(i, _)| slots[*i].muon);
        let batches = batches(muon.map(|(i, w)| (i, [w.shape[0], w.shape[1]])));
        let settings = Settings {
            base_lr: training.lr as f32,
            grad_clip: training.grad_clip,
            beta2: training.beta2,
            epsilon: training.epsilon,
            newton_schulz_steps: training.muon_backend_steps,
            nesterov: training.muon_nesterov,
            precision: training.precision,
        };
        Self { slots, batches, settings, time: 0 }
    }

    /// Updates `module` with the gradients in `grads` at learning rate `lr`; if their norm is not
    /// finite, leaves weights and state as they are.
    pub fn step<A, M>(&mut self, module: M, grads: &mut A::Gradients, lr: f32) -> (M, Health<B>)
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let mut collect = Collect::<A> { grads, found: Vec::new() };
        module.visit(&mut collect);
        let grads = collect.found;
        let health = clip_factor::<B>(grads.iter().flatten(), self.settings.grad_clip);
        let health = health.expect("a model has weights that the loss depends on");
        let mut take = Take { weights: Vec::new(), stand_in: lower(health.clone()) };
        let module = module.map(&mut take);
        let (weights, factor) = (take.weights, take.stand_in);
        let mut step = Step { weights, grads, factor, lr_scale: lr / self.settings.base_lr };
        self.time += 1;
        self.adamw(&mut step);
        for batch in 0..self.batches.len() {
            self.muon(batch, &mut step);
        }
        let weights = step.weights.into_iter();
        (module.map(&mut Put { weights }), health)
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
            rates.push(Rates { lr, decay, beta1: slot.beta1 });
        }
        let Settings { beta2, epsilon, .. } = self.settings;
        let op = AdamW { rates, beta2, epsilon, time: self.time };
        for (i, [weight, first, second]) in
            indices.into_iter().zip(adamw::<B>(&op, &step.factor, tensors))
        {
            step.weights[i] = Some(weight);
            (self.slots[i].first, self.slots[i].second) = (Some(first), Some(second));
        }
    }

    /// Updates the matrices of one batch.
    fn muon(&mut self, batch: usize, step: &mut Step<B>) {
        let Self { slots, batches, settings, .. } = self;
        let Batch { shape: [rows, columns], members } = &batches[batch];
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
            group,
            decay: weight.shape.len() >= 2,
            muon: matrix && training.optimizer == Algorithm::Muon,
            first: None,
            second: None,
            beta1: if matrix { training.muon_momentum } else { training.beta1 },
        }
    }

    /// Learning rate, and what part of the weight decays.
    fn rates(&self, lr_scale: f32) -> (f32, f32) {
        let lr = self.group.lr * lr_scale;
        (lr, if self.decay { lr * self.group.weight_decay } else { 0.0 })
    }
}

/// Matrices of one shape together, until there are enough.
fn batches(matrices: impl Iterator<Item = (usize, [usize; 2])>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (i, shape) in matrices {
        let full = |b: &Batch| b.members.len() * shape[0] * shape[1] >= TOGETHER;
        match batches.iter_mut().find(|b| b.shape == shape && !full(b)) {
            Some(batch) => batch.members.push(i),
            None => batches.push(Batch { shape, members: vec![i] }),
        }
    }
    batches
}

/// Takes the gradient of each weight, in order.
struct Collect<'a, A: AutodiffBackend> {
    grads: &'a mut A::Gradients,
    found: Vec<Option<FloatTensor<A::InnerBackend>>>,
}

impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleVisitor<A> for Collect<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        self.found.push(param.val().grad_remove(self.grads).map(lower));
    }
}

/// Takes each weight out of the module, so that nobody else holds it while it is updated.
struct Take<B: Backend> {
    weights: Vec<Option<FloatTensor<B>>>,
    /// What the module has meanwhile.
    stand_in: FloatTensor<B>,
}

impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleMapper<A> for Take<A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        param.map(|weight| {
            self.weights.push(Some(lower(weight.inner())));
            Tensor::from_inner(lift(self.stand_in.clone()))
        })
    }
}

/// Gives each weight its new value.
struct Put<W> {
    weights: W,
}

impl<A, W> ModuleMapper<A> for Put<W>
where
    A: AutodiffBackend<InnerBackend: Backend>,
    W: Iterator<Item = Option<FloatTensor<A::InnerBackend>>>,
{
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let weight = self.weights.next().flatten().expect("every weight was updated");
        param.map(|_| Tensor::from_inner(lift(weight)).require_grad())
    }
}
