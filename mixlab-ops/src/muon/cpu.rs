//! Momentum and step for burn-flex: one pass over memory, on all cores.

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;

use super::{Momentum, MuonStep};
use crate::plumbing::cpu::{Lanes, by_lane, pointwise, tensor};

fn factor(x: &FlexTensor) -> f32 {
    x.to_contiguous().storage::<f32>()[0]
}

pub(super) fn momentum(op: &Momentum, inputs: &[FlexTensor]) -> Vec<FlexTensor> {
    let (f, batch, matrices) = (factor(&inputs[0]), &inputs[1], inputs[2..].chunks(2));
    if f < 0.0 {
        return core::iter::once(batch).chain(matrices.map(|x| &x[1])).cloned().collect();
    }
    let mut updates = batch.to_contiguous().storage::<f32>().to_vec();
    let [_, r, c] = batch.shape().dims();
    let mut momenta = Vec::new();
    for (x, place) in matrices.zip(updates.chunks_mut(r * c).skip(op.index)) {
        let [update, momentum] = pointwise(
            [&x[0], &x[1]],
            #[inline(always)]
            |[g, m]: [Lanes; 2]| {
                let m: Lanes = by_lane(|i| op.momentum * m[i] + f * g[i]);
                if op.nesterov { [by_lane(|i| f * g[i] + op.momentum * m[i]), m] } else { [m, m] }
            },
        );
        place.copy_from_slice(update.storage());
        momenta.push(momentum);
    }
    core::iter::once(tensor(updates, batch.shape())).chain(momenta).collect()
}

pub(super) fn step(op: &MuonStep, inputs: &[FlexTensor]) -> Vec<FlexTensor> {
    use burn_backend::ops::FloatTensorOps;
    type Flex = burn_flex::Flex;
    let (f, batch, weights) = (factor(&inputs[0]), &inputs[1], &inputs[2..]);
    if f < 0.0 {
        return weights.to_vec();
    }
    let [_, r, c] = batch.shape().dims();
    let step = |(weight, index): (&FlexTensor, usize)| {
        let place = [index..index + 1, 0..r, 0..c].map(Into::into);
        let update = Flex::float_reshape(Flex::float_slice(batch.clone(), &place), [r, c].into());
        let [next] = pointwise(
            [weight, &update],
            #[inline(always)]
            |[w, u]: [Lanes; 2]| [by_lane(|i| w[i] - w[i] * op.decay - u[i] * op.lr)],
        );
        next
    };
    weights.iter().zip(op.index..).map(step).collect()
}
