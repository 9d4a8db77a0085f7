use super::Attention;
use crate::Precision;
use crate::testing::{Host, check, noise};

const EXACT: Precision = Precision::F32;

fn naive([q, k, v]: &[Host; 3], op: &Attention) -> Vec<f64> {
    let [b, h, tq, hd] = q.shape[..] else { panic!("rank 4") };
    let [_, hk, tk, _] = k.shape[..] else { panic!("rank 4") };
    let mut y = Vec::with_capacity(q.data.len());
    for (batch, head, i) in (0..b * h * tq).map(|n| (n / tq / h, n / tq % h, n % tq)) {
        let row = |x: &[f64], at: usize| x[at * hd..(at + 1) * hd].to_vec();
        let query = row(&q.data, (batch * h + head) * tq + i);
        let first = (batch * hk + head * hk / h) * tk;
        let scale = f64::from(op.scale);
        let dot = |key: Vec<f64>| query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale;
        let seen = if op.causal { tk - tq + i + 1 } else { tk };
        let weights: Vec<f64> = (0..seen).map(|j| dot(row(&k.data, first + j)).exp()).collect();
        let total: f64 = weights.iter().sum();
        y.extend((0..hd).map(|c| {
            let found = weights.iter().enumerate().map(|(j, w)| w * v.data[(first + j) * hd + c]);
            found.sum::<f64>() / total
        }));
    }
    y
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    let small = [(1, 1, 1, 1, 1), (2, 4, 2, 2, 5), (2, 2, 1, 63, 8)];
    let large = [(1, 2, 2, 130, 4), (1, 1, 1, 257, 1), (1, 2, 1, 2, 500)];
    for (b, h, hk, t, hd) in small.into_iter().chain(large) {
        let inputs =
            [noise(&[b, h, t, hd], 9), noise(&[b, hk, t, hd], 10), noise(&[b, hk, t, hd], 11)];
        let op = Attention { causal: true, scale: 0.7 / (hd as f32).sqrt(), precision: EXACT };
        check(op.clone(), inputs, &[], |x| naive(x, &op));
    }
}

#[test]
fn a_few_queries_at_the_end_see_all_keys_before_them() {
    for (b, h, hk, tq, tk, hd) in
        [(1, 1, 1, 1, 3, 2), (2, 4, 2, 5, 9, 3), (2, 2, 2, 7, 133, 4), (1, 2, 1, 66, 70, 8)]
    {
        let inputs =
            [noise(&[b, h, tq, hd], 9), noise(&[b, hk, tk, hd], 10), noise(&[b, hk, tk, hd], 11)];
        let op = Attention { causal: true, scale: 0.7, precision: EXACT };
        check(op.clone(), inputs, &[], |x| naive(x, &op));
    }
}

#[test]
fn full_attention_takes_any_number_of_keys() {
    for (b, h, hk, tq, tk, hd) in
        [(1, 1, 1, 1, 3, 2), (2, 4, 2, 5, 2, 3), (2, 2, 2, 7, 33, 4), (1, 2, 1, 40, 6, 8)]
    {
        let inputs =
            [noise(&[b, h, tq, hd], 9), noise(&[b, hk, tk, hd], 10), noise(&[b, hk, tk, hd], 11)];
        let op = Attention { causal: false, scale: 0.7, precision: EXACT };
        check(op.clone(), inputs, &[], |x| naive(x, &op));
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::AttentionGradient;
    use crate::testing::kernels::{near, outputs, same};
    for (causal, [b, h, hk, tq, tk, hd]) in [
        (true, [1, 1, 1, 1, 1, 1]),
        (true, [2, 4, 2, 70, 70, 5]),
        (true, [1, 1, 1, 65, 65, 36]),
        (false, [1, 4, 1, 70, 33, 34]),
        (true, [1, 4, 2, 130, 130, 64]),
        (true, [1, 2, 1, 1, 70, 8]),
        (true, [2, 4, 2, 67, 200, 36]),
        (false, [1, 2, 1, 70, 65, 72]),
        (true, [1, 4, 2, 150, 150, 32]),
        (true, [1, 2, 1, 200, 200, 128]),
    ] {
        let [q, y, g] = [12, 15, 16].map(|seed| noise(&[b, h, tq, hd], seed));
        let [k, v] = [13, 14].map(|seed| noise(&[b, hk, tk, hd], seed));
        let of = Attention { causal, scale: 0.7 / (hd as f32).sqrt(), precision: EXACT };
        let inputs = [q.clone(), k.clone(), v.clone()];
        same(of.clone(), &inputs, &[]);
        // The one input that is not free: weights must sum to one.
        let Some(found) = outputs(of.clone(), &inputs).pop() else { return };
        let log_sum_exp = Host {
            data: found[1].iter().map(|x| f64::from(*x)).collect(),
            shape: vec![b, h, tq, 1],
        };
        let inputs = [q, k, v, y, log_sum_exp, g];
        same(AttentionGradient { of: of.clone() }, &inputs, &[]);
        let of = Attention { precision: Precision::Tf32, ..of };
        near(AttentionGradient { of: of.clone() }, &inputs);
        let [q, k, v, ..] = inputs;
        near(of, &[q, k, v]);
    }
}

/// Cut off instead of rounded, weights and values would be too small by 2⁻¹¹ of their size.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn tf32_operands_are_rounded_and_not_cut_off() {
    use super::AttentionGradient;
    use crate::testing::kernels::{bias, outputs};
    for hd in [32, 64, 128] {
        let shape = [1, 2, 130, hd];
        let [q, k, y] = [20, 21, 22].map(|seed| noise(&shape, seed));
        let [v, g] = [23, 24].map(|seed| {
            let x = noise(&shape, seed);
            Host { data: x.data.iter().map(|v| 1.5 + v / 2.0).collect(), shape: x.shape }
        });
        let [op, exact] = [Precision::Tf32, EXACT].map(|precision| Attention {
            causal: true,
            scale: 0.7 / (hd as f32).sqrt(),
            precision,
        });
        let inputs = [q.clone(), k.clone(), v.clone()];
        let mut means = bias(&op, &exact, &inputs, 0);
        let Some(found) = outputs(exact.clone(), &inputs).pop() else { return };
        let log_sum_exp = Host {
            data: found[1].iter().map(|x| f64::from(*x)).collect(),
            shape: vec![1, 2, 130, 1],
        };
        let [op, exact] = [op, exact].map(|of| AttentionGradient { of });
        means.extend(bias(&op, &exact, &[q, k, v, y, log_sum_exp, g], 2));
        assert!(means.iter().all(|mean| mean.abs() < 1e-4), "mean errors: {means:?}");
    }
}
