//! How weights start: the original's rule and its generator, bit for bit.

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::fill;
use crate::plan::WeightInit;
use crate::random::Generator;

/// What holds the `resid_mix` of a `plain` block; a weight of that name elsewhere is another one.
const PLAIN: &str = "Struct:PlainWeights";

/// Draws every matrix of `module` from one generator, in the order of weights. Vectors keep the
/// start values that their blocks gave them and take no draws.
///
/// With `identity_mix`, `resid_mix` of `plain` blocks then becomes (1, 0): the stream passes unmixed.
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
        if identity_mix && weight.name == "resid_mix" && weight.module == PLAIN {
            let (keep, first) = values.split_at_mut(columns);
            keep.fill(1.0);
            first.fill(0.0);
        }
        Some(values)
    })
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::Arc;

    use burn_flex::Flex;

    use crate::model::Model;
    use crate::plan::Plan;
    use crate::weights::{layout, values};

    #[test]
    fn an_identity_mix_is_for_plain_blocks_only() {
        let json = r#"{"model_dim": 8, "vocab_size": 11, "resid_mix": true,
            "resid_mix_init": "identity", "blocks": [{"type": "plain", "heads": 2},
            {"type": "custom", "name": "n", "weights": [{"name": "resid_mix", "shape": ["2", "D"]}],
             "ops": [{"op": "silu", "inputs": ["x"], "output": "x"}]}]}"#;
        let plan = Plan::parse(json, "test.json", &[]).unwrap().plan;
        let model: Model<Flex> = Model::init(Arc::new(plan), &Default::default());
        let weights = layout(&model).into_iter().zip(values(&model));
        let mut mixes = weights.filter(|(weight, _)| weight.name == "resid_mix").map(|(_, v)| v);
        assert_eq!(mixes.next().unwrap(), [[1.0; 8], [0.0; 8]].concat());
        assert!(mixes.next().unwrap().iter().all(|value| value.abs() > 0.0 && value.abs() < 1.0));
        assert!(mixes.next().is_none());
    }
}
