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
    let mut draws = Draws::new(generator.clone(), module.num_params());
    fill(module, |_, weight| {
        let [rows, columns, ..] = weight.shape[..] else { return None };
        Some(match init {
            WeightInit::Normal { std } => {
                (0..weight.len()).map(|_| (generator.normal() * std) as f32).collect()
            }
            WeightInit::XavierUniform => {
                let limit = WeightInit::xavier_limit(rows, columns);
                draws.map(weight.len(), |u| (u * 2.0 * limit - limit) as f32)
            }
        })
    })
}

/// Draws that one thread makes, and that are made at a time.
const PART: usize = 1 << 20;
const AHEAD: usize = 16 * PART;

/// Draws over [0, 1) of one stream, made ahead by all threads.
struct Draws {
    generator: Generator,
    ahead: Vec<f64>,
    /// How many of those ahead are used, and how many draws may be asked for beyond them.
    used: usize,
    left: usize,
}

impl Draws {
    /// For `left` draws; more are made one by one.
    fn new(generator: Generator, left: usize) -> Self {
        Self { generator, ahead: vec![], used: 0, left }
    }

    /// What `map` makes of the next `count` draws.
    fn map(&mut self, count: usize, map: impl Fn(f64) -> f32 + Sync) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            if self.used == self.ahead.len() {
                self.refill();
            }
            let next = &self.ahead[self.used..];
            let next = &next[..next.len().min(count - values.len())];
            values.par_extend(next.par_iter().map(|unit| map(*unit)));
            self.used += next.len();
        }
        values
    }

    fn refill(&mut self) {
        self.ahead.resize(self.left.clamp(1, AHEAD), 0.0);
        (self.left, self.used) = (self.left.saturating_sub(self.ahead.len()), 0);
        match side_by_side(&self.generator, &mut self.ahead) {
            Some(end) => self.generator = end,
            None => self.ahead.fill_with(|| self.generator.float64()),
        }
    }
}

/// Fills `draws`, and gives the generator after them; each thread begins where another ends. `None` if
/// a draw does not count, so that all later ones have another place: once in 2⁵⁴.
fn side_by_side(generator: &Generator, draws: &mut [f64]) -> Option<Generator> {
    static JUMP: LazyLock<Jump> = LazyLock::new(|| Jump::over(PART as u64));
    let starts = successors(Some(generator.clone()), |start| Some(start.after(&JUMP)));
    let parts = draws.chunks_mut(PART).zip(starts).enumerate();
    let ends = parts.par_bridge().map(|(index, (part, mut generator))| {
        part.fill_with(|| generator.unit());
        part.iter().all(|unit| *unit < 1.0).then_some((index, generator))
    });
    let ends: Vec<_> = ends.collect::<Option<_>>()?;
    ends.into_iter().max_by_key(|(index, _)| *index).map(|(_, end)| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(generator: &mut Generator, count: usize) -> Vec<f32> {
        (0..count).map(|_| generator.float64() as f32).collect()
    }

    #[test]
    fn threads_draw_the_numbers_of_one_stream() {
        let mut stream = Generator::new(3);
        stream.int63();
        let counts = [5, 2 * PART, 0, AHEAD - PART, 3 * PART + 1];
        let mut draws = Draws::new(stream.clone(), counts.iter().sum());
        for count in counts {
            let found = draws.map(count, |u| u as f32);
            assert!(found == one_by_one(&mut stream, count), "{count}");
        }
        assert_eq!(draws.left, 0);
    }

    #[test]
    fn a_draw_that_does_not_count_moves_all_later_ones() {
        // The second draw is the sum of words 332 and 605: all ones.
        let mut words = [7; crate::random::WORDS];
        (words[332], words[605]) = (u64::MAX, 0);
        let mut stream = Generator::from_words(words);
        assert!(side_by_side(&stream, &mut vec![0.0; 2 * PART]).is_none());
        let found = Draws::new(stream.clone(), 2 * PART).map(2 * PART, |u| u as f32);
        assert!(found == one_by_one(&mut stream, 2 * PART));
    }
}
