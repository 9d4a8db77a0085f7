//! Softmax cross-entropy from logits, in nats.
//!
//! `nll_n = log Σ_v exp(z_nv) − z_n,target`, with the maximum taken out of the sum. The gradient is
//! `g_n · (softmax(z_n) − onehot(target_n))`, without a one-hot tensor.

use burn::tensor::{IndexingUpdateOp, Int, Shape, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::{Backend, Op, Spec, Tape, lift, lower};

/// [`cross_entropy`] has no attributes.
#[derive(Clone, Debug)]
pub struct CrossEntropy;

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
        let [z] = tape.inputs.map(lift::<B, 2>);
        let log_sum_exp = lift::<B, 1>(tape.outputs[1].clone()).unsqueeze_dim(1);
        let g = lift::<B, 1>(grad).unsqueeze_dim::<2>(1);
        let softmax = (z - log_sum_exp).exp();
        let target = column(&tape.ints);
        [lower((softmax * g.clone()).scatter(1, target, -g, IndexingUpdateOp::Add))]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
