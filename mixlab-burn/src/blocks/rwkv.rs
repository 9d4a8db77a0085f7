//! `rwkv`: a decaying average of values, weighted by exponential keys, then a gated feed-forward
//! layer; both see each token mixed with the one before it.
//!
//! ```text
//! m = σ(mu);   s = (1 − m) ⊙ x + m ⊙ shift(x)
//! e = exp(s·wk);   g = σ(exp(−exp(w_decay)))
//! x ← x + ( σ(s·wr) ⊙ scan(e ⊙ s·wv, g) / scan(e, g) )·wo
//! m = σ(mu2);  s = (1 − m) ⊙ x + m ⊙ shift(x)
//! x ← x + σ(s·wr2) ⊙ ( relu(s·wk2)²·wv2 )
//! ```
//!
//! with `scan`: `h_t = g ⊙ h_{t−1} + (1 − g) ⊙ u_t`. Named after RWKV (Peng et al., 2023). Unlike
//! there, keys, values and receptance share one token shift, and the current token has no bonus.
//!
//! Kept from mixlab 0.10.1: the decay is squashed twice and so stays in (0.5, 0.731), 0.591 at the
//! start; the division has no guard; there are no norms.
//!
//! Both scans are kept relative to their largest term so far, which fades with the decay (the stable
//! form of the paper): keys may be of any size, and lie any distance apart.
//!
//! ```json
//! {"type": "rwkv"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate, gated};

use super::{Block, Flow, Scope, Time, matrix, sigmoid, zeros};
use crate::config::{BlockSpec, Reported};

/// Options of an `rwkv` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv {
    /// Stream width `D`.
    pub dim: usize,
}

/// Weights of an `rwkv` block.
#[derive(Module, Debug)]
pub struct RwkvWeights<B: Backend> {
    /// `[D]`, zeros: share of the previous token in the time mix, before the sigmoid.
    pub mu: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wr: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv: Param<Tensor<B, 2>>,
    /// `[D]`, zeros.
    pub w_decay: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wo: Param<Tensor<B, 2>>,
    /// `[D]`, zeros: share of the previous token in the channel mix, before the sigmoid.
    pub mu2: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wr2: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk2: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv2: Param<Tensor<B, 2>>,
}

