//! One optimizer step over all weights: clip, then AdamW or Muon, each weight by its group.
//!
//! Runs on the backend without autodiff and never reads the device.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, FloatDType, Tensor, TensorMetadata};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{
    AdamW, Backend, Momentum, MuonStep, Op, Precision, clip_factor, lift, lower, orthogonalize,
};

use crate::plan::{Group, Optimizer as Algorithm, Training};
use crate::weights::{Kind, Weight, layout};

/// How one weight is updated, and the state of that.
#[derive(Clone, Debug)]
struct Slot<B: Backend> {
    group: Group,
    decay: bool,
    /// AdamW's first moment or Muon's momentum.
    first: Option<FloatTensor<B>>,
    /// AdamW's second moment.
    second: Option<FloatTensor<B>>,
    /// Muon's place of the matrix among those of its shape.
    place: Option<Place>,
    beta1: f32,
}

/// Which matrix of which batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    batch: usize,
    index: usize,
}

/// Elements of the matrices that are updated together, or a few more: enough to fill a device, and
/// little beside what a model holds anyway.
const TOGETHER: usize = 1 << 23;

/// Matrices of one shape, which Muon updates together.
#[derive(Clone, Debug)]
struct Batch<B: Backend> {
    shape: [usize; 2],
    count: usize,
    /// Their updates `[count, rows, columns]`, from the first of them in a step to the last.
    updates: Option<FloatTensor<B>>,
}

/// AdamW and Muon over the weights of one model.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    slots: Vec<Slot<B>>,
    batches: Vec<Batch<B>>,
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
    precision: Precision,
}

/// Multiplier of the gradients and their norm, `[factor, norm]`, on the device. A negative factor
/// tells that the norm was not finite and nothing was updated.
pub type Health<B> = Tensor<B, 1>;

impl<B: Backend> Optimizer<B> {
    /// An optimizer for `module` with fresh state.
    pub fn new<A: burn::tensor::backend::Backend, M: Module<A>>(
        module: &M,
        training: &Training,
    ) -> Self {
        let mut batches = Vec::new();
        let slots = layout(module).iter().map(|w| Slot::new(w, training, &mut batches)).collect();
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
        let found = collect.found;
        let health = clip_factor::<B>(found.iter().flatten(), self.settings.grad_clip);
        let health = health.expect("a model has weights that the loss depends on");
        self.time += 1;
        let lr_scale = lr / self.settings.base_lr;
        let factor = lower(health.clone());
        let module = module.map(&mut Apply { optimizer: self, found, index: 0, factor, lr_scale });
        (module, health)
    }

    /// Turns the gradients of the matrices of one batch, which it takes, into their updates.
    fn orthogonalize(
        &mut self,
        batch: usize,
        found: &mut [Option<FloatTensor<B>>],
        factor: &FloatTensor<B>,
    ) {
        let Self { slots, batches, settings, .. } = self;
        let Batch { shape: [rows, columns], count, .. } = batches[batch];
        let options = (&B::float_device(factor), DType::F32);
        let zeros = || lower(Tensor::<B, 2>::zeros([rows, columns], options));
        // Flat: some devices would put gaps between rows.
        let flat = Tensor::<B, 1>::empty([count * rows * columns], options);
        let mut updates = lower(flat.reshape([count, rows, columns]));
        for (slot, grad) in slots.iter_mut().zip(found) {
            let Some(place) = slot.place.filter(|place| place.batch == batch) else { continue };
            let grad = grad.take().unwrap_or_else(zeros);
            let buffer = slot.first.take().unwrap_or_else(zeros);
            let Settings { nesterov, .. } = *settings;
            let op = Momentum { momentum: slot.beta1, nesterov, index: place.index };
            let inputs = [grad, factor.clone(), buffer, updates];
            let [together, buffer] = run::<B, _, 4, 2>(&op, inputs);
            (updates, slot.first) = (together, Some(buffer));
        }
        let Settings { newton_schulz_steps, precision, .. } = *settings;
        let updates = orthogonalize(lift::<B, 3>(updates), newton_schulz_steps, precision);
        batches[batch].updates = Some(lower(updates));
    }
}

/// Runs an op with `M` outputs.
fn run<B: Backend, O: Op<N>, const N: usize, const M: usize>(
    op: &O,
    inputs: [FloatTensor<B>; N],
) -> [FloatTensor<B>; M] {
    let outputs = B::execute(op, inputs, vec![]);
    outputs.try_into().unwrap_or_else(|_| panic!("`{}` has {M} outputs", O::NAME))
}

