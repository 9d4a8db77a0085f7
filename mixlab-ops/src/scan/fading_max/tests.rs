use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;

use super::fading_max;
use crate::testing::{Host, noise, with_references};

fn naive(u: &Host, rate: &Host) -> Vec<f64> {
    let (t, c) = (u.shape[1], u.shape[2]);
    let mut m = u.data.clone();
    for n in (0..m.len()).filter(|n| n / c % t > 0) {
        m[n] = m[n].max(m[n - c] + rate.data[n % c]);
    }
    m
}

fn inputs(shape: [usize; 3]) -> [Host; 2] {
    let (mut u, mut rate) = (noise(&shape, 65), noise(&shape[2..], 66));
    u.data.iter_mut().for_each(|u| *u *= 50.0);
    rate.data.iter_mut().for_each(|r| *r = f64::from((0.5 * *r - 0.6) as f32));
    [u, rate]
}

fn on_flex([u, rate]: &[Host; 2]) -> Vec<f32> {
    let data = |x: &Host| {
        let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
        TensorData::new(data, x.shape.clone())
    };
    let device = Default::default();
    let u = Tensor::<Flex, 3>::from_data(data(u), &device);
    fading_max(u, Tensor::from_data(data(rate), &device)).into_data().to_vec().unwrap()
}

#[test]
fn values_are_those_of_a_naive_loop() {
    for shape in [[1, 1, 1], [3, 2, 5], [2, 63, 5], [1, 600, 3]] {
        let inputs = inputs(shape);
        let expected = naive(&inputs[0], &inputs[1]);
        let reference = with_references(|| on_flex(&inputs));
        for (what, got) in [("reference", reference), ("body", on_flex(&inputs))] {
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = (f64::from(*got) - expected).abs();
                assert!(error < 1e-4, "{what}[{i}]: {got} instead of {expected}");
            }
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernel_equals_the_reference() {
    use super::FadingMax;
    use crate::testing::kernels::same;
    for shape in [[1, 1, 1], [3, 2, 5], [2, 257, 5], [1, 700, 64], [33, 300, 132]] {
        same(FadingMax, &inputs(shape), &[]);
    }
}
