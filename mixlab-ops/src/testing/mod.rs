//! Oracles for op tests: a naive f64 forward gives the values, and its central differences give
//! every gradient.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod kernels;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod nvrtc;
#[cfg(feature = "wgpu")]
mod text;

use std::cell::Cell;

use burn::backend::Autodiff;
use burn::tensor::{Int, Shape, Tensor, TensorData, TensorMetadata};
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;

use crate::{Backend, Op, Spec, lift, lower};

/// A tensor on the host.
#[derive(Clone)]
pub struct Host {
    pub data: Vec<f64>,
    pub shape: Vec<usize>,
}

/// Numbers in `[-1, 1)` from a small linear congruential generator, exact in f32.
pub fn noise(shape: &[usize], seed: u64) -> Host {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(((state >> 40) as f32) / 8_388_608.0 - 1.0)
    };
    let data = (0..shape.iter().product()).map(|_| draw()).collect();
    Host { data, shape: shape.to_vec() }
}

fn tensor<B: burn::tensor::backend::Backend>(x: &Host, device: &B::Device) -> Tensor<B, 1> {
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(data, [x.data.len()]), device)
}

fn primitive<B: burn::tensor::backend::Backend>(
    flat: Tensor<B, 1>,
    shape: &[usize],
) -> FloatTensor<B> {
    B::float_reshape(lower(flat), Shape::from(shape.to_vec()))
}

thread_local! {
    static ONLY_REFERENCES: Cell<bool> = const { Cell::new(false) };
}

/// Whether burn-flex leaves its bodies aside on this thread.
pub fn only_references() -> bool {
    ONLY_REFERENCES.get()
}

/// What `run` gives if burn-flex runs nothing but references. A second backend would do it too, and
/// take as long to compile as the first.
pub fn with_references<T>(run: impl FnOnce() -> T) -> T {
    ONLY_REFERENCES.set(true);
    let result = run();
    ONLY_REFERENCES.set(false);
    result
}

/// Checks values and gradients of `op` against `naive`, both to `1e-5` of the largest magnitude: of
/// its reference and of its body for burn-flex.
pub fn check<O: Op<N>, const N: usize>(
    op: O,
    inputs: [Host; N],
    ints: &[i64],
    naive: impl Fn(&[Host; N]) -> Vec<f64>,
) {
    let expected = Expected::of(&inputs, naive);
    with_references(|| check_on::<Flex, O, N>("reference", &op, (&inputs, ints), &expected));
    check_on::<Flex, O, N>("body", &op, (&inputs, ints), &expected);
}

/// What a naive forward gives.
struct Expected {
    values: Vec<f64>,
    /// The gradient of the output.
    weights: Host,
    /// For each input, coordinates and the gradient there.
    gradients: Vec<Vec<(usize, f64)>>,
}

impl Expected {
    fn of<const N: usize>(inputs: &[Host; N], naive: impl Fn(&[Host; N]) -> Vec<f64>) -> Self {
        let values = naive(inputs);
        let weights = noise(&[values.len()], 99);
        let loss =
            |x: &[Host; N]| -> f64 { naive(x).iter().zip(&weights.data).map(|(a, b)| a * b).sum() };
        let gradients = (0..N).map(|n| differences(n, inputs, loss)).collect();
        Self { values, weights, gradients }
    }
}

fn check_on<B: Backend, O: Op<N>, const N: usize>(
    what: &str,
    op: &O,
    (inputs, ints): (&[Host; N], &[i64]),
    expected: &Expected,
) {
    type Train<B> = Autodiff<B>;
    let device = Default::default();
    let int = (!ints.is_empty())
        .then(|| Tensor::<Train<B>, 1, Int>::from_ints(ints, &device).into_primitive());
    let int: Vec<_> = int.into_iter().collect();
    let leaves =
        inputs.each_ref().map(|x| tensor::<Train<B>>(x, &Default::default()).require_grad());
    let mut at = 0;
    let lifted = leaves.each_ref().map(|leaf| {
        at += 1;
        primitive(leaf.clone(), &inputs[at - 1].shape)
    });
    let specs = lifted.each_ref().map(Spec::of);
    let indices: Vec<Spec> = int.iter().map(Spec::of).collect();
    let declared = op.outputs(&specs, &indices).expect("inputs fit");
    let outputs = Train::<B>::execute(op, lifted, int);
    for (output, spec) in outputs.iter().zip(declared) {
        assert_eq!(output.shape(), spec.shape, "{what}: declared shape");
    }
    let y = outputs.into_iter().next().unwrap();
    let count = expected.values.len();
    let flat: Tensor<Train<B>, 1> = lift(Train::<B>::float_reshape(y, Shape::new([count])));
    let values = flat.clone().into_data().to_vec::<f32>().unwrap();
    compare(&format!("{what}: value"), &values, &expected.values);

    let grads = (flat * tensor(&expected.weights, &Default::default())).sum().backward();
    for (n, (leaf, expected)) in leaves.iter().zip(&expected.gradients).enumerate() {
        let got = leaf.grad(&grads).unwrap().into_data().to_vec::<f32>().unwrap();
        let got: Vec<f32> = expected.iter().map(|(i, _)| got[*i]).collect();
        let expected: Vec<f64> = expected.iter().map(|(_, v)| *v).collect();
        compare(&format!("{what}: gradient of input {n}"), &got, &expected);
    }
}

/// Central differences of `loss` at some coordinates of input `n`.
fn differences<const N: usize>(
    n: usize,
    inputs: &[Host; N],
    loss: impl Fn(&[Host; N]) -> f64,
) -> Vec<(usize, f64)> {
    const STEP: f64 = 1e-5;
    let count = inputs[n].data.len();
    let at = |i: usize, delta: f64| {
        let mut moved = inputs.clone();
        moved[n].data[i] += delta;
        loss(&moved)
    };
    let picked = (0..count).step_by((count / 24).max(1));
    picked.map(|i| (i, (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP))).collect()
}

fn compare(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    // Inputs have size 1: results below a hundredth of that are differences of rounded terms.
    let largest = expected.iter().fold(1e-2, |m: f64, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs() / largest;
        assert!(error <= 1e-5, "{what}[{i}]: got {g}, expected {e} (relative error {error:e})");
    }
}
