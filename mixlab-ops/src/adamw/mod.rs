//! Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019).
//!
//! With `g` the gradient times a factor that the device knows:
//! `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, and after `t` updates
//! `w ← w − δw − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)`. A negative factor leaves all three alone.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Op, Spec, lift, lower};

/// One update. Inputs: weight, gradient, `[factor, …]`, `m`, `v`; outputs: weight, `m`, `v`. All
/// but the factor have the shape of the weight.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// `η`.
    pub lr: f32,
    /// `δ`: the learning rate times the weight decay.
    pub decay: f32,
    /// `β₁`.
    pub beta1: f32,
    /// `β₂`.
    pub beta2: f32,
    /// `ε`.
    pub epsilon: f32,
    /// `t`: updates so far, this one included.
    pub time: i32,
}

impl AdamW {
    /// `1/(1−β₁ᵗ)` and `1/(1−β₂ᵗ)`.
    fn corrections(&self) -> [f32; 2] {
        [self.beta1, self.beta2].map(|beta| 1.0 / (1.0 - beta.powi(self.time)))
    }
}

impl Op<5> for AdamW {
    const NAME: &'static str = "mixlab.adamw";
    const KERNEL: bool = true;

    fn outputs(&self, [weight, _, _, m, v]: &[Spec; 5]) -> Vec<Spec> {
        vec![weight.clone(), m.clone(), v.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 5],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let shape = inputs[0].shape();
        let flat = |x: FloatTensor<B>| {
            let count = x.shape().num_elements();
            lift::<B, 1>(B::float_reshape(x, [count].into()))
        };
        let [weight, grad, factor, m, v] = inputs.map(flat);
        let factor = factor.narrow(0, 0, 1);
        let keep = factor.clone().lower_elem(0.0).expand(weight.shape());
        let grad = grad * factor;
        let square = grad.clone() * grad.clone() * (1.0 - self.beta2);
        let next_m = m.clone() * self.beta1 + grad * (1.0 - self.beta1);
        let next_v = v.clone() * self.beta2 + square;
        let [first, second] = self.corrections();
        let update = next_m.clone() * first / ((next_v.clone() * second).sqrt() + self.epsilon);
        let next = weight.clone() - weight.clone() * self.decay - update * self.lr;
        let choose = |new: Tensor<B, 1>, old| {
            B::float_reshape(lower(new.mask_where(keep.clone(), old)), shape.clone())
        };
        vec![choose(next, weight), choose(next_m, m), choose(next_v, v)]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 5], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::update(self, inputs))
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 5],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::update(self, inputs)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
