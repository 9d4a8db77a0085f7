use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{Linear, Precision, linear};
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
