//! Muon (Jordan et al., 2024): momentum, orthogonalised, for all matrices of one shape together.
//!
//! Three ops make a step. [`Momentum`] puts the updates of matrices into their places in a batch
//! `[S, R, C]`; [`Orthogonalize`] drives all singular values of the batch towards 1 by the quintic
//! Newton–Schulz iteration `X ← aX + (bA + cA²)X`, `A = XXᵀ`; [`MuonStep`] takes each matrix's part
//! out of the batch and applies it. A negative factor (see [`clip_factor`](crate::clip_factor))
//! leaves buffers and weights alone.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;
mod orthogonalize;

use burn::tensor::{DType, Shape, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use crate::plumbing::cube::not_together;
use crate::plumbing::list::{execute_group, factor_first, group};
use crate::{Axes, Backend, Mismatch, Op, Spec, lift, lower, same_type};

pub use orthogonalize::{Orthogonalize, orthogonalize};

/// `M ← μM + fg`; the update is `M`, or with Nesterov's lookahead `fg + μM`.
///
/// Inputs: `[f, …]`, batch `[S, R, C]`, then for each of some matrices that follow one another in
/// it the gradient `[R, C]` and `M` `[R, C]`; outputs: the batch with their updates, and each `M`.
#[derive(Clone, Debug)]
pub struct Momentum {
    /// `μ`.
    pub momentum: f32,
    /// Whether the update looks ahead.
    pub nesterov: bool,
    /// Place of the first of them in the batch.
    pub index: usize,
}

/// `W ← W − δW − ηU`, where `U` is a matrix of the batch.
///
/// Inputs: `[f, …]`, batch `[S, R, C]`, the weights `[R, C]` of some matrices that follow one another
/// in it; outputs: the weights.
#[derive(Clone, Debug)]
pub struct MuonStep {
    /// `η`.
    pub lr: f32,
    /// `δ`: the learning rate times the weight decay.
    pub decay: f32,
    /// Place of the first of them in the batch.
    pub index: usize,
}

/// The updates `[S, R, C]` of `S` matrices, given the gradient and the momentum buffer of each, and
/// their new buffers (see [`Momentum`]). All are written over where nobody else holds them, many in
/// one launch.
///
/// # Panics
/// If there are none.
pub fn momentum<B: Backend>(
    momentum: f32,
    nesterov: bool,
    factor: &FloatTensor<B>,
    matrices: Vec<[FloatTensor<B>; 2]>,
) -> (Tensor<B, 3>, Vec<FloatTensor<B>>) {
    let [rows, columns] = matrices[0][0].shape().dims();
    let options = (&B::float_device(factor), DType::F32);
    // Flat: some devices would put gaps between rows.
    let flat = Tensor::<B, 1>::empty([matrices.len() * rows * columns], options);
    let mut batch = lower(flat.reshape([matrices.len(), rows, columns]));
    let mut momenta = Vec::with_capacity(matrices.len());
    let mut matrices = matrices.into_iter();
    while let Some(group) = group(&mut matrices) {
        let group = group.into_iter().flatten();
        let inputs = [factor.clone(), batch].into_iter().chain(group).collect();
        let op = Momentum { momentum, nesterov, index: momenta.len() };
        let mut outputs = execute_group::<B, _, 4, 10, 34>(&op, inputs).into_iter();
        batch = outputs.next().expect("the batch");
        momenta.extend(outputs);
    }
    (lift(batch), momenta)
}

/// The new values of `weights` `[R, C]`, given their updates `[S, R, C]` (see [`MuonStep`]). They are
/// written over where nobody else holds them, many in one launch.
pub fn muon_step<B: Backend>(
    lr: f32,
    decay: f32,
    factor: &FloatTensor<B>,
    updates: Tensor<B, 3>,
    weights: Vec<FloatTensor<B>>,
) -> Vec<FloatTensor<B>> {
    let updates = lower(updates);
    let mut updated = Vec::with_capacity(weights.len());
    let mut weights = weights.into_iter();
    while let Some(group) = group(&mut weights) {
        let inputs = [factor.clone(), updates.clone()].into_iter().chain(group).collect();
        let op = MuonStep { lr, decay, index: updated.len() };
        updated.extend(execute_group::<B, _, 3, 6, 18>(&op, inputs));
    }
    updated
}

/// Whether `[f, …]` says to do nothing, for each element of `shape`.
fn skip<B: burn::tensor::backend::Backend>(
    factor: &Tensor<B, 1>,
    shape: Shape,
) -> Tensor<B, 2, burn::tensor::Bool> {
    factor.clone().narrow(0, 0, 1).lower_elem(0.0).unsqueeze::<2>().expand(shape)
}

/// Checks the inputs of an op on matrices of a batch from `index` on, each with the tensors `names`:
/// the specs of the batch and of those tensors.
fn matrices<'a, const E: usize>(
    inputs: &'a [Spec],
    index: usize,
    names: [&str; E],
) -> Result<(&'a Spec, &'a [Spec]), Mismatch> {
    let (factor, others) = factor_first(inputs)?;
    let (batch, matrices) = others.split_first().ok_or_else(|| Mismatch::new("it has no batch"))?;
    let mut axes = Axes::default();
    let [all, ..] = axes.of("batch", batch, ["S", "R", "C"])?;
    same_type(&[("factor", factor), ("batch", batch)])?;
    for (x, what) in matrices.iter().zip(names.into_iter().cycle()) {
        axes.of(what, x, ["R", "C"])?;
        same_type(&[("batch", batch), (what, x)])?;
    }
    let count = matrices.len() / E;
    let inside = index.checked_add(count).is_some_and(|end| end <= all);
    Mismatch::unless(inside && matrices.len().is_multiple_of(E), || {
        format!("`{count}` matrices from `{index}` on should be some of S = {all}")
    })?;
    Ok((batch, matrices))
}