impl<B: Backend> Slot<B> {
    fn new(weight: &Weight, training: &Training, batches: &mut Vec<Batch<B>>) -> Self {
        let group = match weight.kind {
            Kind::Embed => training.embed,
            Kind::Head => training.head,
            Kind::Scalar => training.scalar,
            Kind::Matrix => training.matrix,
        };
        let matrix = weight.kind == Kind::Matrix;
        let muon = matrix && training.optimizer == Algorithm::Muon;
        Self {
            group,
            decay: weight.shape.len() >= 2,
            first: None,
            second: None,
            place: muon.then(|| Place::next([weight.shape[0], weight.shape[1]], batches)),
            beta1: if matrix { training.muon_momentum } else { training.beta1 },
        }
    }

    /// The new value of the weight, by Muon from the updates in `batches`, else by AdamW.
    fn update(&mut self, step: Step<'_, B>, value: FloatTensor<B>) -> FloatTensor<B> {
        let lr = self.group.lr * step.lr_scale;
        let decay = if self.decay { lr * self.group.weight_decay } else { 0.0 };
        if let Some(Place { batch, index }) = self.place {
            let Batch { shape: [rows, columns], count, updates } = &mut step.batches[batch];
            // Larger for tall matrices.
            let aspect = (*rows as f32 / *columns as f32).max(1.0).sqrt();
            let op = MuonStep { lr: lr * aspect, decay, index };
            // The last one leaves the memory to the next batch.
            let last = index + 1 == *count;
            let updates = if last { updates.take() } else { updates.clone() };
            let updates = updates.expect("orthogonalized before");
            let [value] = run::<B, _, 3, 1>(&op, [value, updates, step.factor]);
            return value;
        }
        let (shape, device) = (value.shape(), B::float_device(&value));
        let zeros = || B::float_zeros(shape.clone(), &device, FloatDType::F32);
        let (grad, first, second) = (
            step.grad.unwrap_or_else(zeros),
            self.first.take().unwrap_or_else(zeros),
            self.second.take().unwrap_or_else(zeros),
        );
        let Settings { beta2, epsilon, .. } = *step.settings;
        let op = AdamW { lr, decay, beta1: self.beta1, beta2, epsilon, time: step.time };
        let inputs = [value, grad, step.factor, first, second];
        let [value, first, second] = run::<B, _, 5, 3>(&op, inputs);
        (self.first, self.second) = (Some(first), Some(second));
        value
    }
}

impl Place {
    fn next<B: Backend>(shape: [usize; 2], batches: &mut Vec<Batch<B>>) -> Self {
        let [rows, columns] = shape;
        let full = |b: &Batch<B>| b.count * rows * columns >= TOGETHER;
        let known = batches.iter().position(|b| b.shape == shape && !full(b));
        let batch = known.unwrap_or(batches.len());
        if known.is_none() {
            batches.push(Batch { shape, count: 0, updates: None });
        }
        batches[batch].count += 1;
        Self { batch, index: batches[batch].count - 1 }
    }
}

/// What all weights of one step have in common, and the gradient of one of them.
struct Step<'a, B: Backend> {
    settings: &'a Settings,
    batches: &'a mut [Batch<B>],
    factor: FloatTensor<B>,
    /// `None` if the loss does not depend on the weight, which still decays, or Muon has it.
    grad: Option<FloatTensor<B>>,
    lr_scale: f32,
    time: i32,
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

/// Gives each weight its new value.
struct Apply<'a, B: Backend> {
    optimizer: &'a mut Optimizer<B>,
    /// The gradients that no update has used yet.
    found: Vec<Option<FloatTensor<B>>>,
    index: usize,
    factor: FloatTensor<B>,
    lr_scale: f32,
}

impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleMapper<A> for Apply<'_, A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let index = self.index;
        self.index += 1;
        // The first of a batch.
        if let Some(Place { batch, index: 0 }) = self.optimizer.slots[index].place {
            self.optimizer.orthogonalize(batch, &mut self.found, &self.factor);
        }
        let Optimizer { slots, settings, time, batches } = &mut *self.optimizer;
        let slot = &mut slots[index];
        let grad = self.found[index].take();
        let (factor, lr_scale, time) = (self.factor.clone(), self.lr_scale, *time);
        param.map(|value| {
            let step = Step { settings, batches, factor, grad, lr_scale, time };
            let value = slot.update(step, lower(value.inner()));
            Tensor::from_inner(lift(value)).require_grad()
        })
    }
}
