use super::MatrixScan;
use crate::testing::{Host, check, noise};

fn naive([update, gate]: &[Host; 2]) -> Vec<f64> {
    let [_, t, da, db] = update.shape[..] else { panic!("rank 4") };
    let mut h = update.data.clone();
    for n in 0..h.len() {
        if n / (da * db) % t > 0 {
            h[n] += gate.data[n / db] * h[n - da * db];
        }
    }
    h
}

fn check_gates(shape: [usize; 4], gate: impl Fn(f64) -> f64) {
    let mut gates = noise(&shape[..3], 41);
    gates.data.iter_mut().for_each(|g| *g = f64::from(gate(*g) as f32));
    check(MatrixScan, [noise(&shape, 40), gates], &[], naive);
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for shape in
        [[1, 1, 1, 1], [3, 2, 5, 4], [2, 63, 1, 5], [2, 63, 5, 1], [2, 257, 3, 7], [1, 2, 2, 500]]
    {
        check_gates(shape, |x| 0.5 + 0.49 * x);
    }
}

#[test]
fn gates_may_be_negative_or_exceed_one() {
    check_gates([2, 63, 3, 4], |x| x);
    check_gates([2, 63, 3, 4], |x| -1.02 + 0.01 * x);
}

#[test]
fn gates_of_zero_and_one_reset_and_accumulate() {
    check_gates([2, 257, 3, 4], |x| (0.5 + 0.5 * x).round());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::MatrixScanGradient;
    use crate::testing::kernels::same;
    let shapes = [[1, 1, 1, 1], [3, 2, 5, 4], [2, 63, 1, 5], [1, 257, 3, 16], [1, 63, 2, 500]];
    for shape in shapes.into_iter().chain([[2, 150, 33, 68]]) {
        let [u, h, g] = [45, 46, 47].map(|seed| noise(&shape, seed));
        let mut gates = noise(&shape[..3], 48);
        gates.data.iter_mut().for_each(|g| *g = f64::from((*g * 0.9) as f32));
        same(MatrixScan, &[u, gates.clone()], &[]);
        same(MatrixScanGradient, &[gates, h, g], &[]);
    }
}
