use super::ScanTv;
use crate::testing::{Host, check, noise};

fn naive([u, gate]: &[Host; 2]) -> Vec<f64> {
    let (t, c) = (u.shape[1], u.shape[2]);
    let mut h = vec![0.0; u.data.len()];
    for n in 0..h.len() {
        let g = gate.data[n];
        let before = if n / c % t == 0 { 0.0 } else { h[n - c] };
        h[n] = g * before + (1.0 - g) * u.data[n];
    }
    h
}

fn gates(shape: &[usize], gate: impl Fn(f64) -> f64) -> Host {
    let mut gates = noise(shape, 31);
    gates.data.iter_mut().for_each(|g| *g = f64::from(gate(*g) as f32));
    gates
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for shape in [[1, 1, 1], [3, 2, 5], [2, 16, 5], [2, 63, 5], [2, 257, 1], [1, 257, 500]] {
        let gates = gates(&shape, |x| 0.5 + 0.49 * x);
        check(ScanTv, [noise(&shape, 30), gates], &[], naive);
    }
}

#[test]
fn gates_may_be_negative_or_exceed_one() {
    let shape = [2, 63, 5];
    for gate in [|x| x, |x| 1.2 * x, |x| 1.02 + 0.01 * x, |x| -1.02 + 0.01 * x] {
        check(ScanTv, [noise(&shape, 32), gates(&shape, gate)], &[], naive);
    }
}

#[test]
fn gates_next_to_one_remember_the_whole_sequence() {
    let shape = [2, 257, 5];
    for distance in [1e-3, 1e-6] {
        let gates = gates(&shape, |x| 1.0 - distance * (1.5 + x));
        check(ScanTv, [noise(&shape, 33), gates], &[], naive);
    }
}

#[test]
fn gates_of_zero_one_and_minus_one_mix() {
    let shape = [2, 257, 5];
    let gates = gates(&shape, |x| (x * 1.5).round());
    assert!([-1.0, 0.0, 1.0].iter().all(|g| gates.data.contains(g)));
    check(ScanTv, [noise(&shape, 34), gates], &[], naive);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::ScanTvGradient;
    use crate::testing::kernels::same;
    let shapes = [[1, 1, 1], [3, 2, 5], [2, 257, 5], [1, 700, 64], [2, 63, 500], [33, 300, 132]];
    for shape in shapes {
        let [u, h, g] = [35, 36, 37].map(|seed| noise(&shape, seed));
        let gates = gates(&shape, |x| 0.9 * x);
        same(ScanTv, &[u.clone(), gates.clone()], &[]);
        same(ScanTvGradient, &[u, gates, h, g], &[]);
    }
}
