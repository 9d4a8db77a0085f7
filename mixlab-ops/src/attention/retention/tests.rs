use super::Retention;
use crate::Precision;
use crate::testing::{Host, check, noise};

fn naive([q, k, v, decay]: &[Host; 4], scale: f64) -> Vec<f64> {
    let ([b, h, tq, hd], tk) = (q.shape[..].try_into().unwrap(), k.shape[2]);
    let mut y = Vec::with_capacity(q.data.len());
    for (head, i) in (0..b * h * tq).map(|n| (n / tq, n % tq)) {
        let query = q.data[(head * tq + i) * hd..][..hd].to_vec();
        let i = i + tk - tq;
        let row = |x: &Host, at: usize| x.data[(head * tk + at) * hd..][..hd].to_vec();
        let score = |j: usize| {
            let dot: f64 = query.iter().zip(row(k, j)).map(|(a, b)| a * b).sum();
            dot * scale - decay.data[head % h] * (i - j) as f64
        };
        let scores: Vec<f64> = (0..=i).map(score).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut found = vec![0.0; hd];
        for (j, w) in weights.iter().enumerate() {
            found.iter_mut().zip(row(v, j)).for_each(|(y, v)| *y += w / total * v);
        }
        y.extend(found);
    }
    y
}

fn check_decays(shape: [usize; 4], scale: f32, decay: impl Fn(f64) -> f64) {
    check_after(0, shape, scale, decay);
}

/// As [`check_decays`], with `past` keys before the position of the first query.
fn check_after(past: usize, shape: [usize; 4], scale: f32, decay: impl Fn(f64) -> f64) {
    let mut decays = noise(&[shape[1]], 53);
    decays.data.iter_mut().for_each(|d| *d = f64::from(decay(*d) as f32));
    let [b, h, t, hd] = shape;
    let [k, v] = [51, 52].map(|seed| noise(&[b, h, past + t, hd], seed));
    let inputs = [noise(&shape, 50), k, v, decays];
    check(Retention { scale, precision: Precision::F32 }, inputs, &[], |x| {
        naive(x, f64::from(scale))
    });
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for shape in [[1, 1, 1, 1], [3, 2, 2, 5], [2, 3, 63, 5], [1, 2, 257, 4], [1, 1, 2, 500]] {
        check_decays(shape, 0.7 / (shape[3] as f32).sqrt(), |x| 0.5 + 0.45 * x);
    }
}

#[test]
fn a_few_queries_at_the_end_see_all_keys_before_them() {
    for (past, shape) in [(2, [1, 1, 1, 3]), (63, [2, 3, 5, 4]), (4, [1, 2, 66, 8])] {
        check_after(past, shape, 0.7, |x| 0.5 + 0.45 * x);
    }
}

#[test]
fn a_decay_of_zero_fades_nothing_and_a_steep_one_all_but_the_position_itself() {
    check_decays([2, 2, 63, 5], 0.7, |_| 0.0);
    check_decays([2, 2, 63, 5], 0.7, |x| 20.0 + x);
}

#[test]
fn scores_in_the_hundreds_do_not_overflow() {
    check_decays([1, 2, 33, 3], 300.0, |x| 0.5 + 0.45 * x);
}

#[test]
fn without_decay_it_is_attention() {
    use burn::tensor::{Tensor, Tolerance};
    use burn_flex::Flex;

    let device = Default::default();
    let random =
        || Tensor::<Flex, 4>::random([2, 2, 9, 4], burn::tensor::Distribution::Default, &device);
    let (q, k, v) = (random(), random(), random());
    let exact = Precision::F32;
    let plain = crate::attention(q.clone(), k.clone(), v.clone(), 0.5, exact);
    let faded = super::retention([q, k, v], Tensor::zeros([2], &device), 0.5, exact);
    faded.into_data().assert_approx_eq::<f32>(&plain.into_data(), Tolerance::default());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::RetentionGradient;
    use crate::testing::kernels::{near, outputs, same};
    for (past, [b, h, t, hd]) in
        [(0, [1, 1, 1, 1]), (0, [3, 2, 70, 5]), (0, [1, 2, 70, 40]), (130, [2, 2, 67, 12])]
    {
        let [q, y, g] = [54, 57, 58].map(|seed| noise(&[b, h, t, hd], seed));
        let [k, v] = [55, 56].map(|seed| noise(&[b, h, past + t, hd], seed));
        let mut decay = noise(&[h], 59);
        decay.data.iter_mut().for_each(|d| *d = f64::from((0.25 + 0.2 * *d) as f32));
        let scale = 0.7 / (hd as f32).sqrt();
        let inputs = [q.clone(), k.clone(), v.clone(), decay.clone()];
        let of = Retention { scale, precision: Precision::F32 };
        same(of.clone(), &inputs, &[]);
        // The one input that is not free: weights must sum to one.
        let Some(found) = outputs(of.clone(), &inputs).pop() else { return };
        let log_sum_exp = Host {
            data: found[1].iter().map(|x| f64::from(*x)).collect(),
            shape: vec![b, h, t, 1],
        };
        let inputs = [q, k, v, decay, y, log_sum_exp, g];
        same(RetentionGradient { of: of.clone() }, &inputs, &[]);
        let of = Retention { precision: Precision::Tf32, ..of };
        near(RetentionGradient { of: of.clone() }, &inputs);
        let [q, k, v, decay, ..] = inputs;
        near(of, &[q, k, v, decay]);
    }
}
