//! The update for burn-flex: one pass over memory, on all cores.

use core::array;

use burn_flex::FlexTensor;

use super::{AdamW, Rates};
use crate::plumbing::cpu::{Lanes, pointwise};

/// The new weight, `m` and `v` of `[weight, gradient, m, v]`.
pub(super) fn update(
    op: &AdamW,
    rates: Rates,
    step: &[FlexTensor],
    tensors: &[FlexTensor],
) -> [FlexTensor; 3] {
    let [weight, grad, m, v] = tensors else { unreachable!("four tensors a weight") };
    let [factor, bias] = step else { unreachable!("the factor and the biases") };
    let factor = factor.to_contiguous().storage::<f32>()[0];
    if factor < 0.0 {
        return [weight, m, v].map(Clone::clone);
    }
    let Rates { lr, decay, beta1, bias: at } = rates;
    let bias = bias.to_contiguous();
    let [first, second] = [at, 0].map(|at| 1.0 / bias.storage::<f32>()[at]);
    pointwise(
        [weight, grad, m, v],
        #[inline(always)]
        |[w, g, m, v]: [Lanes; 4]| {
            let g: Lanes = array::from_fn(|i| g[i] * factor);
            let m: Lanes = array::from_fn(|i| beta1 * m[i] + (1.0 - beta1) * g[i]);
            let v: Lanes = array::from_fn(|i| op.beta2 * v[i] + (1.0 - op.beta2) * g[i] * g[i]);
            let update: Lanes =
                array::from_fn(|i| m[i] * first / ((v[i] * second).sqrt() + op.epsilon));
            [array::from_fn(|i| w[i] - w[i] * decay - update[i] * lr), m, v]
        },
    )
}
