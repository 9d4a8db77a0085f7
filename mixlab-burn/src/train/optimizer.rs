//! One optimizer step over all weights: clip, then AdamW or Muon, each weight by its group.
//!
//! Runs on the backend without autodiff and never reads the device.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_backend::tensor::FloatTensor;

use super::muon::orthogonalize;
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
    muon: bool,
    beta1: f32,
}

/// AdamW and Muon over the weights of one model.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    slots: Vec<Slot<B>>,
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
}

impl<B: Backend> Optimizer<B> {
    /// An optimizer for `module` with fresh state.
    pub fn new<A: Backend, M: Module<A>>(module: &M, training: &Training) -> Self {
        Self {
            slots: layout(module).iter().map(|weight| Slot::new(weight, training)).collect(),
            settings: Settings {
                base_lr: training.lr as f32,
                grad_clip: training.grad_clip,
                beta2: training.beta2,
                epsilon: training.epsilon,
                newton_schulz_steps: training.muon_backend_steps,
                nesterov: training.muon_nesterov,
            },
            time: 0,
        }
    }

    /// Updates `module` with the gradients in `grads` at learning rate `lr`.
    pub fn step<A, M>(&mut self, module: M, grads: &mut A::Gradients, lr: f32) -> M
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let mut collect = Collect::<A> { grads, found: Vec::new(), square_sum: None };
        module.visit(&mut collect);
        let Collect { found, square_sum, .. } = collect;
        // min(1, c / (‖g‖ + 1e-6)), as a tensor of one element.
        let clip =
            self.settings.grad_clip.zip(square_sum).map(|(bound, square_sum)| {
                ((square_sum.sqrt() + 1e-6).recip() * bound).clamp_max(1.0)
            });
        self.time += 1;
        let lr_scale = lr / self.settings.base_lr;
        module.map(&mut Apply {
            optimizer: self,
            found: found.into_iter(),
            index: 0,
            clip,
            lr_scale,
        })
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
            first: None,
            second: None,
            muon: matrix && training.optimizer == Algorithm::Muon,
            beta1: if matrix { training.muon_momentum } else { training.beta1 },
        }
    }

    /// `previous · keep + new`, where a missing `previous` is zero.
    fn accumulate<const D: usize>(
        previous: &mut Option<FloatTensor<B>>,
        keep: f32,
        new: Tensor<B, D>,
    ) -> Tensor<B, D> {
        let sum = match previous.take() {
            Some(previous) => lift(previous) * keep + new,
            None => new,
        };
        *previous = Some(sum.clone().into_primitive().tensor());
        sum
    }

    /// Kingma and Ba, 2015, with the decoupled decay of Loshchilov and Hutter, 2019.
    fn adamw<const D: usize>(
        &mut self,
        grad: Tensor<B, D>,
        time: i32,
        settings: &Settings,
    ) -> Tensor<B, D> {
        let (beta1, beta2) = (self.beta1, settings.beta2);
        let square = grad.clone() * grad.clone() * (1.0 - beta2);
        let first = Self::accumulate(&mut self.first, beta1, grad * (1.0 - beta1));
        let second = Self::accumulate(&mut self.second, beta2, square);
        let unbiased = |moment: Tensor<B, D>, beta: f32| moment * (1.0 / (1.0 - beta.powi(time)));
        unbiased(first, beta1) / (unbiased(second, beta2).sqrt() + settings.epsilon)
    }

    /// Jordan et al., 2024: orthogonalised momentum, larger for tall matrices.
    fn muon(&mut self, grad: Tensor<B, 2>, settings: &Settings) -> Tensor<B, 2> {
        let momentum = self.beta1;
        let buffer = Self::accumulate(&mut self.first, momentum, grad.clone());
        let update = if settings.nesterov { grad + buffer * momentum } else { buffer };
        let [rows, columns] = update.dims();
        let aspect = (rows as f32 / columns as f32).max(1.0).sqrt();
        orthogonalize(update, settings.newton_schulz_steps) * aspect
    }

    fn update<const D: usize>(
        &mut self,
        value: Tensor<B, D>,
        grad: Tensor<B, D>,
        time: i32,
        settings: &Settings,
        lr_scale: f32,
    ) -> Tensor<B, D> {
        let update = match self.muon {
            true => lift(lower(self.muon(lift(lower(grad)), settings))),
            false => self.adamw(grad, time, settings),
        };
        let lr = self.group.lr * lr_scale;
        let decay = if self.decay { lr * self.group.weight_decay } else { 0.0 };
        let value = if decay > 0.0 { value.clone() - value * decay } else { value };
        value - update * lr
    }
}

/// Takes the gradient of each weight, in order, and sums their squares.
struct Collect<'a, A: AutodiffBackend> {
    grads: &'a mut A::Gradients,
    found: Vec<Option<FloatTensor<A::InnerBackend>>>,
    square_sum: Option<Tensor<A::InnerBackend, 1>>,
}

impl<A: AutodiffBackend> ModuleVisitor<A> for Collect<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        let grad = param.val().grad_remove(self.grads);
        if let Some(grad) = &grad {
            let square = (grad.clone() * grad.clone()).sum();
            self.square_sum = Some(match self.square_sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
        self.found.push(grad.map(lower));
    }
}

/// Gives each weight its new value.
struct Apply<'a, B: Backend> {
    optimizer: &'a mut Optimizer<B>,
    found: std::vec::IntoIter<Option<FloatTensor<B>>>,
    index: usize,
    clip: Option<Tensor<B, 1>>,
    lr_scale: f32,
}

impl<A: AutodiffBackend> ModuleMapper<A> for Apply<'_, A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let Optimizer { slots, settings, time } = &mut *self.optimizer;
        let slot = &mut slots[self.index];
        self.index += 1;
        let found = self.found.next().flatten();
        param.map(|value| {
            let value = value.inner();
            let grad = match (found, &self.clip) {
                (Some(grad), Some(clip)) => lift::<_, D>(grad) * clip.clone().reshape([1; D]),
                (Some(grad), None) => lift(grad),
                // A weight that the loss does not depend on still decays.
                (None, _) => value.zeros_like(),
            };
            let value = slot.update(value, grad, *time, settings, self.lr_scale);
            Tensor::from_inner(value).require_grad()
        })
    }
}

fn lift<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

fn lower<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

/// Rounds `x` to the nearest bfloat16, kept in its own type.
pub(super) fn round_to_bf16<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    if B::supports_dtype(&x.device(), DType::BF16) {
        return x.cast(DType::BF16).cast(dtype);
    }
    // Veltkamp's splitting: the high 8 of 24 significant bits.
    let scaled = x.clone() * 65_537.0;
    scaled.clone() - (scaled - x)
}
