use super::RmsNorm;
use crate::testing::{Host, check, noise};

fn naive([x, s]: &[Host; 2]) -> Vec<f64> {
    let d = s.data.len();
    let row = |row: &[f64]| -> Vec<f64> {
        let r = (row.iter().map(|v| v * v).sum::<f64>() / d as f64 + 1e-5).sqrt();
        row.iter().zip(&s.data).map(|(v, s)| v / r * s).collect()
    };
    x.data.chunks(d).flat_map(row).collect()
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for (n, d) in [(1, 1), (2, 5), (63, 5), (257, 1), (3, 500)] {
        let inputs = [noise(&[n, d], 1), noise(&[d], 2)];
        check(RmsNorm { eps: 1e-5 }, inputs, &[], naive);
    }
}
