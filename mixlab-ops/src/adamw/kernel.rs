//! Kernel: one unit updates one vector of elements of one of the tensors, in place where nobody
//! else holds them.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::AdamW;
use crate::all;
use crate::plumbing::cube::{contiguous, flat_vector_size, narrow, owned, per_launch, spread};

/// What the kernel knows of one tensor.
#[derive(CubeType, CubeLaunch)]
struct Numbers {
    lr: f32,
    decay: f32,
    beta1: f32,
    /// Place of `1−β₁ᵗ`.
    bias: u32,
}

/// What it knows of all.
#[derive(CubeType, CubeLaunch)]
struct Common {
    beta2: f32,
    epsilon: f32,
}

#[cube(launch_unchecked)]
fn kernel<N: Size>(
    grads: &Sequence<Array<Vector<f32, N>>>,
    factor: &Array<f32>,
    bias: &Array<f32>,
    weights: &mut Sequence<Array<Vector<f32, N>>>,
    firsts: &mut Sequence<Array<Vector<f32, N>>>,
    seconds: &mut Sequence<Array<Vector<f32, N>>>,
    each: &Sequence<Numbers>,
    common: Common,
    #[comptime] count: usize,
) {
    let factor = factor[0];
    let one = Vector::<f32, N>::new(1.0);
    let beta2 = Vector::new(common.beta2);
    let second = Vector::new(1.0 / bias[0]);
    // The tensors lie one after the other: of the tensors before its own a unit is past the end,
    // after its own it wraps around to a large number.
    let mut at = ABSOLUTE_POS;
    #[unroll]
    for k in 0..count {
        let weight = weights.index_mut(k);
        if at < weight.len() && factor >= 0.0 {
            let numbers = each.index(k);
            let (m, v) = (firsts.index_mut(k), seconds.index_mut(k));
            let beta1 = Vector::new(numbers.beta1);
            let g = grads.index(k)[at] * Vector::new(factor);
            let next_m = m[at] * beta1 + g * (one - beta1);
            let next_v = v[at] * beta2 + g * g * (one - beta2);
            let root = Vector::sqrt(next_v * second) + Vector::new(common.epsilon);
            let first = Vector::new(1.0 / bias[numbers.bias as usize]);
            let update = next_m * first / root;
            let w = weight[at];
            weight[at] = w - w * Vector::new(numbers.decay) - update * Vector::new(numbers.lr);
            m[at] = next_m;
            v[at] = next_v;
        }
        at -= weight.len();
    }
}

/// The new weight, `m` and `v` of each `[weight, gradient, m, v]` after factor and biases.
pub(super) fn update<R: CubeRuntime>(op: &AdamW, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
    let mut inputs = inputs.into_iter();
    let factor = contiguous(inputs.next().expect("the factor"));
    let bias = contiguous(inputs.next().expect("the biases"));
    let client = factor.client.clone();
    let mut updated = Vec::with_capacity(3 * op.rates.len());
    for rates in op.rates.chunks(per_launch(&factor, 4, 2)) {
        let [mut grads, mut weights, mut firsts, mut seconds] =
            [(); 4].map(|()| SequenceArg::new());
        let mut each = SequenceArg::new();
        let (mut size, mut count) = (usize::MAX, 0);
        for rate in rates {
            let [weight, grad, m, v] = all(inputs.by_ref().take(4).collect());
            let [weight, m, v] = [weight, m, v].map(owned);
            size = size.min(flat_vector_size(&weight));
            count += weight.meta.num_elements();
            each.push(NumbersLaunch::new(rate.lr, rate.decay, rate.beta1, narrow(rate.bias)));
            grads.push(contiguous(grad).into_array_arg());
            weights.push(weight.clone().into_array_arg());
            firsts.push(m.clone().into_array_arg());
            seconds.push(v.clone().into_array_arg());
            updated.extend([weight, m, v]);
        }
        let (cubes, cube) = spread(count / size, 256);
        // SAFETY: the four tensors of a weight have as many elements, units past the end do nothing,
        // and the caller promises a bias at each place.
        unsafe {
            kernel::launch_unchecked::<R>(
                &client,
                cubes,
                cube,
                size,
                grads,
                factor.clone().into_array_arg(),
                bias.clone().into_array_arg(),
                weights,
                firsts,
                seconds,
                each,
                CommonLaunch::new(op.beta2, op.epsilon),
                rates.len(),
            );
        }
    }
    updated
}
