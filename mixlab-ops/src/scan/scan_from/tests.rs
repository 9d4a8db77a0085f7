use super::{Recurrence, ScanFrom};
use crate::testing::{Host, check, noise};

/// `u` `[B, T, C]`, or `[B, T, Da, Db]` of matrices, its gates and the state before it.
fn inputs(of: Recurrence, shape: &[usize]) -> [Host; 3] {
    let gates = match of {
        Recurrence::Scan => &shape[2..],
        Recurrence::ScanTv => shape,
        Recurrence::MatrixScan => &shape[..3],
    };
    let mut gates = noise(gates, 61);
    gates.data.iter_mut().for_each(|g| *g = f64::from((0.5 + 0.49 * *g) as f32));
    let state: Vec<usize> = shape[..1].iter().chain(&shape[2..]).copied().collect();
    [noise(shape, 60), gates, noise(&state, 62)]
}

fn naive(of: Recurrence, [u, gate, state]: &[Host; 3]) -> Vec<f64> {
    let (t, c) = (u.shape[1], u.shape[2..].iter().product::<usize>());
    let mut h = vec![0.0; u.data.len()];
    for n in 0..h.len() {
        let g = match of {
            Recurrence::Scan => gate.data[n % c],
            Recurrence::ScanTv => gate.data[n],
            Recurrence::MatrixScan => gate.data[n / u.shape[3]],
        };
        let first = n / c % t == 0;
        let before = if first { state.data[n / (t * c) * c + n % c] } else { h[n - c] };
        let x = if of == Recurrence::MatrixScan { u.data[n] } else { (1.0 - g) * u.data[n] };
        h[n] = g * before + x;
    }
    h
}

const AVERAGES: [Recurrence; 2] = [Recurrence::Scan, Recurrence::ScanTv];

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for of in AVERAGES {
        for shape in [[1, 1, 1], [3, 2, 5], [2, 16, 5], [2, 63, 5], [1, 257, 40]] {
            check(ScanFrom { of }, inputs(of, &shape), &[], |x| naive(of, x));
        }
    }
    let of = Recurrence::MatrixScan;
    for shape in [[1, 1, 1, 1], [3, 2, 5, 4], [2, 63, 5, 1], [2, 63, 1, 5], [2, 257, 3, 7]] {
        check(ScanFrom { of }, inputs(of, &shape), &[], |x| naive(of, x));
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::ScanFromGradient;
    use crate::testing::kernels::same;
    let compare = |of, shape: &[usize]| {
        let [u, gates, state] = inputs(of, shape);
        let [h, g] = [63, 64].map(|seed| noise(shape, seed));
        same(ScanFrom { of }, &[u.clone(), gates.clone(), state.clone()], &[]);
        same(ScanFromGradient { of }, &[u, gates, state, h, g], &[]);
    };
    for of in AVERAGES {
        for shape in [[1, 1, 1], [3, 2, 5], [2, 257, 5], [33, 300, 132]] {
            compare(of, &shape);
        }
    }
    for shape in [[1, 1, 1, 1], [3, 2, 5, 4], [2, 63, 12, 1], [1, 257, 3, 16], [2, 150, 33, 68]] {
        compare(Recurrence::MatrixScan, &shape);
    }
}
