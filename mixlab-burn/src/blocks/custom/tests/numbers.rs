//! Tensors on the host, in 64 bits: what naive forms of the operations compute with.

/// A tensor on the host.
#[derive(Clone, Debug)]
pub struct Host {
    pub data: Vec<f64>,
    pub shape: Vec<usize>,
}

/// Numbers in `[-1, 1)` from a small linear congruential generator, exact in f32.
pub fn noise(shape: &[usize], seed: u64) -> Host {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(((state >> 40) as f32) / 8_388_608.0 - 1.0)
    };
    let data = (0..shape.iter().product()).map(|_| draw()).collect();
    Host { data, shape: shape.to_vec() }
}

/// [`noise`] in `[0.5, 1.5)`.
pub fn positive(shape: &[usize], seed: u64) -> Host {
    let Host { data, shape } = noise(shape, seed);
    Host { data: data.into_iter().map(|v| 1.0 + v / 2.0).collect(), shape }
}

pub fn host(data: &[f64], shape: &[usize]) -> Host {
    Host { data: data.to_vec(), shape: shape.to_vec() }
}

impl Host {
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        self.data.iter().map(|v| f(*v)).collect()
    }

    /// The element that position `flat` of a tensor of `shape` reads by broadcasting.
    pub fn seen(&self, shape: &[usize], mut flat: usize) -> f64 {
        let (mut at, mut stride) = (0, 1);
        for (axis, length) in shape.iter().enumerate().rev() {
            let index = flat % length;
            flat /= length;
            let skipped = shape.len() - self.shape.len();
            if axis >= skipped {
                let own = self.shape[axis - skipped];
                at += stride * if own == 1 { 0 } else { index };
                stride *= own;
            }
        }
        self.data[at]
    }

    /// `f` on each line along `axis`; `f` may change the length of a line.
    pub fn along(&self, axis: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let length = self.shape[axis];
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let mut result = Vec::new();
        for block in 0..outer {
            let line = |i: usize| -> Vec<f64> {
                (0..length).map(|n| self.data[(block * length + n) * inner + i]).collect()
            };
            let lines: Vec<Vec<f64>> = (0..inner).map(|i| f(&line(i))).collect();
            result.extend((0..lines[0].len()).flat_map(|n| lines.iter().map(move |line| line[n])));
        }
        result
    }
}

/// `f` on all inputs, broadcast to `shape`.
pub fn zip(inputs: &[Host], shape: &[usize], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let count = shape.iter().product();
    let seen = |flat| inputs.iter().map(|x| x.seen(shape, flat)).collect::<Vec<_>>();
    (0..count).map(|flat| f(&seen(flat))).collect()
}

/// Products of matrices `[m, k]` and `[k, n]` at the given pairs of places.
pub fn matmul(inputs: &[Host], [m, k, n]: [usize; 3], places: &[(usize, usize)]) -> Vec<f64> {
    let (a, b) = (&inputs[0].data, &inputs[1].data);
    let element = |(pa, pb): (usize, usize), i: usize, j: usize| -> f64 {
        (0..k).map(|l| a[(pa * m + i) * k + l] * b[(pb * k + l) * n + j]).sum()
    };
    let of = |place| (0..m * n).map(move |at| element(place, at / n, at % n)).collect::<Vec<_>>();
    places.iter().flat_map(|place| of(*place)).collect()
}

pub fn softmax(line: &[f64]) -> Vec<f64> {
    let total: f64 = line.iter().map(|v| v.exp()).sum();
    line.iter().map(|v| v.exp() / total).collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Causal attention of `[B, H, T, hd]` over `[B, Hk, T, hd]`.
pub fn attention(inputs: &[Host], scale: f64) -> Vec<f64> {
    let [_, h, t, hd] = inputs[0].shape[..] else { panic!("four axes") };
    let hk = inputs[1].shape[1];
    let row = |x: &Host, at: usize| x.data[at * hd..(at + 1) * hd].to_vec();
    let rows = (0..inputs[0].data.len() / hd).flat_map(|n| {
        let (batch, head, i) = (n / t / h, n / t % h, n % t);
        let first = (batch * hk + head * hk / h) * t;
        let query = row(&inputs[0], n);
        let dot = |j: usize| {
            let key = row(&inputs[1], first + j);
            scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>()
        };
        let weights = softmax(&(0..=i).map(dot).collect::<Vec<_>>());
        let value = |c: usize| {
            (0..=i).map(|j| weights[j] * inputs[2].data[(first + j) * hd + c]).sum::<f64>()
        };
        (0..hd).map(value).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Pairs of the first `dims` channels of `[B, H, T, hd]`, turned at `positions`.
pub fn rope(x: &Host, dims: usize, base: f64, positions: &[f64]) -> Vec<f64> {
    let [_, _, t, hd] = x.shape[..] else { panic!("four axes") };
    let mut y = x.data.clone();
    for (n, row) in y.chunks_mut(hd).enumerate() {
        for pair in 0..dims / 2 {
            let angle = positions[n % t] * base.powf(-2.0 * pair as f64 / dims as f64);
            let (a, b) = (row[2 * pair], row[2 * pair + 1]);
            row[2 * pair] = a * angle.cos() - b * angle.sin();
            row[2 * pair + 1] = a * angle.sin() + b * angle.cos();
        }
    }
    y
}

/// `h_t = gate(b, t, c)·h_{t−1} + input(b, t, c)` over `[B, T, C]`.
pub fn recurrence(
    [b, t, c]: [usize; 3],
    gate: impl Fn([usize; 3]) -> f64,
    input: impl Fn([usize; 3]) -> f64,
) -> Vec<f64> {
    let mut h = vec![0.0; b * t * c];
    for (row, time, channel) in (0..b * t * c).map(|n| (n / c / t, n / c % t, n % c)) {
        let at = (row * t + time) * c + channel;
        let before = if time == 0 { 0.0 } else { h[at - c] };
        h[at] = gate([row, time, channel]) * before + input([row, time, channel]);
    }
    h
}
