//! Writes a text by weighted choices and counts what they weigh.

use crate::random::Generator;

/// Something that may be written next, and its weight against the other options.
pub(super) type Choice<'a> = (&'a str, u32);

/// Decides between options; it is told what has been written so far.
pub(super) trait Decide {
    fn decide(&mut self, written: &str, options: &[Choice]) -> usize;
}

impl Decide for Generator {
    fn decide(&mut self, _: &str, options: &[Choice]) -> usize {
        let mut left = self.intn(total(options)) as u32;
        let falls_here = |(_, weight): &Choice| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        };
        options.iter().position(falls_here).unwrap_or_default()
    }
}

fn total(options: &[Choice]) -> u64 {
    options.iter().map(|(_, weight)| u64::from(*weight)).sum()
}

/// A text in the making.
///
/// Every choice writes one of several strings of which none begins another, so a reader who knows
/// the grammar can tell each choice from the text as soon as it is made. Hence no two sequences of
/// choices give the same text, and the sum of −ln p over the choices is −ln p of the text.
pub(super) struct Teller<D> {
    decide: D,
    pub text: String,
    /// −ln p of `text`.
    pub nats: f64,
}

impl<D: Decide> Teller<D> {
    pub fn new(decide: D) -> Self {
        Self { decide, text: String::new(), nats: 0.0 }
    }

    /// Writes what is certain.
    pub fn say(&mut self, text: &str) {
        self.text += text;
    }

    /// Writes one of the options and returns which.
    pub fn choose(&mut self, options: &[Choice]) -> usize {
        debug_assert!(prefix_free(options), "{options:?}");
        let chosen = self.decide.decide(&self.text, options);
        let (text, weight) = options[chosen];
        self.text += text;
        self.nats -= (f64::from(weight) / total(options) as f64).ln();
        chosen
    }

    /// Writes one of the words; the first ones are the more frequent, as in every language.
    pub fn word(&mut self, words: impl IntoIterator<Item = &'static str>) -> usize {
        let ranked = words.into_iter().zip(2u32..);
        let options: Vec<_> = ranked.map(|(word, rank)| (word, 5040 / rank)).collect();
        self.choose(&options)
    }
}

fn prefix_free(options: &[Choice]) -> bool {
    let begins = |i: usize, j: usize| i != j && options[i].0.starts_with(options[j].0);
    let n = options.len();
    n > 0 && (0..n).all(|i| options[i].1 > 0 && !(0..n).any(|j| begins(i, j)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_as_frequent_as_they_are_heavy() {
        let mut teller = Teller::new(Generator::new(5));
        let mut counts = [0.0; 3];
        for _ in 0..30_000 {
            counts[teller.choose(&[("a", 1), ("b", 2), ("c", 3)])] += 1.0;
        }
        for (count, expected) in counts.iter().zip([5_000.0, 10_000.0, 15_000.0]) {
            // Five standard deviations of a count are below 5 sqrt(expected).
            assert!(f64::abs(count - expected) < 5.0 * f64::sqrt(expected));
        }
    }

    #[test]
    fn the_nats_are_those_of_what_was_written() {
        let mut teller = Teller::new(Generator::new(5));
        teller.say("certain");
        assert_eq!(teller.nats, 0.0);
        let chosen = teller.choose(&[("x", 1), ("y", 3)]);
        assert_eq!(teller.nats, [-0.25f64.ln(), -0.75f64.ln()][chosen]);
    }

    #[test]
    fn options_that_begin_each_other_are_noticed() {
        assert!(prefix_free(&[("the", 1), ("two", 1)]));
        assert!(!prefix_free(&[("the", 1), ("then", 1)]));
        assert!(!prefix_free(&[("the", 1), ("the", 1)]));
        assert!(!prefix_free(&[("the", 1), ("two", 0)]));
    }
}
