use burn::tensor::Tensor;
use burn_flex::Flex;

use super::AdamW;
use crate::testing::noise;
use crate::{Backend, Op, lift, lower};

const OP: AdamW = AdamW { lr: 0.01, decay: 0.001, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, time: 3 };

/// Weight, gradient, `m` and `v` of 37 elements.
fn state() -> [Vec<f64>; 4] {
    [1, 2, 3, 4].map(|seed| {
        noise(&[37], seed).data.iter().map(|x| if seed == 4 { x.abs() } else { *x }).collect()
    })
}

fn tensor(x: &[f64]) -> burn_backend::tensor::FloatTensor<Flex> {
    let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
    lower(Tensor::<Flex, 1>::from_floats(&x[..], &Default::default()))
}

fn updated(factor: f64, fused: bool) -> [Vec<f32>; 3] {
    let [w, g, m, v] = state();
    let inputs = [tensor(&w), tensor(&g), tensor(&[factor, 0.0]), tensor(&m), tensor(&v)];
    let outputs = match fused {
        true => Flex::execute(&OP, inputs, vec![]),
        false => OP.reference::<Flex>(inputs, &[]),
    };
    let host = |x| lift::<Flex, 1>(x).into_data().to_vec().unwrap();
    outputs.into_iter().map(host).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn the_update_is_that_of_the_papers() {
    let [w, g, m, v] = state();
    for fused in [false, true] {
        let [next, next_m, next_v] = updated(0.5, fused);
        for i in 0..w.len() {
            let g = 0.5 * g[i];
            let m = 0.9 * m[i] + 0.1 * g;
            let v = 0.95 * v[i] + 0.05 * g * g;
            let update = m / (1.0 - 0.9f64.powi(3)) / ((v / (1.0 - 0.95f64.powi(3))).sqrt() + 1e-8);
            let w = w[i] - 0.001 * w[i] - 0.01 * update;
            for (got, expected) in [(next[i], w), (next_m[i], m), (next_v[i], v)] {
                assert!((f64::from(got) - expected).abs() < 1e-6, "{got} instead of {expected}");
            }
        }
    }
}

#[test]
fn a_negative_factor_changes_nothing() {
    let [w, _, m, v] = state().map(|x| x.iter().map(|v| *v as f32).collect::<Vec<_>>());
    for fused in [false, true] {
        assert_eq!(updated(-1.0, fused), [w.clone(), m.clone(), v.clone()]);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use crate::testing::{Host, kernels::same_f32};
    for shape in [&[1][..], &[3, 5], &[130, 64], &[2, 3, 7]] {
        for factor in [0.5, -1.0] {
            let factor = Host { data: vec![factor, 0.0], shape: vec![2] };
            let mut v = noise(shape, 8);
            v.data.iter_mut().for_each(|x| *x = x.abs());
            let [w, g, m] = [5, 6, 7].map(|seed| noise(shape, seed));
            same_f32(OP, &[w, g, factor, m, v], &[]);
        }
    }
}
