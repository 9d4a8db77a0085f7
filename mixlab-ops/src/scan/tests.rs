use super::Scan;
use crate::testing::{Host, check, noise};

fn naive([u, gate]: &[Host; 2]) -> Vec<f64> {
    let (t, c) = (u.shape[1], u.shape[2]);
    let mut h = vec![0.0; u.data.len()];
    for n in 0..h.len() {
        let g = gate.data[n % c];
        let before = if n / c % t == 0 { 0.0 } else { h[n - c] };
        h[n] = g * before + (1.0 - g) * u.data[n];
    }
    h
}

fn gates(c: usize, gate: impl Fn(f64) -> f64) -> Host {
    let mut gates = noise(&[c], 21);
    gates.data.iter_mut().for_each(|g| *g = f64::from(gate(*g) as f32));
    gates
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for (b, t, c) in [(1, 1, 1), (3, 2, 5), (2, 16, 5), (2, 63, 5), (2, 257, 1), (1, 257, 500)] {
        let gates = gates(c, |x| 0.5 + 0.49 * x);
        check(Scan, [noise(&[b, t, c], 20), gates], &[], naive);
    }
}

#[test]
fn gates_next_to_one_remember_the_whole_sequence() {
    for distance in [1e-3, 1e-6] {
        let gates = gates(5, |x| 1.0 - distance * (1.5 + x));
        check(Scan, [noise(&[2, 257, 5], 22), gates], &[], naive);
    }
}

#[test]
fn gates_next_to_zero_forget_at_once() {
    for size in [1e-3, 1e-30] {
        check(Scan, [noise(&[2, 63, 5], 23), gates(5, |x| size * (1.5 + x))], &[], naive);
    }
}

#[test]
fn gates_of_zero_and_one_have_finite_gradients() {
    let gates = Host { data: vec![0.0, 1.0, 0.5], shape: vec![3] };
    check(Scan, [noise(&[2, 257, 3], 24), gates], &[], naive);
}

#[test]
fn a_gate_of_zero_passes_the_input_and_a_gate_of_one_blocks_it() {
    use burn::tensor::{Distribution, Tensor};
    use burn_flex::Flex;

    let device = Default::default();
    let u = Tensor::<Flex, 3>::random([2, 300, 4], Distribution::Default, &device);
    let passed = super::scan(u.clone(), Tensor::zeros([4], &device));
    passed.into_data().assert_eq(&u.clone().into_data(), true);
    let blocked = super::scan(u.clone(), Tensor::ones([4], &device));
    blocked.into_data().assert_eq(&u.zeros_like().into_data(), true);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::ScanGradient;
    use crate::testing::kernels::same;
    let shapes = [[1, 1, 1], [3, 2, 5], [2, 257, 5], [1, 700, 64], [2, 63, 500], [33, 300, 132]];
    for shape in shapes {
        let [u, h, g] = [25, 26, 27].map(|seed| noise(&shape, seed));
        let gates = gates(shape[2], |x| 0.5 + 0.49 * x);
        same(Scan, &[u.clone(), gates.clone()], &[]);
        same(ScanGradient, &[u, gates, h, g], &[]);
    }
}
