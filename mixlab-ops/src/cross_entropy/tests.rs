use super::CrossEntropy;
use crate::testing::{Host, check, noise};

fn naive(z: &Host, targets: &[i64]) -> Vec<f64> {
    let rows = z.data.chunks(z.shape[1]).zip(targets);
    let loss = |(z, t): (&[f64], &i64)| match usize::try_from(*t) {
        Ok(t) if t < z.len() => z.iter().map(|v| v.exp()).sum::<f64>().ln() - z[t],
        _ => 0.0,
    };
    rows.map(loss).collect()
}

/// Logits `[6, v]` and their targets: some rows have none, and one of those is full of NaNs.
fn with_rows_to_ignore(v: usize) -> (Host, [i64; 6]) {
    let mut z = noise(&[6, v], 16);
    z.data[v..2 * v].fill(f64::NAN);
    let last = v as i64 - 1;
    (z, [0, -1, last, last + 1, i64::from(i32::MIN), i64::from(i32::MAX)])
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for (n, v) in [(1, 1), (2, 5), (63, 500), (257, 3)] {
        let targets: Vec<i64> = (0..n as i64).map(|i| (i * 7 + 3) % v as i64).collect();
        check(CrossEntropy::default(), [noise(&[n, v], 12)], &targets, |[z]| naive(z, &targets));
    }
}

#[test]
fn a_softcap_bounds_the_logits_first() {
    let cap = f64::from(0.7f32);
    let targets = [0, 3, 8, 8];
    let op = CrossEntropy { softcap: Some(cap as f32), ahead: None };
    check(op, [noise(&[4, 9], 14)], &targets, |[z]| {
        let data = z.data.iter().map(|v| cap * (v / cap).tanh()).collect();
        naive(&Host { data, ..z.clone() }, &targets)
    });
}

#[test]
fn a_row_without_a_target_has_no_loss_and_no_gradient() {
    for v in [1, 9, 500] {
        let (z, targets) = with_rows_to_ignore(v);
        check(CrossEntropy::default(), [z], &targets, |[z]| naive(z, &targets));
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let mut z = noise(&[4, 9], 13);
    z.data.iter_mut().for_each(|v| *v = *v * 4.0 + 300.0);
    check(CrossEntropy::default(), [z], &[0, 3, 8, 8], |[z]| naive(z, &[0, 3, 8, 8]));
}

#[test]
fn the_gradient_of_a_mean_is_that_of_any_other_sum() {
    use crate::{capped_cross_entropy, lower};
    use burn::backend::Autodiff;
    use burn::tensor::{Int, Tensor, Tolerance};
    type Train = Autodiff<burn_flex::Flex>;

    let device = Default::default();
    let logits: Vec<f32> = noise(&[6 * 9], 21).data.iter().map(|v| *v as f32).collect();
    let logits = Tensor::<Train, 1>::from_floats(&logits[..], &device).reshape([6, 9]);
    let targets = Tensor::<Train, 1, Int>::from_ints([0, 8, 3, 3, 1, 5], &device);
    for softcap in [None, Some(0.7)] {
        let gradient = |g: [f32; 6]| {
            let z = logits.clone().require_grad();
            let nll = capped_cross_entropy(z.clone(), targets.clone(), softcap);
            let grads = (nll * Tensor::from_floats(g, &device)).sum().backward();
            lower(z.grad(&grads).unwrap())
        };
        let z = logits.clone().require_grad();
        let mean = capped_cross_entropy(z.clone(), targets.clone(), softcap).mean();
        let mean = z.grad(&mean.backward()).unwrap();
        // Rows with the gradient of a mean and rows with another one.
        let mixed = gradient([1.0 / 6.0, 0.5, 1.0 / 6.0, 0.0, -1.0, 1.0 / 6.0]);
        let factors = Tensor::<_, 1>::from_floats([1.0, 3.0, 1.0, 0.0, -6.0, 1.0], &device);
        let expected: Tensor<burn_flex::Flex, 2> = mean * factors.unsqueeze_dim(1);
        let mixed = crate::lift::<burn_flex::Flex, 2>(mixed).into_data();
        mixed.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-7));
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernels {
    use super::{noise, with_rows_to_ignore};
    use crate::cross_entropy::{CrossEntropy, CrossEntropyGradient};
    use crate::testing::kernels::same;

    #[test]
    fn equal_the_references() {
        // The longest rows stay in shared memory on CUDA, if they are multiples of 16 bytes.
        for (n, v) in [(1, 1), (3, 5), (63, 500), (257, 3), (2, 5003), (5, 10240)] {
            let targets: Vec<i64> =
                (0..n as i64).map(|i| (i * 7919 + v as i64 - 1) % v as i64).collect();
            let z = noise(&[n, v], 15);
            for softcap in [None, Some(0.7)] {
                for ahead in [None, Some(-1.5)] {
                    let op = CrossEntropy { softcap, ahead };
                    same(op, core::array::from_ref(&z), &targets);
                }
            }
            // All rows, no row, or some rows have the expected gradient.
            let mut g = noise(&[n], 17);
            same(CrossEntropyGradient { ahead: 0.5 }, &[z.clone(), g.clone()], &[]);
            g.data.iter_mut().step_by(2).for_each(|g| *g = 0.5);
            same(CrossEntropyGradient { ahead: 0.5 }, &[z.clone(), g.clone()], &[]);
            g.data.fill(0.5);
            same(CrossEntropyGradient { ahead: 0.5 }, &[z, g], &[]);
        }
    }

    #[test]
    fn ignore_the_same_rows_as_the_references() {
        for v in [1, 9, 500, 5003, 10240] {
            let (z, targets) = with_rows_to_ignore(v);
            for softcap in [None, Some(0.7)] {
                same(
                    CrossEntropy { softcap, ahead: Some(0.5) },
                    core::array::from_ref(&z),
                    &targets,
                );
            }
        }
    }

    #[test]
    fn logits_of_any_size_do_not_overflow() {
        for offset in [300.0, -300.0] {
            let mut z = noise(&[7, 130], 18);
            z.data.iter_mut().for_each(|v| *v = *v * 30.0 + offset);
            let op = CrossEntropy { softcap: None, ahead: Some(1.0) };
            same(op, &[z], &[0, 129, 64, 3, 4, 5, 6]);
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn logits_that_someone_else_holds_stay_as_they_are() {
        use crate::{Backend, lift, lower};
        use burn::tensor::{Int, Tensor};
        type Plain = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

        let device = Default::default();
        let z = Tensor::<Plain, 2>::from_floats([[0.5, -1.0, 2.0, 0.0]; 3], &device);
        let targets = Tensor::<Plain, 1, Int>::from_ints([0, 1, 3], &device).into_primitive();
        let op = CrossEntropy { softcap: None, ahead: Some(1.0) };
        let run = |z| {
            let outputs = Plain::execute(&op, [lower(z)], vec![targets.clone()]);
            lift::<Plain, 2>(outputs.into_iter().nth(1).unwrap())
        };
        let before = z.clone().into_data();
        let kept = run(z.clone()).into_data();
        assert_eq!(z.clone().into_data(), before);
        assert_eq!(run(z).into_data(), kept);
    }
}
