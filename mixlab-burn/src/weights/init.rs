//! How weights start: the original's rule and its generator, bit for bit.

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::fill;
use crate::random::Generator;

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
                (0..weight.len()).map(|_| draw(generator.float64())).collect()
            }
        })
    })
}