impl Block for Rwkv {
    type Weights<B: Backend> = RwkvWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["rwkv"]
    }

    fn plan(_: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Ok(Self { dim: scope.dim })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn init<B: Backend>(&self, device: &B::Device) -> RwkvWeights<B> {
        let square = || matrix([self.dim, self.dim], device);
        RwkvWeights {
            mu: zeros(self.dim, device),
            wr: square(),
            wk: square(),
            wv: square(),
            w_decay: zeros(self.dim, device),
            wo: square(),
            mu2: zeros(self.dim, device),
            wr2: square(),
            wk2: square(),
            wv2: square(),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &RwkvWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let x = x.clone() + time_mix(w, x, flow);
        x.clone() + channel_mix(w, x, flow)
    }
}

fn time_mix<B: mixlab_ops::Backend>(
    w: &RwkvWeights<B>,
    x: Tensor<B, 2>,
    flow: &mut Flow<B>,
) -> Tensor<B, 2> {
    let s = blend(x, &w.mu, flow);
    let [r, k, v] = [&w.wr, &w.wk, &w.wv].map(|weight| flow.linear(s.clone(), weight));
    let g = sigmoid((-w.w_decay.val().exp()).exp());
    let average = flow.average(k, v, g);
    let average = flow.activation(average);
    flow.project(gated(Activation::Sigmoid, r, average), &w.wo)
}

fn channel_mix<B: mixlab_ops::Backend>(
    w: &RwkvWeights<B>,
    x: Tensor<B, 2>,
    flow: &mut Flow<B>,
) -> Tensor<B, 2> {
    let s = blend(x, &w.mu2, flow);
    let r = flow.project(s.clone(), &w.wr2);
    let k = flow.linear(s, &w.wk2);
    let squared = activate(Activation::LeakyReluSquared { slope: 0.0 }, k);
    gated(Activation::Sigmoid, r, flow.project(squared, &w.wv2))
}

/// `(1 − m) ⊙ x + m ⊙ shift(x)` with `m = σ(mu)`, as an activation.
fn blend<B: mixlab_ops::Backend>(
    x: Tensor<B, 2>,
    mu: &Param<Tensor<B, 1>>,
    flow: &mut Flow<B>,
) -> Tensor<B, 2> {
    let m = sigmoid(mu.val()).unsqueeze::<2>();
    let s = x.clone() * (-m.clone() + 1.0) + flow.shift(x) * m;
    flow.activation(s)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::backend::Autodiff;
    use burn_flex::Flex;

    use super::*;
    use crate::blocks::testing::{apply, layout_of};
    use crate::weights::fill;

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let expected = "mu [2], wr [2, 2], wk [2, 2], wv [2, 2], w_decay [2], wo [2, 2], \
            mu2 [2], wr2 [2, 2], wk2 [2, 2], wv2 [2, 2]";
        assert_eq!(layout_of(&Rwkv { dim: 2 }), expected);
    }

    const VALUES: [f64; 6] = [1.0, -0.5, 0.75, 1.5, -1.25, 0.5];

    /// Weights for the time mix alone on a stream of width 1: previous tokens have a share of
    /// `σ(−50) ≈ 0`, wk2 = 0 switches the channel mix off, and wr = 0 halves the average.
    fn weight(name: &str, key: f32) -> f32 {
        match name {
            "mu" | "mu2" => -50.0,
            "wk" => key,
            "wr" | "wr2" | "wk2" | "w_decay" => 0.0,
            _ => 1.0,
        }
    }

    fn mixed(values: &[f32], key: f32) -> Vec<f32> {
        let row = values.iter().map(|v| [*v]).collect();
        let y = apply(&Rwkv { dim: 1 }, &[row], |name| weight(name, key));
        y[0].iter().zip(values).map(|([y], x)| (y - x) * 2.0).collect()
    }

    /// The same in double precision, with the weights of all tokens taken relative to the heaviest.
    fn expected(values: &[f64], key: f64) -> Vec<f64> {
        let g = 1.0 / (1.0 + (-(-1f64).exp()).exp());
        let averages = (0..values.len()).map(|t| {
            let log = |j: usize| key * values[j] + (t - j) as f64 * g.ln();
            let largest = (0..=t).map(log).fold(f64::MIN, f64::max);
            let weights = (0..=t).map(|j| (log(j) - largest).exp());
            let (mut sum, mut total) = (0.0, 0.0);
            weights.zip(values).for_each(|(w, v)| {
                sum += w * v;
                total += w;
            });
            sum / total
        });
        averages.collect()
    }

    #[test]
    fn averages_are_those_of_a_loop_however_large_the_keys() {
        for key in [0.0, 1.0, -3.0, 30.0, 50.0, -60.0] {
            let got = mixed(&VALUES.map(|v| v as f32), key);
            for (t, (got, expected)) in got.iter().zip(expected(&VALUES, key.into())).enumerate() {
                let error = (f64::from(*got) - expected).abs();
                assert!(error < 2e-6, "wk {key}, token {t}: {got} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_large_key_at_the_end_changes_nothing_before_it() {
        let before = mixed(&[0.1, -0.2, 0.3], 200.0);
        let late = mixed(&[0.1, -0.2, 0.3, 1.0], 200.0);
        assert_eq!(late[..3], before);
        assert!(late.iter().all(|x| x.is_finite()), "{late:?}");
    }

    #[test]
    fn gradients_are_those_of_a_loop_however_large_the_keys() {
        type Train = Autodiff<Flex>;
        let device = Default::default();
        for key in [1.0, 20.0, 40.0, -30.0] {
            let weights = fill(Rwkv { dim: 1 }.init::<Train>(&device), |_, w| {
                Some(vec![weight(&w.name, key); w.len()])
            });
            let x = Tensor::<Train, 2>::from_floats(VALUES.map(|v| [v as f32]), &device);
            let x = x.require_grad();
            let y = time_mix(&weights, x.clone(), &mut Flow::new(1, VALUES.len()));
            let got = x.grad(&y.sum().backward()).unwrap().into_data().to_vec::<f32>().unwrap();
            for (t, got) in got.into_iter().enumerate() {
                let sum = |delta: f64| -> f64 {
                    let mut moved = VALUES;
                    moved[t] += delta;
                    expected(&moved, key.into()).iter().sum::<f64>() / 2.0
                };
                let slope = (sum(1e-6) - sum(-1e-6)) / 2e-6;
                // The slope is a difference of terms as large as wk.
                let error = (f64::from(got) - slope).abs() / f64::from(key.abs());
                assert!(error < 1e-6, "wk {key}, token {t}: {got} instead of {slope}");
            }
        }
    }
}