impl<const N: usize> Op<N> for Momentum {
    const NAME: &'static str = "mixlab.momentum";
    const IN_PLACE: bool = true;
    const KERNEL: bool = true;

    fn outputs(&self, inputs: &[Spec; N], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let (batch, matrices) = matrices(inputs, self.index, ["gradient", "momentum"])?;
        let momenta = matrices.iter().skip(1).step_by(2);
        Ok(core::iter::once(batch).chain(momenta).cloned().collect())
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let factor = lift::<B, 1>(inputs[0].clone()).narrow(0, 0, 1);
        let mut batch = lift::<B, 3>(inputs[1].clone());
        let [_, r, c] = batch.dims();
        let mut momenta = Vec::new();
        for (x, index) in inputs[2..].chunks(2).zip(self.index..) {
            let [grad, before] = [0, 1].map(|i| lift::<B, 2>(x[i].clone()));
            let keep = skip(&factor, before.shape());
            let grad = grad * factor.clone().unsqueeze();
            let momentum = before.clone() * self.momentum + grad.clone();
            let update = if self.nesterov {
                grad + momentum.clone() * self.momentum
            } else {
                momentum.clone()
            };
            let update = update.mask_fill(keep.clone(), 0.0).unsqueeze();
            batch = batch.slice_assign([index..index + 1, 0..r, 0..c], update);
            momenta.push(lower(momentum.mask_where(keep, before)));
        }
        core::iter::once(lower(batch)).chain(momenta).collect()
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; N], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::momentum(self, inputs))
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
        kernel::momentum(self, inputs.into())
    }
}

impl<const N: usize> Op<N> for MuonStep {
    const NAME: &'static str = "mixlab.muon_step";
    const IN_PLACE: bool = true;
    const KERNEL: bool = true;

    fn outputs(&self, inputs: &[Spec; N], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let (_, weights) = matrices(inputs, self.index, ["weight"])?;
        Ok(weights.into())
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let factor = lift::<B, 1>(inputs[0].clone());
        let batch = lift::<B, 3>(inputs[1].clone());
        let step = |(weight, index): (&FloatTensor<B>, usize)| {
            let weight = lift::<B, 2>(weight.clone());
            let keep = skip(&factor, weight.shape());
            let update = batch.clone().narrow(0, index, 1).squeeze_dim::<2>(0);
            let next = weight.clone() - weight.clone() * self.decay - update * self.lr;
            lower(next.mask_where(keep, weight))
        };
        inputs[2..].iter().zip(self.index..).map(step).collect()
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; N], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::step(self, inputs))
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
        kernel::step(self, inputs.into())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
