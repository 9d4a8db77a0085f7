//! Weights for rows that are read token by token: in bfloat16 where products have them so, cast once
//! and not at each token.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, backend::Backend};
use mixlab_ops::Precision;
use mixlab_ops::capture::Program;

use crate::blocks::Block;
use crate::model::Model;
use crate::program::describe;

/// `model` with bfloat16 in place of all weights that nothing but products reads, if products in its
/// precision do: results stay the same to the bit.
pub(super) fn narrowed<B: mixlab_ops::Backend, K: Block>(
    model: &Model<B, K>,
    device: &B::Device,
) -> Model<B, K> {
    let narrow = match model.precision(device) {
        Precision::Bf16 => describe(model.plan(), [1, model.plan().seq_len]).ok(),
        _ => None,
    };
    match narrow {
        Some(program) => {
            model.clone().map(&mut Narrow { path: vec![], paths: multiplied(&program) })
        }
        None => model.clone(),
    }
}

/// The paths of the parameters of `program` that nothing but products with a stream reads.
fn multiplied(program: &Program) -> HashSet<String> {
    let mut only = vec![true; program.values().len()];
    program.outputs().iter().for_each(|port| only[port.value.index()] = false);
    // From the last: what reads a value comes after what makes it.
    for node in program.nodes().iter().rev() {
        match (node.name.as_str(), node.inputs.as_slice()) {
            ("mixlab.linear", [x, _]) => only[x.index()] = false,
            ("swap_dims" | "permute" | "slice" | "reshape", [x]) => {
                only[x.index()] &= only[node.outputs[0].index()];
            }
            (_, inputs) => inputs.iter().for_each(|x| only[x.index()] = false),
        }
    }
    let chosen = program.parameters().iter().filter(|parameter| only[parameter.value.index()]);
    chosen.flat_map(|parameter| parameter.paths.clone()).collect()
}

/// Casts the parameters at `paths`.
struct Narrow {
    /// Where it is.
    path: Vec<String>,
    paths: HashSet<String>,
}

impl<B: Backend> ModuleMapper<B> for Narrow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let chosen = self.paths.contains(&self.path.join("."));
        param.map(|weight| if chosen { weight.cast(DType::BF16) } else { weight })
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::Arc;

    use burn_flex::Flex;

    use super::*;
    use crate::inference::{Decoder, Session};
    use crate::plan::Plan;

    fn session(options: &str) -> Session<Flex> {
        let json = format!(
            r#"{{"model_dim": 16, "vocab_size": 32, "seq_len": 8, {options} "blocks": [
                {{"type": "plain", "heads": 2}}, {{"type": "swiglu"}}, {{"type": "mamba"}},
                {{"type": "retnet", "heads": 2}}, {{"type": "rwkv"}}],
                "training": {{"batch_tokens": 8, "compute_dtype": "bf16"}}}}"#
        );
        let plan = Arc::new(Plan::parse(&json, "narrow", &[]).unwrap().plan);
        Session::new(Model::init(plan, &Default::default()), &Default::default())
    }

    #[test]
    fn weights_are_cast_once_where_only_products_read_them_and_results_stay() {
        for (options, head) in [("", true), (r#""tie_embeddings": true, "#, false)] {
            let session = session(options);
            let narrow = multiplied(&describe(session.model().plan(), [1, 8]).unwrap());
            let has = |part: &str| narrow.iter().any(|path| path.ends_with(part));
            assert!(has("Plain.wq") && has("Mamba.in_proj") && has("Swiglu.w_gate"), "{narrow:?}");
            assert_eq!(has("head"), head, "{narrow:?}");
            assert!(!has("embed") && !has("scale") && !has("norm"), "{narrow:?}");
            let tokens = vec![3, 1, 4, 1, 5];
            let mut decoder = Decoder::new(&session, 1);
            decoder.push(std::slice::from_ref(&tokens)).unwrap();
            let drawn = decoder.logits().unwrap().into_data().to_vec::<f32>().unwrap();
            let batch = crate::data::Batch::from_tokens(&[&tokens[..], &[9]].concat(), 5).unwrap();
            let whole = session.logits(batch).unwrap().into_data().to_vec::<f32>().unwrap();
            assert_eq!(drawn, whole[4 * 32..]);
        }
    }
}
