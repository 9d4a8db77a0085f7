//! Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019).
//!
//! With `g` the gradient times a factor that the device knows:
//! `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, and after `t` updates
//! `w ← w − δw − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)`. A negative factor leaves all three alone.
//! How many updates there were is known to the device alone too: it is given `1−βᵗ`.

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

#[cfg(feature = "cube")]
use crate::plumbing::cube::not_together;
use crate::plumbing::list::{execute_group, factor_first, group};
use crate::{Backend, Mismatch, Op, Spec, all, lift, lower, same_type};

/// One update of several weights. Inputs: `[factor, …]`; `[1−β₂ᵗ, 1−β₁ᵗ, …]` with a place for each
/// `β₁`; then for each weight itself, its gradient, `m` and `v`, all of one shape. Outputs: for each
/// the weight, `m` and `v`.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// One for each weight.
    pub rates: Vec<Rates>,
    /// `β₂`.
    pub beta2: f32,
    /// `ε`.
    pub epsilon: f32,
}

/// What [`AdamW`] knows of one weight.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// `η`.
    pub lr: f32,
    /// `δ`: the learning rate times the weight decay.
    pub decay: f32,
    /// `β₁`.
    pub beta1: f32,
    /// Place of `1−β₁ᵗ`, from 1.
    pub bias: usize,
}

/// Updates `tensors`, each a weight, its gradient, `m` and `v`, by `op`, factor and biases, and
/// returns each weight, `m` and `v`. They are written over where nobody else holds them, many in one
/// launch.
pub fn adamw<B: Backend>(
    op: &AdamW,
    step: [&FloatTensor<B>; 2],
    tensors: Vec<[FloatTensor<B>; 4]>,
) -> Vec<[FloatTensor<B>; 3]> {
    let mut updated = Vec::with_capacity(tensors.len());
    let mut tensors = tensors.into_iter();
    while let Some(group) = group(&mut tensors) {
        let count = group.len();
        let rates = op.rates[updated.len()..][..count].to_vec();
        let op = AdamW { rates, beta2: op.beta2, epsilon: op.epsilon };
        let inputs = step.into_iter().cloned().chain(group.into_iter().flatten()).collect();
        let mut outputs = execute_group::<B, _, 6, 18, 66>(&op, inputs).into_iter();
        updated.extend((0..count).map(|_| all(outputs.by_ref().take(3).collect())));
    }
    updated
}

impl AdamW {
    fn update<B: burn::tensor::backend::Backend>(
        &self,
        rates: Rates,
        [factor, bias]: [Tensor<B, 1>; 2],
        tensors: [FloatTensor<B>; 4],
    ) -> [FloatTensor<B>; 3] {
        let shape = tensors[0].shape();
        let count = shape.num_elements();
        let flat = |x| lift::<B, 1>(B::float_reshape(x, [count].into()));
        let [weight, grad, m, v] = tensors.map(flat);
        let keep = factor.clone().lower_elem(0.0).expand([count]);
        let grad = grad * factor;
        let square = grad.clone() * grad.clone() * (1.0 - self.beta2);
        let next_m = m.clone() * rates.beta1 + grad * (1.0 - rates.beta1);
        let next_v = v.clone() * self.beta2 + square;
        let [first, second] = [rates.bias, 0].map(|at| bias.clone().narrow(0, at, 1).recip());
        let update = next_m.clone() * first / ((next_v.clone() * second).sqrt() + self.epsilon);
        let next = weight.clone() - weight.clone() * rates.decay - update * rates.lr;
        [(next, weight), (next_m, m), (next_v, v)].map(|(new, old)| {
            B::float_reshape(lower(new.mask_where(keep.clone(), old)), shape.clone())
        })
    }
}

impl<const N: usize> Op<N> for AdamW {
    const NAME: &'static str = "mixlab.adamw";
    const IN_PLACE: bool = true;
    const KERNEL: bool = true;

    fn outputs(&self, inputs: &[Spec; N], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let (factor, others) = factor_first(inputs)?;
        let (bias, tensors) = factor_first(others)?;
        let places = bias.shape[0];
        Mismatch::unless(self.rates.iter().all(|rates| rates.bias < places), || {
            format!("`bias` should have a number for each place, and has `{places}`")
        })?;
        let mut outputs = Vec::with_capacity(3 * self.rates.len());
        Mismatch::unless(tensors.len() == 4 * self.rates.len(), || {
            format!("`{}` weights should have a weight, gradient, m and v each", self.rates.len())
        })?;
        for x in tensors.chunks(4) {
            let [weight, grad, m, v] = [&x[0], &x[1], &x[2], &x[3]];
            same_type(&[("factor", factor), ("bias", bias), ("weight", weight)])?;
            for (what, other) in [("gradient", grad), ("m", m), ("v", v)] {
                Mismatch::unless(other == weight, || format!("`{what}` should be {weight}"))?;
            }
            outputs.extend([weight, m, v].map(Spec::clone));
        }
        Ok(outputs)
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let factor = lift::<B, 1>(inputs[0].clone()).narrow(0, 0, 1);
        let step = [factor, lift(inputs[1].clone())];
        let each = inputs[2..].chunks(4).zip(&self.rates);
        each.flat_map(|(x, rates)| self.update::<B>(*rates, step.clone(), all(x.to_vec())))
            .collect()
    }

    #[cfg(feature = "cpu")]
    fn cpu_owned(
        &self,
        inputs: [FlexTensor; N],
        _: &[FlexTensor],
    ) -> Result<Vec<FlexTensor>, [FlexTensor; N]> {
        Ok(cpu::update(self, inputs))
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, inputs: &[CubeTensor<R>; N]) -> Option<String> {
        not_together(inputs)
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; N],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::update(self, inputs.into())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
