//! The update for burn-flex: one pass over memory, on all cores.

use core::array;

use burn_flex::FlexTensor;

use super::AdamW;
use crate::plumbing::cpu::{Lanes, pointwise};

pub(super) fn update(op: &AdamW, inputs: &[FlexTensor; 5]) -> Vec<FlexTensor> {
    let [weight, grad, factor, m, v] = inputs;
    let factor = factor.to_contiguous().storage::<f32>()[0];
    if factor < 0.0 {
        return vec![weight.clone(), m.clone(), v.clone()];
    }
    let [first, second] = op.corrections();
    let outputs = pointwise(
        [weight, grad, m, v],
        #[inline(always)]
        |[w, g, m, v]: [Lanes; 4]| {
            let g: Lanes = array::from_fn(|i| g[i] * factor);
            let m: Lanes = array::from_fn(|i| op.beta1 * m[i] + (1.0 - op.beta1) * g[i]);
            let v: Lanes = array::from_fn(|i| op.beta2 * v[i] + (1.0 - op.beta2) * g[i] * g[i]);
            let update: Lanes =
                array::from_fn(|i| m[i] * first / ((v[i] * second).sqrt() + op.epsilon));
            [array::from_fn(|i| w[i] - w[i] * op.decay - update[i] * op.lr), m, v]
        },
    );
    outputs.into()
}
