//! One token out of many, by chance or by rank.

use std::collections::HashSet;

use super::SessionError;
use crate::random::Generator;

/// How a token is drawn from logits `z`.
///
/// In this order, as most libraries do: the logits of tokens that a row already has are lowered
/// (`repetition_penalty`; Keskar et al., 2019), divided by the temperature, and the rest is left out
/// of all but the `top_k` largest, of the fewest that have the probability `top_p` together (Holtzman
/// et al., 2020), and of those with `min_p` of the largest probability (Nguyen et al., 2024). What is
/// left is drawn from by its probability. With temperature, `top_k` and seed alone the draws are those
/// of mixlab 0.10.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest one.
    pub temperature: f32,
    /// Tokens to draw from; 0 for all.
    pub top_k: usize,
    /// Probability to draw from, in (0, 1].
    pub top_p: f64,
    /// Share of the largest probability that a token needs, in [0, 1].
    pub min_p: f64,
    /// Divides the positive logits, and multiplies the negative ones, of tokens that the row has; 1
    /// changes nothing.
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Checks each setting.
    ///
    /// # Errors
    /// With the first that is none.
    pub fn check(&self) -> Result<(), SessionError> {
        let temperature = f64::from(self.temperature);
        let settings = [
            ("temperature", temperature, temperature >= 0.0, "use 0 for the best token, or more"),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "use more than 0, at most 1",
            ),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "use 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0,
                "use more than 0; 1 changes nothing",
            ),
        ];
        let wrong = |(_, value, fits, _): &(_, f64, bool, _)| !fits || !value.is_finite();
        match settings.into_iter().find(wrong) {
            Some((name, value, _, hint)) => Err(SessionError::Sampling { name, value, hint }),
            None => Ok(()),
        }
    }

    /// Draws the token after `row`, whose logits are `logits`; `None` if one of them is NaN.
    ///
    /// Ties go to the smaller id.
    pub fn draw(&self, logits: &[f32], row: &[u16], generator: &mut Generator) -> Option<u16> {
        if logits.iter().any(|z| z.is_nan()) {
            return None;
        }
        if self.temperature == 0.0 && self.repetition_penalty == 1.0 {
            return largest(logits.iter().copied().enumerate());
        }
        let mut ranked = self.penalized(logits, row);
        if self.temperature == 0.0 {
            return largest(ranked.into_iter());
        }
        for (_, z) in &mut ranked {
            *z /= f64::from(self.temperature);
        }
        self.keep_largest(&mut ranked);
        let largest = ranked.first()?.1;
        let mut weights: Vec<f64> = ranked.iter().map(|(_, z)| (z - largest).exp()).collect();
        weights.truncate(self.kept(&weights));
        let total: f64 = weights.iter().sum();
        if !(total > 0.0 && total.is_finite()) {
            return Some(id(ranked[0]));
        }
        let target = generator.float64() * total;
        let mut sum = 0.0;
        let reached = weights.iter().position(|weight| {
            sum += weight;
            sum >= target
        });
        Some(id(ranked[reached.unwrap_or(weights.len() - 1)]))
    }

    /// Each id with its logit, after the penalty.
    fn penalized(&self, logits: &[f32], row: &[u16]) -> Vec<(usize, f64)> {
        let mut ranked: Vec<_> = logits.iter().map(|z| f64::from(*z)).enumerate().collect();
        if self.repetition_penalty != 1.0 {
            for token in row.iter().collect::<HashSet<_>>() {
                let z = &mut ranked[usize::from(*token)].1;
                *z = if *z > 0.0 {
                    *z / self.repetition_penalty
                } else {
                    *z * self.repetition_penalty
                };
            }
        }
        ranked
    }

    /// Leaves the `top_k` largest of `ranked`, from the largest down.
    fn keep_largest(&self, ranked: &mut Vec<(usize, f64)>) {
        let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if 0 < self.top_k && self.top_k < ranked.len() {
            ranked.select_nth_unstable_by(self.top_k - 1, order);
            ranked.truncate(self.top_k);
        }
        ranked.sort_unstable_by(order);
    }

    /// How many of `weights`, which fall from 1, `top_p` and `min_p` leave.
    fn kept(&self, weights: &[f64]) -> usize {
        let likely = weights.partition_point(|weight| *weight >= self.min_p);
        if self.top_p >= 1.0 {
            return likely;
        }
        let target = self.top_p * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let enough = weights.iter().position(|weight| {
            sum += weight;
            sum >= target
        });
        likely.min(enough.map_or(weights.len(), |last| last + 1))
    }
}

/// The id of the largest logit; the smaller one of equals.
fn largest<Z: PartialOrd>(logits: impl Iterator<Item = (usize, Z)>) -> Option<u16> {
    logits.reduce(|best, z| if z.1 > best.1 { z } else { best }).map(|(id, _)| id as u16)
}

