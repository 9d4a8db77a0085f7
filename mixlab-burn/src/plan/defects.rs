//! What only a defective block type does: those of other crates are not tested here.

use crate::blocks::Block;
use crate::config::{BlockSpec, Problems};
use crate::weights::layout;
use mixlab_ops::capture::Capture;

/// Reports weights of block `index` that no optimizer takes.
pub fn check<K: Block>(index: usize, spec: &BlockSpec, block: &K, problems: &mut Problems) {
    let kind = &spec.kind;
    let weights = layout(&block.init::<Capture>(&Default::default()));
    for weight in weights.into_iter().filter(|weight| !weight.is_trainable()) {
        let (name, rank) = (&weight.name, weight.shape.len());
        let message = format!(
            "weight `{name}` of a `{kind}` block has `{rank}` axes, and no optimizer group takes it"
        );
        let hint = "let the block declare a matrix, and reshape it in its forward";
        problems.error(format!("blocks[{index}].type"), message).hint(hint);
    }
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
