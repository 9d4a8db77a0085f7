//! Rotation by positions that are not one range for all rows.

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// Positions of `seq` tokens in each of some rows: every `step`-th from a start on. One start stands
/// for all rows.
pub struct Steps<P> {
    /// Position of the first token of each row.
    pub starts: Vec<P>,
    /// Tokens of a row.
    pub seq: usize,
    /// From one token to the next.
    pub step: i128,
}

impl<P: Copy + TryInto<i128>> Steps<P> {
    /// Cosine and sine `[rows, 1, T, R/2]` of the angle of each position and each of `dims / 2`
    /// pairs, computed in f64.
    pub fn angles<B: Backend>(
        &self,
        dims: usize,
        base: f32,
        device: &B::Device,
    ) -> [Tensor<B, 4>; 2] {
        let shape = [self.starts.len(), 1, self.seq, dims / 2];
        let rates: Vec<f64> = frequencies(dims, base).collect();
        let positions = self.starts.iter().flat_map(|start| {
            let start: i128 = (*start).try_into().ok().expect("a position is a small number");
            (0..self.seq as i128).map(move |t| (start + self.step * t) as f64)
        });
        let angles: Vec<f64> = positions.flat_map(|p| rates.iter().map(move |r| p * r)).collect();
        [f64::cos, f64::sin].map(|of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }
}

/// Radians per position of each pair.
pub fn frequencies(dims: usize, base: f32) -> impl Iterator<Item = f64> {
    let step = -2.0 * f64::from(base).ln() / dims as f64;
    (0..dims / 2).map(move |pair| (step * pair as f64).exp())
}

/// Pairs of channels of `x` `[B, H, T, hd]` turned by the angles of `cos` and `sin`
/// `[1 or B, 1, T, R/2]`; channels from `R` on stay.
pub fn turn<B: Backend>(x: Tensor<B, 4>, [cos, sin]: [Tensor<B, 4>; 2]) -> Tensor<B, 4> {
    let [b, h, t, width] = x.dims();
    let pairs = cos.dims()[3];
    let split = x.clone().narrow(3, 0, 2 * pairs).reshape([b, h, t, pairs, 2]);
    let [first, second] = [0, 1].map(|n| split.clone().narrow(4, n, 1).squeeze_dim::<4>(4));
    let turned =
        [first.clone() * cos.clone() - second.clone() * sin.clone(), first * sin + second * cos];
    let turned = Tensor::stack::<5>(turned.into(), 4).reshape([b, h, t, 2 * pairs]);
    match width - 2 * pairs {
        0 => turned,
        rest => Tensor::cat(vec![turned, x.narrow(3, 2 * pairs, rest)], 3),
    }
}
