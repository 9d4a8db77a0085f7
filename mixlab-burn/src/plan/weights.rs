//! The weights of a planned block: each has an optimizer, and neither it nor what it yields is too
//! large. Blocks of other crates are not tested here, and a size may follow from several fields.

use super::sizes::{MAX_ELEMENTS, elements, too_large};
use crate::blocks::Block;
use crate::config::{BlockSpec, Problems};
use crate::weights::{Weight, layout};
use mixlab_ops::capture::Capture;

/// Reports what is wrong with the weights of block `index` in a model whose residual stream has the
/// shape `stream` in training.
pub fn check<K: Block>(
    index: usize,
    spec: &BlockSpec,
    block: &K,
    stream: [usize; 2],
    problems: &mut Problems,
) {
    let kind = &spec.kind;
    let weights = layout(&block.init::<Capture>(&Default::default()));
    for weight in weights.iter().filter(|weight| !weight.is_trainable()) {
        let (name, rank) = (&weight.name, weight.shape.len());
        let message = format!(
            "weight `{name}` of a `{kind}` block has `{rank}` axes, and no optimizer group takes it"
        );
        let hint = "let the block declare a matrix, and reshape it in its forward";
        problems.report(format!("blocks[{index}].type"), message, hint);
    }
    let largest = weights.iter().flat_map(|weight| tensors(kind, weight, stream));
    let Some((name, axes)) = largest.max_by_key(|(_, axes)| elements(axes)) else { return };
    if elements(&axes) > MAX_ELEMENTS as u128 {
        let hint = "make `model_dim`, `mlp_mult`, the batch or the sizes of this block smaller";
        problems.report(format!("blocks[{index}]"), too_large(&name, &axes), hint);
    }
}

/// A weight, and the product of the stream with it if there is one, with their axes.
fn tensors(
    kind: &str,
    weight: &Weight,
    [tokens, dim]: [usize; 2],
) -> impl Iterator<Item = (String, Vec<usize>)> {
    let name = format!("weight `{}` of a `{kind}` block", weight.name);
    let product = match weight.shape[..] {
        [rows, columns] if rows == dim => {
            Some((format!("the product of a batch with {name}"), vec![tokens, columns]))
        }
        _ => None,
    };
    [(name, weight.shape.clone())].into_iter().chain(product)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::module::{Initializer, Module, Param};
    use burn::tensor::{Tensor, backend::Backend};

    use crate::blocks::testing::errors;
    use crate::blocks::{Block, Flow, Scope, Time};
    use crate::config::{BlockSpec, Reported};

    /// Has a weight of three axes.
    #[derive(Clone, Debug, PartialEq)]
    struct Defective;

    #[derive(Module, Debug)]
    struct Weights<B: Backend> {
        taps: Param<Tensor<B, 3>>,
    }

    impl Block for Defective {
        type Weights<B: Backend> = Weights<B>;

        fn types() -> Vec<&'static str> {
            vec!["deep"]
        }

        fn plan(_: &BlockSpec, _: &mut Scope<'_>) -> Result<Self, Reported> {
            Ok(Self)
        }

        fn time(&self) -> Time {
            Time::Streaming
        }

        fn init<B: Backend>(&self, device: &B::Device) -> Weights<B> {
            Weights { taps: Initializer::Zeros.init([2, 2, 2], device) }
        }

        fn forward<B: mixlab_ops::Backend>(
            &self,
            _: &Weights<B>,
            x: Tensor<B, 2>,
            _: &mut Flow<B>,
        ) -> Tensor<B, 2> {
            x
        }
    }

    #[test]
    fn a_weight_of_three_axes_is_refused() {
        let expected = "blocks[0].type: weight `taps` of a `deep` block has `3` axes, and no optimizer group takes it";
        assert_eq!(errors::<Defective>(r#"{"type": "deep"}"#), [expected]);
    }
}
