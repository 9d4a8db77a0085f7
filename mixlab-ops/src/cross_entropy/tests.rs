use super::CrossEntropy;
use crate::testing::{Host, check, noise};

fn naive(z: &Host, targets: &[i64]) -> Vec<f64> {
    let rows = z.data.chunks(z.shape[1]).zip(targets);
    rows.map(|(z, t)| z.iter().map(|v| v.exp()).sum::<f64>().ln() - z[*t as usize]).collect()
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
    let op = CrossEntropy { softcap: Some(cap as f32) };
    check(op, [noise(&[4, 9], 14)], &targets, |[z]| {
        let data = z.data.iter().map(|v| cap * (v / cap).tanh()).collect();
        naive(&Host { data, ..z.clone() }, &targets)
    });
}

#[test]
fn large_logits_do_not_overflow() {
    let mut z = noise(&[4, 9], 13);
    z.data.iter_mut().for_each(|v| *v = *v * 4.0 + 300.0);
    check(CrossEntropy::default(), [z], &[0, 3, 8, 8], |[z]| naive(z, &[0, 3, 8, 8]));
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernels {
    use super::{Host, noise};
    use crate::cross_entropy::{CrossEntropy, CrossEntropyGradient};
    use crate::testing::kernels::same;

    /// Log-sum-exp like numbers and gradients for the rows of `z`.
    fn beside(z: &Host) -> [Host; 2] {
        let rows = z.shape[0];
        let mut total = noise(&[rows], 16);
        total.data.iter_mut().for_each(|v| *v += 3.0);
        [total, noise(&[rows], 17)]
    }

    #[test]
    fn equal_the_references() {
        for (n, v) in [(1, 1), (3, 5), (63, 500), (257, 3), (2, 5003), (5, 10240)] {
            let targets: Vec<i64> =
                (0..n as i64).map(|i| (i * 7919 + v as i64 - 1) % v as i64).collect();
            let z = noise(&[n, v], 15);
            let [total, g] = beside(&z);
            for softcap in [None, Some(0.7)] {
                let inputs = [z.clone(), total.clone(), g.clone()];
                same(CrossEntropyGradient { softcap }, &inputs, &targets);
                let [z, ..] = inputs;
                same(CrossEntropy { softcap }, &[z], &targets);
            }
        }
    }

    #[test]
    fn logits_of_any_size_do_not_overflow() {
        for offset in [300.0, -300.0] {
            let mut z = noise(&[7, 130], 18);
            z.data.iter_mut().for_each(|v| *v = *v * 30.0 + offset);
            same(CrossEntropy::default(), &[z], &[0, 129, 64, 3, 4, 5, 6]);
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
        let [total, g] = [2.5, 1.0].map(|v| Tensor::<Plain, 1>::full([3], v, &device));
        let targets = Tensor::<Plain, 1, Int>::from_ints([0, 1, 3], &device).into_primitive();
        let op = CrossEntropyGradient::default();
        let run = |z| {
            let inputs = [lower(z), lower(total.clone()), lower(g.clone())];
            lift::<Plain, 2>(Plain::execute(&op, inputs, vec![targets.clone()]).pop().unwrap())
        };
        let before = z.clone().into_data();
        let kept = run(z.clone()).into_data();
        assert_eq!(z.clone().into_data(), before);
        assert_eq!(run(z).into_data(), kept);
    }
}
