//! The update for burn-flex: one pass over memory, on all cores, in place.

use burn_flex::FlexTensor;

use super::{AdamW, Rates};
use crate::plumbing::cpu::{Lanes, TASK, in_place, parallel, whole, wide};

/// Some elements of a weight, of `m` and `v`, and of the gradient.
struct Part<'a> {
    rates: Rates,
    state: [&'a mut [f32]; 3],
    grad: &'a [f32],
}

/// The new weights, `m` and `v` of `[weight, gradient, m, v]` each, in the memory of the old ones unless
/// others read that.
pub(super) fn update(op: &AdamW, inputs: impl IntoIterator<Item = FlexTensor>) -> Vec<FlexTensor> {
    let mut inputs = inputs.into_iter().map(whole);
    let [factor, bias] = [(); 2].map(|()| inputs.next().expect("the factor and the biases"));
    let (mut states, mut grads) = (Vec::new(), Vec::new());
    while let Some(weight) = inputs.next() {
        let [grad, m, v] = [(); 3].map(|()| inputs.next().expect("four tensors a weight"));
        states.push([weight, m, v]);
        grads.push(grad);
    }
    let factor = factor.storage::<f32>()[0];
    if factor >= 0.0 {
        let bias = bias.storage::<f32>();
        let parts = states.iter_mut().zip(&grads).zip(&op.rates).flat_map(parts);
        parallel(parts.collect(), |part| {
            wide(
                #[inline(always)]
                || op.update_part(factor, bias, part),
            )
        });
    }
    states.into_iter().flatten().collect()
}

/// A weight cut into parts.
fn parts<'a>(
    ((state, grad), rates): ((&'a mut [FlexTensor; 3], &'a FlexTensor), &Rates),
) -> impl Iterator<Item = Part<'a>> {
    let [weight, m, v] = state.each_mut().map(|x| x.storage_mut::<f32>().chunks_mut(TASK));
    let (grads, rates) = (grad.storage::<f32>().chunks(TASK), *rates);
    let parts = weight.zip(m).zip(v).zip(grads);
    parts.map(move |(((weight, m), v), grad)| Part { rates, state: [weight, m, v], grad })
}

impl AdamW {
    #[inline(always)]
    fn update_part(&self, factor: f32, bias: &[f32], part: Part<'_>) {
        let Rates { lr, decay, beta1, bias: at } = part.rates;
        let (first, second) = (1.0 / bias[at], 1.0 / bias[0]);
        in_place(
            part.state,
            [part.grad],
            #[inline(always)]
            |[w, m, v]: [Lanes; 3], [g]: [Lanes; 1]| {
                let mut next = [w, m, v];
                for i in 0..g.len() {
                    let g = g[i] * factor;
                    let m = beta1 * m[i] + (1.0 - beta1) * g;
                    let v = self.beta2 * v[i] + (1.0 - self.beta2) * g * g;
                    let update = m * first / ((v * second).sqrt() + self.epsilon);
                    next[0][i] = w[i] - w[i] * decay - update * lr;
                    next[1][i] = m;
                    next[2][i] = v;
                }
                next
            },
        );
    }
}
