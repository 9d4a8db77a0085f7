//! Causal attention whose weights fade with distance at a rate per head, as in RetNet (Sun et al.,
//! 2023), normalised by softmax.
//!
//! `S_ij = scale · q_i·k_j − γ_h (i − j)` for `j ≤ i`, `P = softmax(mask(S))`, `y = P v`, where `i` is
//! the position of a query and the last query stands at the last key. The fading factor
//! `exp(−γ_h (i − j))` is part of the score, so nothing can overflow. The gradient is that of
//! [`attention`](fn@crate::attention), without a stored `P`, and `∂γ_h = −Σ ∂S_ij (i − j)` over batch
//! and positions.

use burn::tensor::{DType, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "cube")]
use super::kernel;
use super::{Attention, attend, attend_gradient, last, positions, scores, single};
#[cfg(feature = "cube")]
use crate::plumbing::cube::ready;
use crate::{Axes, Backend, Mismatch, Op, Precision, Spec, Tape, all, lift, lower, run, same_type};

/// Attributes of [`retention`].
#[derive(Clone, Debug)]
pub struct Retention {
    /// Factor of the dot products, usually `1/√hd`.
    pub scale: f32,
    /// What products of 32-bit inputs may round their operands to, as in
    /// [`Attention`](crate::Attention).
    pub precision: Precision,
}

/// The gradients of [`Retention`], of its inputs, its outputs and the gradient of the first output.
#[derive(Clone, Debug)]
pub struct RetentionGradient {
    /// The op whose gradients these are.
    pub of: Retention,
}

/// Causal attention of `q` `[B, H, Tq, hd]`, the last `Tq` positions of a row, over `k` and `v`
/// `[B, H, Tk, hd]`, where each position of distance lowers a score of head `h` by `decay[h]`; `decay`
/// `[H]` is used as it is.
pub fn retention<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    decay: Tensor<B, 1>,
    scale: f32,
    precision: Precision,
) -> Tensor<B, 4> {
    let inputs = [lower(q), lower(k), lower(v), lower(decay)];
    run(&Retention { scale, precision }, inputs, vec![])
}

/// `max(i − j, 0)` as `[1, 1, Tq, Tk]`, of the type of the queries `q`.
fn distances<B: burn::tensor::backend::Backend>(q: &Tensor<B, 4>, tk: usize) -> Tensor<B, 4> {
    let [rows, columns] = positions(q.dims()[2], tk, &q.device());
    let distance = rows.unsqueeze_dim::<2>(1) - columns.unsqueeze_dim::<2>(0);
    distance.clamp_min(0).float().cast(q.dtype()).unsqueeze()
}

/// Checks the inputs of the forward; the lengths of the axes of `q`.
fn axes(axes: &mut Axes, [q, k, v]: [&Spec; 3], decay: &Spec) -> Result<[usize; 4], Mismatch> {
    let lengths = axes.of("q", q, ["B", "H", "Tq", "hd"])?;
    let [_, _, keys, _] = axes.of("k", k, ["B", "H", "Tk", "hd"])?;
    axes.of("v", v, ["B", "H", "Tk", "hd"])?;
    axes.of("decay", decay, ["H"])?;
    last(lengths[2], keys)?;
    same_type(&[("q", q), ("k", k), ("v", v)])?;
    Ok(lengths)
}

impl Retention {
    /// What it is without fading.
    fn attention(&self) -> Attention {
        Attention { causal: true, scale: self.scale, precision: self.precision }
    }

    /// The masked scores and the distances that they faded with.
    fn scores<B: burn::tensor::backend::Backend>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        decay: FloatTensor<B>,
    ) -> [Tensor<B, 4>; 2] {
        let ([b, h, tq, _], tk) = (q.dims(), k.dims()[2]);
        let distances = distances(&q, tk);
        let fade = distances.clone() * lift::<B, 1>(decay).cast(DType::F32).reshape([1, h, 1, 1]);
        // Rank 2 makes the sum over the batch a plain row broadcast.
        let faded =
            scores(q, k, self.scale).reshape([b, h * tq * tk]) - fade.reshape([1, h * tq * tk]);
        [faded.reshape([b, h, tq, tk]), distances]
    }

    #[cfg(feature = "cube")]
    fn kernels<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        decay: CubeTensor<R>,
    ) -> kernel::Kernels<R> {
        kernel::Kernels::new(inputs, Some(decay), self.attention())
    }

    #[cfg(feature = "cpu")]
    fn heads(&self, inputs: [&FlexTensor; 3], decay: &FlexTensor) -> cpu::Heads {
        cpu::Heads::new(inputs, &self.attention(), decay.to_contiguous().storage().to_vec())
    }
}

