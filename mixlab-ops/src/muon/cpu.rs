//! Momentum and step for burn-flex: one pass over memory, on all cores.

use core::array;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;

use super::{Momentum, MuonStep};
use crate::plumbing::cpu::{Lanes, pointwise};

type Flex = burn_flex::Flex;

fn factor(x: &FlexTensor) -> f32 {
    x.to_contiguous().storage::<f32>()[0]
}

pub(super) fn momentum(op: &Momentum, inputs: &[FlexTensor; 4]) -> Vec<FlexTensor> {
    use burn_backend::ops::FloatTensorOps;
    let [grad, f, buffer, batch] = inputs;
    let f = factor(f);
    if f < 0.0 {
        return vec![batch.clone(), buffer.clone()];
    }
    let [update, buffer] = pointwise(
        [grad, buffer],
        #[inline(always)]
        |[g, m]: [Lanes; 2]| {
            let m: Lanes = array::from_fn(|i| op.momentum * m[i] + f * g[i]);
            match op.nesterov {
                true => [array::from_fn(|i| f * g[i] + op.momentum * m[i]), m],
                false => [m, m],
            }
        },
    );
    let [r, c] = buffer.shape().dims();
    let place = [op.index..op.index + 1, 0..r, 0..c].map(Into::into);
    let update = Flex::float_reshape(update, [1, r, c].into());
    vec![Flex::float_slice_assign(batch.clone(), &place, update), buffer]
}

pub(super) fn step(op: &MuonStep, inputs: &[FlexTensor; 3]) -> FlexTensor {
    use burn_backend::ops::FloatTensorOps;
    let [weight, batch, f] = inputs;
    if factor(f) < 0.0 {
        return weight.clone();
    }
    let [_, r, c] = batch.shape().dims();
    let place = [op.index..op.index + 1, 0..r, 0..c].map(Into::into);
    let update = Flex::float_reshape(Flex::float_slice(batch.clone(), &place), [r, c].into());
    let [next] = pointwise(
        [weight, &update],
        #[inline(always)]
        |[w, u]: [Lanes; 2]| [array::from_fn(|i| w[i] - w[i] * op.decay - u[i] * op.lr)],
    );
    next
}
