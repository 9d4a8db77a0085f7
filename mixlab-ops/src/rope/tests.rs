use super::Rope;
use crate::testing::{Host, check, noise};

fn naive(x: &Host, dims: usize) -> Vec<f64> {
    let (t, hd) = (x.shape[2], x.shape[3]);
    let mut y = x.data.clone();
    for (row, channels) in y.chunks_mut(hd).enumerate() {
        let p = (row % t) as f64;
        for i in 0..dims / 2 {
            let theta = p * 10000f64.powf(-2.0 * i as f64 / dims as f64);
            let (a, b) = (channels[2 * i], channels[2 * i + 1]);
            channels[2 * i] = a * theta.cos() - b * theta.sin();
            channels[2 * i + 1] = a * theta.sin() + b * theta.cos();
        }
    }
    y
}

#[test]
fn pairs_turn_by_their_position_and_the_rest_passes_through() {
    for (t, hd, dims) in [(1, 2, 2), (2, 8, 4), (63, 6, 6), (257, 4, 2)] {
        let op = Rope { dims, base: 10000.0, inverse: false };
        check(op, [noise(&[2, 3, t, hd], 6)], &[], |[x]| naive(x, dims));
    }
}