fn id(ranked: (usize, f64)) -> u16 {
    ranked.0 as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 2.0, 3.0, 2.5, -1.0];

    fn draws(sampling: &Sampling, logits: &[f32], count: usize) -> Vec<u16> {
        let mut generator = Generator::new(42);
        (0..count).map(|_| sampling.draw(logits, &[], &mut generator).unwrap()).collect()
    }

    /// Which ids come up at all.
    fn support(sampling: &Sampling) -> Vec<u16> {
        let mut ids = draws(sampling, &LOGITS, 2000);
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn draws_are_those_of_the_original() {
        let sampling = Sampling { top_k: 3, ..Sampling::default() };
        assert_eq!(draws(&sampling, &LOGITS, 5), [2, 2, 3, 2, 2]);
    }

    #[test]
    fn temperature_zero_takes_the_largest_and_draws_nothing() {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let mut generator = Generator::new(1);
        let before = generator.clone();
        assert_eq!(sampling.draw(&LOGITS, &[], &mut generator), Some(2));
        assert_eq!(sampling.draw(&[5.0, 5.0, 1.0], &[], &mut generator), Some(0));
        assert!(generator == before);
    }

    #[test]
    fn each_filter_leaves_what_it_should() {
        let all = Sampling { temperature: 1.0, top_k: 0, ..Sampling::default() };
        assert_eq!(support(&all), [0, 1, 2, 3, 4]);
        assert_eq!(support(&Sampling { top_k: 2, ..all.clone() }), [2, 3]);
        // Probabilities: 0.46, 0.28, 0.17, 0.06, 0.01.
        assert_eq!(support(&Sampling { top_p: 0.4, ..all.clone() }), [2]);
        assert_eq!(support(&Sampling { top_p: 0.5, ..all.clone() }), [2, 3]);
        assert_eq!(support(&Sampling { top_p: 0.9, ..all.clone() }), [1, 2, 3]);
        // Of the largest: 1, 0.61, 0.37, 0.14, 0.02.
        assert_eq!(support(&Sampling { min_p: 0.5, ..all.clone() }), [2, 3]);
        assert_eq!(support(&Sampling { min_p: 1.0, ..all.clone() }), [2]);
        assert_eq!(support(&Sampling { top_k: 2, top_p: 0.7, ..all }), [2, 3]);
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        let all = Sampling { temperature: 1.0, top_k: 0, ..Sampling::default() };
        let drawn = draws(&all, &LOGITS, 20_000);
        let total: f64 = LOGITS.iter().map(|z| f64::from(*z).exp()).sum();
        for (id, z) in LOGITS.iter().enumerate() {
            let share = drawn.iter().filter(|d| usize::from(**d) == id).count() as f64 / 20_000.0;
            let expected = f64::from(*z).exp() / total;
            assert!((share - expected).abs() < 0.012, "{id}: {share} instead of {expected}");
        }
    }

    #[test]
    fn a_penalty_lowers_what_the_row_has() {
        let greedy = |penalty| Sampling {
            temperature: 0.0,
            repetition_penalty: penalty,
            ..Sampling::default()
        };
        let mut generator = Generator::new(1);
        assert_eq!(greedy(1.3).draw(&LOGITS, &[2, 2, 4], &mut generator), Some(3));
        assert_eq!(greedy(1.1).draw(&LOGITS, &[2], &mut generator), Some(2));
        assert_eq!(greedy(3.0).draw(&[-1.0, -2.0], &[0], &mut generator), Some(1));
    }

    #[test]
    fn nan_is_no_logit_and_infinity_is_the_best() {
        let mut generator = Generator::new(1);
        let sampling = Sampling::default();
        assert_eq!(sampling.draw(&[1.0, f32::NAN], &[], &mut generator), None);
        assert_eq!(sampling.draw(&[1.0, f32::INFINITY], &[], &mut generator), Some(1));
        assert_eq!(sampling.draw(&[f32::NEG_INFINITY; 2], &[], &mut generator), Some(0));
    }

    #[test]
    fn settings_that_are_none_are_named() {
        let good = Sampling::default();
        assert!(good.check().is_ok());
        for (bad, name) in [
            (Sampling { temperature: -1.0, ..good.clone() }, "temperature"),
            (Sampling { temperature: f32::NAN, ..good.clone() }, "temperature"),
            (Sampling { top_p: 0.0, ..good.clone() }, "top_p"),
            (Sampling { min_p: 1.5, ..good.clone() }, "min_p"),
            (Sampling { repetition_penalty: 0.0, ..good.clone() }, "repetition_penalty"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("hint: "), "{error}");
        }
    }
}
