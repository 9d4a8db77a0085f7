//! Softmax cross-entropy from logits, in nats.
//!
//! `nll_n = log Σ_v exp(z_nv) − z_n,target`, with the maximum taken out of the sum. The gradient is
//! `g_n · (softmax(z_n) − onehot(target_n))`, without a one-hot tensor. With a cap `c`,
//! `z = c tanh(a / c)` of the logits `a` that come in, and the gradient has the factor
//! `1 − (z / c)²`: capped logits are never stored. Losses have 32 bits, whatever the logits have.
//!
//! Logits are the largest tensor of a small model. In training the forward, which has just read a row,
//! puts the gradient for `g_n = 1/N`, that of a mean, in its place; the backward multiplies the rows
//! whose `g_n` turns out to be another.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::plumbing::indices::within;
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, indices, lift, lower, run};

/// Attributes of [`cross_entropy`].
#[derive(Clone, Debug, Default)]
pub struct CrossEntropy {
    /// The bound that the logits are first brought within, by `c tanh(a / c)`.
    pub softcap: Option<f32>,
    /// If given, the gradient of the logits comes with the losses, for losses that all have this
    /// gradient: `1/N` under a mean.
    pub ahead: Option<f32>,
}

/// The gradient of the logits `[N, V]`, of what [`CrossEntropy`] computed ahead and the gradient of the
/// losses `[N]`.
#[derive(Clone, Debug)]
pub struct CrossEntropyGradient {
    /// The gradient of the losses that it was computed for.
    pub ahead: f32,
}

/// Negative log-likelihood `[N]` of each of `targets` `[N]` under `logits` `[N, V]`, in f32.
///
/// A target outside `0..V`, like −1, stands for none: its loss is 0, and so is the gradient of its
/// logits. A mean over the losses still counts it.
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    capped_cross_entropy(logits, targets, None)
}

/// [`cross_entropy`] of `c tanh(logits / c)` with `c` = `softcap`, if there is one.
pub fn capped_cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    softcap: Option<f32>,
) -> Tensor<B, 1> {
    let op = CrossEntropy { softcap, ahead: None };
    run(&op, [lower(logits)], vec![targets.into_primitive()])
}

/// `logits` in f32, within ±`softcap` if there is one.
fn single<B: burn::tensor::backend::Backend>(
    logits: FloatTensor<B>,
    softcap: Option<f32>,
) -> Tensor<B, 2> {
    let z = lift::<B, 2>(logits).cast(DType::F32);
    match softcap {
        Some(cap) => z.div_scalar(cap).tanh().mul_scalar(cap),
        None => z,
    }
}

impl Op<1> for CrossEntropy {
    const NAME: &'static str = "mixlab.cross_entropy";
    const GRADIENT: bool = true;
    const KEEPS: [bool; 1] = [false];
    const KEEPS_OUTPUT: bool = false;
    const IN_PLACE: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.softcap.map_or_else(|| "{}".into(), |cap| format!(r#"{{"softcap":{cap:e}}}"#))
    }

    fn outputs(&self, [logits]: &[Spec; 1], ints: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        let [n, _] = axes.of("logits", logits, ["N", "V"])?;
        let [targets] = indices(ints)?;
        axes.of("targets", targets, ["N"])?;
        let nll = Spec::new([n], DType::F32);
        Ok(core::iter::once(nll).chain(self.ahead.map(|_| logits.clone())).collect())
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [logits]: [FloatTensor<B>; 1],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = logits.dtype();
        let z = single::<B>(logits, self.softcap);
        let max = z.clone().detach().max_dim(1);
        let log_sum_exp = (z.clone() - max.clone()).exp().sum_dim(1).log() + max;
        let shape = z.dims();
        let (targets, none) = within::<B>(&ints[0], shape[1]);
        let (targets, none) = (targets.unsqueeze_dim::<2>(1), none.unsqueeze_dim::<2>(1));
        let nll = log_sum_exp.clone() - z.clone().gather(1, targets.clone());
        let nll = nll.mask_fill(none.clone(), 0.0);
        let gradient = |g: f32| {
            let softmax = (z.clone() - log_sum_exp).exp();
            let minus = nll.full_like(-g);
            let dz = (softmax * g).scatter(1, targets, minus, IndexingUpdateOp::Add);
            let dz = match self.softcap {
                Some(cap) => dz * (z.div_scalar(cap).square().neg().add_scalar(1.0)),
                None => dz,
            };
            lower(dz.mask_fill(none.expand(shape), 0.0).cast(dtype))
        };
        let dz = self.ahead.map(gradient);
        core::iter::once(lower(nll.squeeze_dim::<1>(1))).chain(dz).collect()
    }

    fn recorded(&self, [logits]: &[Spec; 1]) -> Self {
        // Gradients under a mean of many are too small for f16.
        let ahead = match logits.dtype {
            DType::F16 => 1.0,
            _ => (1.0 / logits.shape[0] as f64) as f32,
        };
        Self { ahead: Some(ahead), ..self.clone() }
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 1>, grad: FloatTensor<B>) -> [FloatTensor<B>; 1] {
        let [dz] = all(tape.outputs);
        let op = CrossEntropyGradient { ahead: self.ahead.expect("recorded with it") };
        all(B::execute(&op, [dz, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 1], ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [z] = inputs;
        self.softcap.is_none().then(|| cpu::losses(z, &ints[0], self.ahead))?
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [z]: [CubeTensor<R>; 1],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let [targets] = all(ints);
        kernel::losses(self, z, targets)
    }
}

impl Op<2> for CrossEntropyGradient {
    const NAME: &'static str = "mixlab.cross_entropy_gradient";
    const IN_PLACE: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"ahead":{:e}}}"#, self.ahead)
    }

    fn outputs(&self, [dz, grad]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("dz", dz, ["N", "V"])?;
        axes.of("grad", grad, ["N"])?;
        Ok(vec![dz.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [dz, g]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = dz.dtype();
        let factor = lift::<B, 1>(g).cast(DType::F32).div_scalar(self.ahead);
        let dz = lift::<B, 2>(dz).cast(DType::F32) * factor.unsqueeze_dim(1);
        vec![lower(dz.cast(dtype))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::gradient(self.ahead, inputs)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::gradient(self.ahead, inputs)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
