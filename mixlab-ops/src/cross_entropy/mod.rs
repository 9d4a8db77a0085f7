//! Softmax cross-entropy from logits, in nats.
//!
//! `nll_n = log Σ_v exp(z_nv) − z_n,target`, with the maximum taken out of the sum. The gradient is
//! `g_n · (softmax(z_n) − onehot(target_n))`, without a one-hot tensor. With a cap `c`,
//! `z = c tanh(a / c)` of the logits `a` that come in, and the gradient has the factor
//! `1 − (z / c)²`: capped logits are never stored. Losses have 32 bits, whatever the logits have.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{DType, IndexingUpdateOp, Int, Shape, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Backend, Op, Spec, Tape, all, lift, lower, run};

/// Attributes of [`cross_entropy`].
#[derive(Clone, Debug, Default)]
pub struct CrossEntropy {
    /// The bound that the logits are first brought within, by `c tanh(a / c)`.
    pub softcap: Option<f32>,
}

/// The gradient of [`CrossEntropy`], of the logits, the log-sum-exp and the gradient of the losses.
#[derive(Clone, Debug, Default)]
pub struct CrossEntropyGradient {
    /// The bound of the logits.
    pub softcap: Option<f32>,
}

/// Negative log-likelihood `[N]` of each of `targets` `[N]` under `logits` `[N, V]`, in f32.
///
/// A target outside `0..V` is undefined behaviour of the backend: check the data before.
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    capped_cross_entropy(logits, targets, None)
}

/// [`cross_entropy`] of `c tanh(logits / c)` with `c` = `softcap`, if there is one.
pub fn capped_cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    softcap: Option<f32>,
) -> Tensor<B, 1> {
    let op = CrossEntropy { softcap };
    run(&op, [lower(logits)], vec![targets.into_primitive()])
}

fn attributes(softcap: Option<f32>) -> String {
    softcap.map_or_else(|| "{}".into(), |cap| format!(r#"{{"softcap":{cap:e}}}"#))
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

fn column<B: burn::tensor::backend::Backend>(targets: &[IntTensor<B>]) -> Tensor<B, 2, Int> {
    let targets = Tensor::<B, 1, Int>::from_primitive(targets[0].clone());
    targets.unsqueeze_dim(1)
}

impl Op<1> for CrossEntropy {
    const NAME: &'static str = "mixlab.cross_entropy";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        attributes(self.softcap)
    }

    fn outputs(&self, [logits]: &[Spec; 1]) -> Vec<Spec> {
        let rows = Spec { shape: Shape::new([logits.shape[0]]), dtype: DType::F32 };
        vec![rows.clone(), rows]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [logits]: [FloatTensor<B>; 1],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let z = single::<B>(logits, self.softcap);
        let max = z.clone().detach().max_dim(1);
        let log_sum_exp = (z.clone() - max.clone()).exp().sum_dim(1).log() + max;
        let nll = log_sum_exp.clone() - z.gather(1, column(ints));
        [nll, log_sum_exp].map(|t| lower(t.squeeze_dim::<1>(1))).into()
    }

    fn trim<B: burn::tensor::backend::Backend>(&self, tape: &mut Tape<B, 1>) {
        tape.outputs.remove(0);
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 1>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 1] {
        let ([z], [log_sum_exp]) = (tape.inputs(), all(tape.outputs));
        let op = CrossEntropyGradient { softcap: self.softcap };
        all(B::execute(&op, [z, log_sum_exp, grad], tape.ints))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 1], ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [z] = inputs;
        self.softcap.is_none().then(|| cpu::losses(z, &ints[0]).map(Vec::from))?
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        [z]: [CubeTensor<R>; 1],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let [targets] = all(ints);
        kernel::losses(self.softcap, z, targets)
    }
}

impl Op<3> for CrossEntropyGradient {
    const NAME: &'static str = "mixlab.cross_entropy_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        attributes(self.softcap)
    }

    fn outputs(&self, [logits, ..]: &[Spec; 3]) -> Vec<Spec> {
        vec![logits.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [z, log_sum_exp, g]: [FloatTensor<B>; 3],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = z.dtype();
        let column_of = |x| lift::<B, 1>(x).cast(DType::F32).unsqueeze_dim::<2>(1);
        let [log_sum_exp, g] = [log_sum_exp, g].map(column_of);
        let z = single::<B>(z, self.softcap);
        let softmax = (z.clone() - log_sum_exp).exp();
        let dz = (softmax * g.clone()).scatter(1, column(ints), -g, IndexingUpdateOp::Add);
        let dz = match self.softcap {
            Some(cap) => dz * (z.div_scalar(cap).square().neg().add_scalar(1.0)),
            None => dz,
        };
        vec![lower(dz.cast(dtype))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let gradient = || cpu::gradient(inputs, &ints[0]).map(|dz| vec![dz]);
        self.softcap.is_none().then(gradient)?
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let [targets] = all(ints);
        vec![kernel::gradient(self.softcap, inputs, targets)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
