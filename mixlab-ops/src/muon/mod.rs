//! Muon (Jordan et al., 2024): momentum, orthogonalised, for all matrices of one shape together.
//!
//! Three ops make a step. [`Momentum`] puts the update of one matrix into its place in a batch
//! `[S, R, C]`; [`Orthogonalize`] drives all singular values of the batch towards 1 by the quintic
//! Newton–Schulz iteration `X ← aX + (bA + cA²)X`, `A = XXᵀ`; [`MuonStep`] takes a matrix's part
//! out of the batch and applies it. A negative factor (see [`clip_factor`](crate::clip_factor))
//! leaves buffers and weights alone.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;
mod orthogonalize;

use burn::tensor::{Shape, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Op, Spec, lift, lower};

pub use orthogonalize::{Orthogonalize, orthogonalize};

/// `M ← μM + fg`; the update is `M`, or with Nesterov's lookahead `fg + μM`.
///
/// Inputs: gradient `[R, C]`, `[f, …]`, `M` `[R, C]`, batch `[S, R, C]`; outputs: the batch with the
/// update as matrix `index`, and `M`.
#[derive(Clone, Debug)]
pub struct Momentum {
    /// `μ`.
    pub momentum: f32,
    /// Whether the update looks ahead.
    pub nesterov: bool,
    /// Place in the batch.
    pub index: usize,
}

/// `W ← W − δW − ηU`, where `U` is matrix `index` of the batch.
///
/// Inputs: weight `[R, C]`, batch `[S, R, C]`, `[f, …]`; output: weight.
#[derive(Clone, Debug)]
pub struct MuonStep {
    /// `η`.
    pub lr: f32,
    /// `δ`: the learning rate times the weight decay.
    pub decay: f32,
    /// Place in the batch.
    pub index: usize,
}

/// Whether `[f, …]` says to do nothing, for each element of `shape`.
fn skip<B: burn::tensor::backend::Backend>(
    factor: &Tensor<B, 1>,
    shape: Shape,
) -> Tensor<B, 2, burn::tensor::Bool> {
    factor.clone().narrow(0, 0, 1).lower_elem(0.0).unsqueeze::<2>().expand(shape)
}

impl Op<4> for Momentum {
    const NAME: &'static str = "mixlab.momentum";
    const KERNEL: bool = true;

    fn outputs(&self, [_, _, buffer, batch]: &[Spec; 4]) -> Vec<Spec> {
        vec![batch.clone(), buffer.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [grad, factor, buffer, batch]: [FloatTensor<B>; 4],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (factor, before) = (lift::<B, 1>(factor), lift::<B, 2>(buffer));
        let keep = skip(&factor, before.shape());
        let grad = lift::<B, 2>(grad) * factor.narrow(0, 0, 1).unsqueeze();
        let buffer = before.clone() * self.momentum + grad.clone();
        let update = match self.nesterov {
            true => grad + buffer.clone() * self.momentum,
            false => buffer.clone(),
        };
        let batch = lift::<B, 3>(batch);
        let [_, r, c] = batch.dims();
        let place = [self.index..self.index + 1, 0..r, 0..c];
        let update = update.mask_fill(keep.clone(), 0.0).unsqueeze();
        vec![lower(batch.slice_assign(place, update)), lower(buffer.mask_where(keep, before))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 4], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::momentum(self, inputs))
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 4],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::momentum(self, inputs)
    }
}

impl Op<3> for MuonStep {
    const NAME: &'static str = "mixlab.muon_step";
    const KERNEL: bool = true;

    fn outputs(&self, [weight, _, _]: &[Spec; 3]) -> Vec<Spec> {
        vec![weight.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [weight, batch, factor]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let weight = lift::<B, 2>(weight);
        let keep = skip(&lift::<B, 1>(factor), weight.shape());
        let update = lift::<B, 3>(batch).narrow(0, self.index, 1).squeeze_dim::<2>(0);
        let next = weight.clone() - weight.clone() * self.decay - update * self.lr;
        vec![lower(next.mask_where(keep, weight))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::step(self, inputs)])
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::step(self, inputs)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
