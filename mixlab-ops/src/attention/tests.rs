use super::Attention;
use crate::testing::{Host, check, noise};

fn naive([q, k, v]: &[Host; 3], scale: f64) -> Vec<f64> {
    let [b, h, t, hd] = q.shape[..] else { panic!("rank 4") };
    let hk = k.shape[1];
    let mut y = Vec::with_capacity(q.data.len());
    for (batch, head, i) in (0..b * h * t).map(|n| (n / t / h, n / t % h, n % t)) {
        let row = |x: &[f64], at: usize| x[at * hd..(at + 1) * hd].to_vec();
        let query = row(&q.data, (batch * h + head) * t + i);
        let first = (batch * hk + head * hk / h) * t;
        let dot = |key: Vec<f64>| query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale;
        let weights: Vec<f64> = (0..=i).map(|j| dot(row(&k.data, first + j)).exp()).collect();
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
    for (b, h, hk, t, hd) in [(1, 1, 1, 1, 2), (2, 4, 2, 2, 5), (2, 2, 1, 63, 8), (1, 2, 2, 130, 4)]
    {
        let inputs =
            [noise(&[b, h, t, hd], 9), noise(&[b, hk, t, hd], 10), noise(&[b, hk, t, hd], 11)];
        check(Attention { scale: 0.7 }, inputs, &[], |x| naive(x, f64::from(0.7f32)));
    }
}
