//! `bottleneck`: a [`perceiver`](super::perceiver) with 4 latents where a config gives none.
//!
//! Same equations, same weights. Named after the attention bottlenecks of Nagrani et al. (2021),
//! through which everything that positions exchange must pass; there, latents carry information
//! between modalities and persist from layer to layer, here they start anew in each block.
//!
//! Kept from mixlab 0.10.1: *every position sees the future* (a config with this block gets a
//! warning), and the rest of what `perceiver` says.
//!
//! ```json
//! {"type": "bottleneck", "heads": 4}
//! ```

use burn::tensor::{Tensor, backend::Backend};

use super::perceiver::{Perceiver, PerceiverWeights};
use super::{Block, Flow, Scope, Time};
use crate::config::{BlockSpec, Reported};

/// Options of a `bottleneck` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck(
    /// The block that it is.
    pub Perceiver,
);

/// Latents of a `bottleneck` when a config gives none.
const DEFAULT_LATENTS: usize = 4;

impl Block for Bottleneck {
    type Weights<B: Backend> = PerceiverWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["bottleneck"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        Perceiver::with_default(DEFAULT_LATENTS, spec, scope).map(Self)
    }

    fn time(&self) -> Time {
        self.0.time()
    }

    fn heads(&self) -> Option<usize> {
        self.0.heads()
    }

    fn init<B: Backend>(&self, device: &B::Device) -> PerceiverWeights<B> {
        self.0.init(device)
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &PerceiverWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        self.0.forward(w, x, flow)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::plan;

    #[test]
    fn it_has_4_latents_unless_a_number_is_given() {
        let latents = |json: &str| plan::<Bottleneck>(json).unwrap().0.latents;
        assert_eq!(latents(r#"{"type": "bottleneck", "heads": 2}"#), 4);
        assert_eq!(latents(r#"{"type": "bottleneck", "heads": 2, "num_latents": 7}"#), 7);
    }
}
