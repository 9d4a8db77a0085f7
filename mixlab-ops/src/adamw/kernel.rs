//! Kernel: one unit updates one vector of elements, in place where nobody else holds the tensors.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::AdamW;
use crate::plumbing::cube::{contiguous, owned, spread, vector_size};

#[derive(CubeType, CubeLaunch)]
struct Numbers {
    lr: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    first: f32,
    second: f32,
}

#[cube(launch_unchecked)]
fn kernel<N: Size>(
    grad: &Array<Vector<f32, N>>,
    factor: &Array<f32>,
    weight: &mut Array<Vector<f32, N>>,
    m: &mut Array<Vector<f32, N>>,
    v: &mut Array<Vector<f32, N>>,
    numbers: Numbers,
) {
    let factor = factor[0];
    if ABSOLUTE_POS < weight.len() && factor >= 0.0 {
        let one = Vector::<f32, N>::new(1.0);
        let g = grad[ABSOLUTE_POS] * Vector::new(factor);
        let beta1 = Vector::new(numbers.beta1);
        let beta2 = Vector::new(numbers.beta2);
        let next_m = m[ABSOLUTE_POS] * beta1 + g * (one - beta1);
        let next_v = v[ABSOLUTE_POS] * beta2 + g * g * (one - beta2);
        let root =
            Vector::sqrt(next_v * Vector::new(numbers.second)) + Vector::new(numbers.epsilon);
        let update = next_m * Vector::new(numbers.first) / root;
        let w = weight[ABSOLUTE_POS];
        weight[ABSOLUTE_POS] =
            w - w * Vector::new(numbers.decay) - update * Vector::new(numbers.lr);
        m[ABSOLUTE_POS] = next_m;
        v[ABSOLUTE_POS] = next_v;
    }
}

pub(super) fn update<R: CubeRuntime>(op: &AdamW, inputs: [CubeTensor<R>; 5]) -> Vec<CubeTensor<R>> {
    let [weight, grad, factor, m, v] = inputs;
    let [weight, m, v] = [weight, m, v].map(owned);
    let grad = contiguous(grad);
    let size = vector_size(&weight);
    let (cubes, cube) = spread(weight.meta.num_elements() / size, 256);
    let client = weight.client.clone();
    let [first, second] = op.corrections();
    let numbers =
        NumbersLaunch::new(op.lr, op.decay, op.beta1, op.beta2, op.epsilon, first, second);
    // SAFETY: the four tensors have as many elements, and units past the end do nothing.
    unsafe {
        kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            grad.into_array_arg(),
            contiguous(factor).into_array_arg(),
            weight.clone().into_array_arg(),
            m.clone().into_array_arg(),
            v.clone().into_array_arg(),
            numbers,
        );
    }
    vec![weight, m, v]
}
