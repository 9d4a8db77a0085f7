use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{Linear, linear};
use crate::Precision;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::plumbing::product::RAGGED;
use crate::testing::{Host, check, noise};

fn naive([x, w]: &[Host; 2]) -> Vec<f64> {
    let [k, m] = w.shape[..] else { panic!("rank 2") };
    let cell = |row: &[f64], j: usize| (0..k).map(|i| row[i] * w.data[i * m + j]).sum::<f64>();
    x.data.chunks(k).flat_map(|row| (0..m).map(|j| cell(row, j)).collect::<Vec<_>>()).collect()
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for (n, k, m) in [(1, 1, 1), (2, 5, 3), (63, 7, 257), (257, 63, 2)] {
        let op = Linear { precision: Precision::F32, output: None };
        check(op, [noise(&[n, k], 14), noise(&[k, m], 15)], &[], naive);
    }
}

#[test]
fn bf16_rounds_the_operands_and_keeps_the_type() {
    let device = Default::default();
    let x = Tensor::<Flex, 2>::from_floats([[1.003_906_25, 2.0]], &device);
    let w = Tensor::<Flex, 2>::from_floats([[1.0], [0.0]], &device);
    let y = linear(x, w, Precision::Bf16);
    assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [1.0]);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::LinearGradient;
    use crate::testing::kernels::same;
    for (n, k, m) in [(1, 1, 1), (2, 5, 3), (63, 7, 257), (130, 64, 96)] {
        let [x, w, g] =
            [(&[n, k], 16), (&[k, m], 17), (&[n, m], 18)].map(|(s, seed)| noise(s, seed));
        same(Linear { precision: Precision::F32, output: None }, &[x.clone(), w.clone()], &[]);
        same(LinearGradient { precision: Precision::F32 }, &[x, w, g], &[]);
    }
}

/// The shapes that are no hardship for a processor that stands in for a card.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn ragged() -> impl Iterator<Item = (usize, usize, usize)> {
    let all = crate::testing::kernels::cuda();
    RAGGED.into_iter().filter(move |(n, k, m)| all || n * k * m < 1 << 18)
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn kernels_that_round_operands_equal_exact_ones_on_rounded_operands() {
    use super::LinearGradient;
    use crate::testing::kernels::{Rounding, rounding};
    use burn::tensor::DType;
    for (n, k, m) in ragged() {
        let [x, w, g] =
            [(&[n, k], 19), (&[k, m], 20), (&[n, m], 21)].map(|(s, seed)| noise(s, seed));
        // Half a step of TF32 an operand; sums of bfloat16 products differ by their order alone.
        let held = &[DType::F32, DType::F16, DType::BF16];
        for (precision, tolerance) in [(Precision::Tf32, 2e-3), (Precision::Bf16, 1e-4)] {
            let limits = Rounding { precision, tolerance, held };
            for output in [None, Some(DType::F32), Some(DType::BF16)] {
                let [op, exact] = [(precision, output), (Precision::F32, None)]
                    .map(|(precision, output)| Linear { precision, output });
                rounding(&op, &exact, &[x.clone(), w.clone()], limits);
            }
            let [op, exact] =
                [precision, Precision::F32].map(|precision| LinearGradient { precision });
            rounding(&op, &exact, &[x.clone(), w.clone(), g.clone()], limits);
        }
    }
}

/// Cut off instead of rounded, operands would be too small by 2⁻¹¹ of their size, and products of
/// positive numbers by twice that.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn tf32_operands_are_rounded_and_not_cut_off() {
    use super::LinearGradient;
    use crate::testing::kernels::bias;
    let positive = |shape: &[usize], seed| {
        let x = noise(shape, seed);
        Host { data: x.data.iter().map(|v| 1.5 + v / 2.0).collect(), shape: x.shape }
    };
    // Of whole rows of 16 bytes, and not.
    for (n, k, m) in [(64, 512, 96), (65, 257, 33)] {
        let [x, w, g] =
            [(&[n, k], 22), (&[k, m], 23), (&[n, m], 24)].map(|(s, seed)| positive(s, seed));
        let [op, exact] =
            [Precision::Tf32, Precision::F32].map(|precision| Linear { precision, output: None });
        let mut found = bias(&op, &exact, &[x.clone(), w.clone()], 0);
        let [op, exact] =
            [Precision::Tf32, Precision::F32].map(|precision| LinearGradient { precision });
        let inputs = [x, w, g];
        found.extend([0, 1].into_iter().flat_map(|n| bias(&op, &exact, &inputs, n)));
        assert!(found.iter().all(|mean| mean.abs() < 1e-4), "mean errors: {found:?}");
    }
}