impl Op<4> for Retention {
    const NAME: &'static str = "mixlab.retention";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.attention().attributes()
    }

    fn outputs(&self, [q, k, v, decay]: &[Spec; 4], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [b, h, t, _] = axes(&mut Axes::default(), [q, k, v], decay)?;
        Ok(vec![q.clone(), Spec::new([b, h, t, 1], DType::F32)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [q, k, v, decay]: [FloatTensor<B>; 4],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = q.dtype();
        let [q, k, v] = [q, k, v].map(single);
        let [s, _] = self.scores(q, k, decay);
        let [y, log_sum_exp] = attend::<B>(s, v);
        vec![lower(y.cast(dtype)), lower(log_sum_exp)]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 4>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 4] {
        let ([q, k, v, decay], [y, log_sum_exp]) = (tape.inputs(), all(tape.outputs));
        let inputs = [q, k, v, decay, y, log_sum_exp, grad];
        all(B::execute(&RetentionGradient { of: self.clone() }, inputs, vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 4], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [q, k, v, decay] = inputs;
        Some(self.heads([q, k, v], decay).forward().into())
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, inputs: &[CubeTensor<R>; 4]) -> Option<String> {
        kernel::refusal(&inputs[0])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [q, k, v, decay]: [CubeTensor<R>; 4],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        self.kernels([q, k, v], decay).forward()
    }
}

impl Op<7> for RetentionGradient {
    const NAME: &'static str = "mixlab.retention_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.of.attributes()
    }

    fn outputs(&self, inputs: &[Spec; 7], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [q, k, v, decay, y, log_sum_exp, grad] = inputs;
        let mut known = Axes::default();
        axes(&mut known, [q, k, v], decay)?;
        known.of("y", y, ["B", "H", "Tq", "hd"])?;
        known.of("log_sum_exp", log_sum_exp, ["B", "H", "Tq", "1"])?;
        known.of("grad", grad, ["B", "H", "Tq", "hd"])?;
        same_type(&[("q", q), ("y", y), ("grad", grad)])?;
        Ok(inputs[..4].to_vec())
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 7],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let types = inputs.each_ref().map(|x| x.dtype());
        let [q, k, v, decay, y, log_sum_exp, g] = inputs;
        let [q, k, v, y, log_sum_exp, g] = [q, k, v, y, log_sum_exp, g].map(single::<B>);
        let forward = &self.of;
        let [s, distances] = forward.scores(q.clone(), k.clone(), decay);
        let [ds, dv] = attend_gradient(s, v, [y, log_sum_exp], g);
        let [_, h, tq, tk] = ds.dims();
        let over_batch = ds.clone().sum_dim(0) * distances;
        let ddecay = -over_batch.reshape([h, tq * tk]).sum_dim(1).squeeze_dim::<1>(1);
        let ds = ds * self.of.scale;
        let dq = ds.clone().matmul(k);
        let dk = ds.swap_dims(2, 3).matmul(q);
        let gradients = [dq, dk, dv].into_iter().zip(types);
        let gradients = gradients.map(|(x, dtype)| lower(x.cast(dtype)));
        gradients.chain([lower(ddecay.cast(types[3]))]).collect()
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 7], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [q, k, v, decay, y, log_sum_exp, g] = inputs;
        let heads = self.of.heads([q, k, v], decay);
        Some(heads.gradient(&cpu::Saved::new([y, log_sum_exp, g])).into())
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, inputs: &[CubeTensor<R>; 7]) -> Option<String> {
        kernel::refusal(&inputs[0])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [q, k, v, decay, y, log_sum_exp, g]: [CubeTensor<R>; 7],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let dtype = decay.dtype;
        let kernels = self.of.kernels([q, k, v], decay);
        let mut gradients = kernels.gradient([y, log_sum_exp, g]);
        let ddecay = gradients.pop().map(|x| ready(x, dtype));
        gradients.into_iter().chain(ddecay).collect()
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
