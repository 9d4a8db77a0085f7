//! The constants that are mixed into every seeded state.
//!
//! They are the state of the same generator, seeded plainly with 1, after 7.8·10¹² draws. Nobody
//! needs to draw that often: the draws obey y(n) = y(n−607) + y(n−273), so with
//! xᴺ mod (x⁶⁰⁷ − x³³⁴ − 1) over Z/2⁶⁴ (repeated squaring) any later draw is a sum of early ones.

use std::sync::OnceLock;

use super::{SHORT_LAG, WORDS, seeded_words, slot};

const DRAWS: u64 = 7_800_000_000_000;

/// The 607 constants, computed at the first call (a few milliseconds).
pub(super) fn table() -> &'static [u64; WORDS] {
    static TABLE: OnceLock<[u64; WORDS]> = OnceLock::new();
    TABLE.get_or_init(|| words_after(DRAWS))
}

/// State words after `draws` draws from the plain seed 1.
fn words_after(draws: u64) -> [u64; WORDS] {
    let start = seeded_words(1, 20, 10);
    let past = std::array::from_fn(|k| start[slot(k as u64)]);
    let last = Jump::over(draws).from(&past);
    let mut words = [0; WORDS];
    (0..WORDS).for_each(|m| words[slot(draws + m as u64)] = last[m]);
    words
}

/// Passes over a number of draws without making them.
pub(crate) struct Jump(Vec<u64>);

impl Jump {
    /// Over `draws` draws: some milliseconds of work, once for all jumps as long.
    pub(crate) fn over(draws: u64) -> Self {
        Self(power_of_x(draws))
    }

    /// The last 607 draws after the jump, oldest first, from those before it.
    pub(super) fn from(&self, past: &[u64; WORDS]) -> [u64; WORDS] {
        let mut history = past.to_vec();
        for k in WORDS..2 * WORDS {
            history.push(history[k - WORDS].wrapping_add(history[k - SHORT_LAG]));
        }
        std::array::from_fn(|m| {
            let terms = self.0.iter().zip(&history[m..]);
            terms.fold(0u64, |sum, (c, y)| sum.wrapping_add(c.wrapping_mul(*y)))
        })
    }
}

/// Coefficients of x^n mod (x⁶⁰⁷ − x³³⁴ − 1), lowest first.
fn power_of_x(n: u64) -> Vec<u64> {
    let mut power = vec![0; WORDS];
    power[0] = 1;
    for bit in (0..u64::BITS - n.leading_zeros()).rev() {
        power = square(&power);
        if n >> bit & 1 == 1 {
            power.insert(0, 0);
            reduce(&mut power);
        }
    }
    power
}

fn square(a: &[u64]) -> Vec<u64> {
    let mut product = vec![0u64; 2 * WORDS - 1];
    for (i, &x) in a.iter().enumerate().filter(|(_, x)| **x != 0) {
        for (sum, &y) in product[i..].iter_mut().zip(a) {
            *sum = sum.wrapping_add(x.wrapping_mul(y));
        }
    }
    reduce(&mut product);
    product
}

fn reduce(polynomial: &mut Vec<u64>) {
    while polynomial.len() > WORDS {
        let top = polynomial.pop().unwrap_or_default();
        let low = polynomial.len() - WORDS;
        polynomial[low] = polynomial[low].wrapping_add(top);
        let middle = low + WORDS - SHORT_LAG;
        polynomial[middle] = polynomial[middle].wrapping_add(top);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;

    #[test]
    fn a_jump_ends_where_single_steps_end() {
        for draws in [0, 1, 606, 607, 1000, 12_345] {
            let mut generator = Generator::from_words(seeded_words(1, 20, 10));
            for _ in 0..draws {
                generator.int63();
            }
            let mut stepped = generator.words();
            stepped.rotate_left(draws as usize % WORDS);
            assert_eq!(words_after(draws), stepped, "{draws} draws");
        }
    }

    #[test]
    fn the_table_begins_with_the_known_constants() {
        let known = [14_264_951_931_575_795_690, 13_869_761_123_581_321_051];
        assert_eq!(table()[..2], known);
    }
}
