//! Softmax cross-entropy from logits, in nats.
//!
//! `nll_n = log Σ_v exp(z_nv) − z_n,target`, with the maximum taken out of the sum. The gradient is
//! `g_n · (softmax(z_n) − onehot(target_n))`, without a one-hot tensor.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::{IndexingUpdateOp, Int, Shape, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Backend, Op, Spec, Tape, all, lift, lower};

/// [`cross_entropy`] has no attributes.
#[derive(Clone, Debug)]
pub struct CrossEntropy;

/// The gradient of [`CrossEntropy`], of the logits, the log-sum-exp and the gradient of the losses;
/// no attributes.
#[derive(Clone, Debug)]
pub struct CrossEntropyGradient;

/// Negative log-likelihood `[N]` of each of `targets` `[N]` under `logits` `[N, V]`.
///
/// A target outside `0..V` is undefined behaviour of the backend: check the data before.
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    let outputs = B::execute(&CrossEntropy, [lower(logits)], vec![targets.into_primitive()]);
    lift(outputs.into_iter().next().expect("two outputs"))
}

fn column<B: burn::tensor::backend::Backend>(targets: &[IntTensor<B>]) -> Tensor<B, 2, Int> {
    let targets = Tensor::<B, 1, Int>::from_primitive(targets[0].clone());
    targets.unsqueeze_dim(1)
}

impl Op<1> for CrossEntropy {
    const NAME: &'static str = "mixlab.cross_entropy";
    const GRADIENT: bool = true;

    fn outputs(&self, [logits]: &[Spec; 1]) -> Vec<Spec> {
        let rows = Spec { shape: Shape::new([logits.shape[0]]), dtype: logits.dtype };
        vec![rows.clone(), rows]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [logits]: [FloatTensor<B>; 1],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let z = lift::<B, 2>(logits);
        let max = z.clone().detach().max_dim(1);
        let log_sum_exp = (z.clone() - max.clone()).exp().sum_dim(1).log() + max;
        let nll = log_sum_exp.clone() - z.gather(1, column(ints));
        [nll, log_sum_exp].map(|t| lower(t.squeeze_dim::<1>(1))).into()
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 1>, grad: FloatTensor<B>) -> [FloatTensor<B>; 1] {
        let ([z], [_, log_sum_exp]) = (tape.inputs, all(tape.outputs));
        all(B::execute(&CrossEntropyGradient, [z, log_sum_exp, grad], tape.ints))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 1], ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        cpu::losses(&inputs[0], &ints[0]).map(Vec::from)
    }
}

impl Op<3> for CrossEntropyGradient {
    const NAME: &'static str = "mixlab.cross_entropy_gradient";

    fn outputs(&self, [logits, ..]: &[Spec; 3]) -> Vec<Spec> {
        vec![logits.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [z, log_sum_exp, g]: [FloatTensor<B>; 3],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [log_sum_exp, g] = [log_sum_exp, g].map(|x| lift::<B, 1>(x).unsqueeze_dim::<2>(1));
        let softmax = (lift::<B, 2>(z) - log_sum_exp).exp();
        let target = column(ints);
        vec![lower((softmax * g.clone()).scatter(1, target, -g, IndexingUpdateOp::Add))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        cpu::gradient(inputs, &ints[0]).map(|dz| vec![dz])
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
