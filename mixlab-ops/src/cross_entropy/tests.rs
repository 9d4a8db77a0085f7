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
        check(CrossEntropy, [noise(&[n, v], 12)], &targets, |[z]| naive(z, &targets));
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let mut z = noise(&[4, 9], 13);
    z.data.iter_mut().for_each(|v| *v = *v * 4.0 + 300.0);
    check(CrossEntropy, [z], &[0, 3, 8, 8], |[z]| naive(z, &[0, 3, 8, 8]));
}
