use burn::tensor::Tensor;
use burn_flex::Flex;

use super::clip_factor;
use crate::lower;

fn factor(grads: &[&[f32]], bound: Option<f32>) -> Vec<f32> {
    let device = Default::default();
    let grads: Vec<_> =
        grads.iter().map(|g| lower(Tensor::<Flex, 1>::from_floats(*g, &device))).collect();
    clip_factor::<Flex>(grads.iter(), bound).unwrap().into_data().to_vec().unwrap()
}

#[test]
fn the_factor_brings_a_norm_above_the_bound_down_to_it() {
    let [factor, norm] = factor(&[&[3.0], &[4.0, 0.0]], Some(1.0))[..] else { panic!() };
    assert_eq!(norm, 5.0);
    assert!((factor - 0.2).abs() < 1e-6);
}

#[test]
fn every_element_of_every_gradient_counts_whatever_the_sizes() {
    for count in [1, 3, 4, 17, 40] {
        let grads: Vec<Vec<f32>> = (0..count).map(|n| vec![0.5; 1 + n * 1999]).collect();
        let elements: usize = grads.iter().map(Vec::len).sum();
        let grads: Vec<&[f32]> = grads.iter().map(Vec::as_slice).collect();
        let norm = factor(&grads, None)[1];
        let expected = 0.5 * (elements as f32).sqrt();
        assert!((norm / expected - 1.0).abs() < 1e-6, "{count}: {norm} instead of {expected}");
    }
}

#[test]
fn a_smaller_norm_and_no_bound_leave_gradients_alone() {
    assert_eq!(factor(&[&[3.0, 4.0]], Some(6.0)), [1.0, 5.0]);
    assert_eq!(factor(&[&[3.0, 4.0]], None), [1.0, 5.0]);
}

#[test]
fn a_gradient_that_is_not_finite_is_told_by_a_negative_factor() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for bound in [Some(1.0), None] {
            assert_eq!(factor(&[&[1.0], &[bad, 2.0]], bound)[0], -1.0);
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::{ClipFactor, PARTS, SquareSum};
    use crate::testing::{
        Host,
        kernels::{outputs, same_f32},
        noise,
    };
    let mut parts = noise(&[PARTS], 1);
    parts.data.iter_mut().for_each(|x| *x = x.abs());
    for bound in [0.5, f32::INFINITY] {
        same_f32(ClipFactor { bound }, &[parts.clone()], &[]);
    }
    let nan = Host { data: vec![f64::NAN; PARTS], shape: vec![PARTS] };
    for got in outputs(ClipFactor { bound: 1.0 }, &[nan]) {
        assert_eq!(got[0][0], -1.0);
    }
    // Together more than some devices bind at once.
    let tensors: Vec<Host> = [&[1][..], &[3, 5], &[257, 130], &[2, 3, 7]]
        .repeat(9)
        .into_iter()
        .zip(2..)
        .map(|(shape, seed)| noise(shape, seed))
        .collect();
    // The kernel spreads what the reference adds to the first part: only the totals agree.
    let squares = |x: &Host| x.data.iter().map(|v| v * v).sum::<f64>();
    let total = |got: &[f32]| got.iter().map(|v| f64::from(*v)).sum::<f64>();
    let before: f64 = parts.data.iter().sum();
    let check = |found: Vec<Vec<Vec<f32>>>, tensors: &[Host]| {
        let expected = before + tensors.iter().map(squares).sum::<f64>();
        for got in found {
            let sum = total(&got[0]);
            assert!((sum - expected).abs() <= 1e-5 * expected, "{sum} instead of {expected}");
        }
    };
    for x in &tensors[..4] {
        check(outputs(SquareSum, &[parts.clone(), x.clone()]), core::slice::from_ref(x));
    }
    let inputs = [vec![parts.clone()], tensors.clone()].concat();
    check(outputs::<_, 37>(SquareSum, &inputs.try_into().ok().unwrap()), &tensors);
}
