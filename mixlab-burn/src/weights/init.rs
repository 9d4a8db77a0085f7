//! How weights start: the original's rule and its generator, bit for bit.

use std::iter::successors;
use std::sync::LazyLock;

use burn::module::Module;
use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::fill;
use crate::random::{Generator, Jump};

/// How matrices are drawn before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightInit {
    /// Uniform in ±√(6 / (rows + columns)) (Glorot and Bengio, 2010).
    XavierUniform,
    /// Normal with the given standard deviation.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

impl WeightInit {
    /// The bound of [`WeightInit::XavierUniform`] for a matrix of this shape.
    pub(crate) fn xavier_limit(rows: usize, columns: usize) -> f64 {
        (6.0 / (rows + columns) as f64).sqrt()
    }
}

/// Draws every matrix of `module` from one generator, in the order of weights. Vectors keep the
/// start values that their blocks gave them and take no draws.
pub fn initialize<B: Backend, M: Module<B>>(module: M, init: WeightInit, seed: i64) -> M {
    let mut generator = Generator::new(seed);
    fill(module, |_, weight| {
        let [rows, columns, ..] = weight.shape[..] else { return None };
        Some(match init {
            WeightInit::Normal { std } => {
                (0..weight.len()).map(|_| (generator.normal() * std) as f32).collect()
            }
            WeightInit::XavierUniform => {
                let limit = WeightInit::xavier_limit(rows, columns);
                let draw = |u: f64| (u * 2.0 * limit - limit) as f32;
                uniform(&mut generator, weight.len(), draw)
            }
        })
    })
}

/// Draws that one thread makes.
const PART: usize = 1 << 19;

/// `count` numbers that `map` makes of draws over [0, 1), by all threads if they are many.
fn uniform(generator: &mut Generator, count: usize, map: impl Fn(f64) -> f32 + Sync) -> Vec<f32> {
    if count >= 2 * PART
        && let Some((values, end)) = side_by_side(generator, count, &map)
    {
        *generator = end;
        return values;
    }
    (0..count).map(|_| map(generator.float64())).collect()
}

/// The same, and the generator after it; each thread begins where another ends. `None` if a draw does
/// not count, so that all later ones have another place: once in 2⁵⁴.
fn side_by_side(
    generator: &Generator,
    count: usize,
    map: &(impl Fn(f64) -> f32 + Sync),
) -> Option<(Vec<f32>, Generator)> {
    static JUMP: LazyLock<Jump> = LazyLock::new(|| Jump::over(PART as u64));
    let starts = successors(Some(generator.clone()), |start| Some(start.after(&JUMP)));
    let starts: Vec<Generator> = starts.take(count.div_ceil(PART)).collect();
    let mut values = vec![0.0; count];
    let parts = values.par_chunks_mut(PART).zip(starts);
    let ends: Option<Vec<Generator>> = parts
        .map(|(part, mut generator)| {
            let mut all = true;
            for value in part {
                let unit = generator.unit();
                all &= unit < 1.0;
                *value = map(unit);
            }
            all.then_some(generator)
        })
        .collect();
    Some((values, ends?.pop()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(mut generator: Generator, count: usize) -> (Vec<f32>, Generator) {
        let values = (0..count).map(|_| generator.float64() as f32).collect();
        (values, generator)
    }

    #[test]
    fn threads_draw_the_numbers_of_one_stream() {
        let mut before = Generator::new(3);
        before.int63();
        for count in [2 * PART, 2 * PART + 1, 3 * PART - 1] {
            let found = side_by_side(&before, count, &|u| u as f32).unwrap();
            assert!(found == one_by_one(before.clone(), count), "{count}");
        }
    }

    #[test]
    fn a_draw_that_does_not_count_moves_all_later_ones() {
        // The second draw is the sum of words 332 and 605: all ones.
        let mut words = [7; crate::random::WORDS];
        (words[332], words[605]) = (u64::MAX, 0);
        let mut generator = Generator::from_words(words);
        assert!(side_by_side(&generator, 2 * PART, &|u| u as f32).is_none());
        let expected = one_by_one(generator.clone(), 2 * PART);
        assert!((uniform(&mut generator, 2 * PART, |u| u as f32), generator) == expected);
    }
}
