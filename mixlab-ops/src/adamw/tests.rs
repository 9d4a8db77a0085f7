use burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_flex::Flex;

use super::{AdamW, Rates, adamw};
use crate::testing::{Host, noise, with_references};
use crate::{Backend, lift, lower};

/// An update of `weights` weights, each with its own rates.
fn op(weights: usize) -> AdamW {
    let rates = |i: usize| Rates {
        lr: 0.01 * (i + 1) as f32,
        decay: if i.is_multiple_of(2) { 0.001 } else { 0.0 },
        beta1: if i.is_multiple_of(3) { 0.9 } else { 0.8 },
        bias: if i.is_multiple_of(3) { 1 } else { 2 },
    };
    AdamW { rates: (0..weights).map(rates).collect(), beta2: 0.95, epsilon: 1e-8 }
}

/// `1 − βᵗ` at the third update.
fn bias() -> Vec<f64> {
    [0.95f64, 0.9, 0.8].map(|beta| 1.0 - beta.powi(3)).into()
}

/// Weight, gradient, `m` and `v` of `count` elements.
fn state(count: usize, seed: u64) -> [Host; 4] {
    let mut state = [0, 1, 2, 3].map(|i| noise(&[count], 4 * seed + i));
    state[3].data.iter_mut().for_each(|v| *v = v.abs());
    state
}

fn updated<B: Backend>(op: &AdamW, factor: f64, states: &[[Host; 4]]) -> Vec<[Vec<f32>; 3]> {
    let tensor = |x: &[f64]| {
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        lower(Tensor::<B, 1>::from_floats(&x[..], &Default::default()))
    };
    let tensors = states.iter().map(|state| state.each_ref().map(|x| tensor(&x.data))).collect();
    let host = |x: burn_backend::tensor::FloatTensor<B>| {
        assert_eq!(x.shape().num_dims(), 1);
        lift::<B, 1>(x).into_data().to_vec().unwrap()
    };
    let step = [&tensor(&[factor, 0.0]), &tensor(&bias())];
    let updated = adamw::<B>(op, step, tensors);
    updated.into_iter().map(|x| x.map(host)).collect()
}

/// What `update` gives with the body for the CPU and with the reference.
fn both<T>(update: impl Fn() -> T) -> [T; 2] {
    [update(), with_references(update)]
}

#[test]
fn what_others_hold_stays_as_it_was() {
    let [w, g, m, v] = state(40_000, 9).map(|x| {
        let x: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
        Tensor::<Flex, 1>::from_floats(&x[..], &Default::default())
    });
    let read = |x: &Tensor<Flex, 1>| x.to_data().to_vec::<f32>().unwrap();
    let before = [&w, &m, &v].map(read);
    let step = [vec![1.0, 0.0], bias()].map(|x| {
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        lower(Tensor::<Flex, 1>::from_floats(&x[..], &Default::default()))
    });
    let held = [w.clone(), m.clone(), v.clone()];
    let updated = adamw::<Flex>(&op(1), step.each_ref(), vec![[w, g, m, v].map(lower)]);
    assert_eq!(held.each_ref().map(read), before);
    for (new, before) in updated.into_iter().flatten().zip(before) {
        assert_ne!(read(&lift(new)), before);
    }
}

#[test]
fn the_update_of_each_weight_is_that_of_the_papers() {
    // Groups of 16, of 4 and of 1.
    let states: Vec<_> = (0..21).map(|i| state(1 + 3 * i, i as u64)).collect();
    let op = op(states.len());
    for got in both(|| updated::<Flex>(&op, 0.5, &states)) {
        assert_eq!(got.len(), states.len());
        for ((state, rates), got) in states.iter().zip(&op.rates).zip(&got) {
            let [w, g, m, v] = state.each_ref().map(|x| &x.data);
            let [lr, decay, beta1] = [rates.lr, rates.decay, rates.beta1].map(f64::from);
            for i in 0..w.len() {
                let g = 0.5 * g[i];
                let m = beta1 * m[i] + (1.0 - beta1) * g;
                let v = 0.95 * v[i] + 0.05 * g * g;
                let root = (v / (1.0 - 0.95f64.powi(3))).sqrt() + 1e-8;
                let update = m / (1.0 - beta1.powi(3)) / root;
                let w = w[i] - decay * w[i] - lr * update;
                for (got, expected) in got.iter().zip([w, m, v]) {
                    let got = f64::from(got[i]);
                    // Some eight roundings of the result's own size.
                    let bound = 1e-6 * expected.abs().max(1.0);
                    assert!((got - expected).abs() < bound, "{got} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn a_negative_factor_changes_nothing() {
    let states = [state(37, 1), state(5, 2)];
    let op = op(2);
    for got in both(|| updated::<Flex>(&op, -1.0, &states)) {
        for ([w, _, m, v], got) in states.iter().zip(got) {
            let before = [w, m, v].map(|x| x.data.iter().map(|v| *v as f32).collect::<Vec<_>>());
            assert_eq!(got, before);
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use crate::testing::kernels::same_f32;
    let states = |shapes: &[&[usize]]| -> Vec<Host> {
        let states = shapes.iter().zip(1..).flat_map(|(shape, seed)| {
            let reshaped = |x| Host { shape: shape.to_vec(), ..x };
            state(shape.iter().product(), seed).map(reshaped)
        });
        states.collect()
    };
    let shapes: [&[usize]; 4] = [&[130, 64], &[1], &[3, 5], &[2, 3, 7]];
    for factor in [0.5, -1.0] {
        let factor = Host { data: vec![factor, 0.0], shape: vec![2] };
        let step = vec![factor, Host { data: bias(), shape: vec![3] }];
        for shape in shapes {
            let inputs = [step.clone(), states(&[shape])].concat();
            same_f32::<_, 6>(op(1), &inputs.try_into().ok().unwrap(), &[]);
        }
        // More than some devices bind at once.
        let inputs = [step, states(&shapes.repeat(4))].concat();
        same_f32::<_, 66>(op(16), &inputs.try_into().ok().unwrap(), &[]);
    }
}
