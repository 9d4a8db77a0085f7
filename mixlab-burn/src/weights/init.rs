//! How weights start: the original's rule and its generator, bit for bit.

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::fill;
use crate::plan::WeightInit;
use crate::random::Generator;

/// Draws every matrix of `module` from one generator, in the order of weights. Vectors keep the
/// start values that their blocks gave them and take no draws.
///
/// With `identity_mix`, `resid_mix` then becomes (1, 0): the stream passes unmixed.
pub fn initialize<B: Backend, M: Module<B>>(
    module: M,
    init: WeightInit,
    seed: i64,
    identity_mix: bool,
) -> M {
    let mut generator = Generator::new(seed);
    fill(module, |_, weight| {
        let [rows, columns, ..] = weight.shape[..] else { return None };
        let mut values: Vec<f32> = match init {
            WeightInit::Normal { std } => {
                (0..weight.len()).map(|_| (generator.normal() * std) as f32).collect()
            }
            WeightInit::XavierUniform => {
                let limit = (6.0 / (rows + columns) as f64).sqrt();
                let draw = |u: f64| (u * 2.0 * limit - limit) as f32;
                (0..weight.len()).map(|_| draw(generator.float64())).collect()
            }
        };
        if identity_mix && weight.name == "resid_mix" {
            let (keep, first) = values.split_at_mut(columns);
            keep.fill(1.0);
            first.fill(0.0);
        }
        Some(values)
    })
}
