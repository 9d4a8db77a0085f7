//! What a training step holds in memory, read off a captured step: forward, backward and update run
//! on the backend that computes nothing, and each tensor counts from its making until nobody holds
//! it. So what autodiff keeps for the backward, and what an optimizer has beside a weight, is not
//! stated a second time.

use std::sync::Arc;

use burn::tensor::DType;
use mixlab_ops::capture::{CaptureError, watch};

use super::step::Run;
use crate::blocks::Block;
use crate::plan::Plan;

/// Bytes that training holds on a device, at the plan's batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The weights.
    pub weights: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// The gradients of all weights, at the end of the backward.
    pub gradients: u64,
    /// What the forward keeps for the backward.
    pub activations: u64,
    /// The most that tensors hold at one moment of a step, all of the above that exist then and what
    /// operations need in between.
    pub peak: u64,
    /// What is taken for that on a GPU, where a buffer is kept for the next tensor of its size
    /// ([`Session::reserved`](mixlab_ops::capture::Session::reserved)).
    pub reserved: u64,
}

impl Memory {
    /// Of the plan's model in training. `half` is the type of activations on the device if matrix
    /// products have bfloat16 operands: [`mixlab_ops::Backend::half`]. Allocates nothing.
    ///
    /// # Errors
    /// If a block's forward reads values, which nothing can follow without computing.
    pub fn of<K: Block>(plan: &Arc<Plan<K>>, half: Option<DType>) -> Result<Self, CaptureError> {
        watch(|session| Run::usual_step(session, plan, half).0)
    }

    /// Which fields of a config make most of it, for a hint.
    pub fn fields(&self) -> &'static str {
        let kept = self.weights + self.optimizer + self.gradients;
        if kept > self.peak / 2 {
            "`model_dim`, the number of `blocks` and `vocab_size`"
        } else {
            "`training.batch_tokens`, `seq_len` and `model_dim`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Builtin;

    fn memory(blocks: &str, training: &str) -> Memory {
        let json = format!(
            r#"{{"model_dim": 32, "vocab_size": 64, "seq_len": 16, "blocks": [{blocks}],
            "training": {{"batch_tokens": 128, {training}}}}}"#
        );
        let plan = Plan::<Builtin>::parse(&json, "c", &[]).unwrap().plan;
        Memory::of(&Arc::new(plan), None).unwrap()
    }

    const SWIGLU: &str = r#"{"type": "swiglu"}"#;

    #[test]
    fn weights_moments_and_gradients_are_as_large_as_the_parameters() {
        // Embedding, head, two norms; and three products of 32 × 85.
        let parameters = 2 * 32 * 64 + 2 * 32 + 3 * 32 * 85;
        let adamw = memory(SWIGLU, r#""optimizer": "adamw""#);
        assert_eq!(adamw.weights, 4 * parameters);
        // Some scalars of the optimizer and of the loss are held too.
        let near = |found: u64, expected: u64| found.abs_diff(expected) < 4096;
        assert!(near(adamw.optimizer, 8 * parameters), "{adamw:?}");
        assert!(near(adamw.gradients, 4 * parameters), "{adamw:?}");
        let muon = memory(SWIGLU, r#""optimizer": "muon""#);
        assert!(near(muon.optimizer, 8 * parameters - 4 * 3 * 32 * 85), "{muon:?}");
        assert!(adamw.peak >= adamw.weights + adamw.optimizer + adamw.activations);
        assert!(adamw.reserved >= adamw.peak);
    }

    /// Logits `[4096, V]` in 32 bits: their gradient takes their place.
    #[test]
    fn the_gradient_of_logits_takes_no_more_memory() {
        let of = |vocab: u64| {
            let json = format!(
                r#"{{"model_dim": 8, "vocab_size": {vocab}, "seq_len": 16, "blocks": [{SWIGLU}],
                "training": {{"batch_tokens": 4096, "optimizer": "adamw"}}}}"#
            );
            let plan = Plan::<Builtin>::parse(&json, "c", &[]).unwrap().plan;
            Memory::of(&Arc::new(plan), None).unwrap().reserved
        };
        let each = (of(2048) - of(1024)) / 1024;
        // A column of logits, and rows of embedding and head with their gradients and moments.
        let (logits, rows) = (4 * 4096, 2 * 4 * 8 * 4);
        assert!((logits..2 * logits).contains(&(each - rows)), "{each}");
    }

    #[test]
    fn activations_grow_with_blocks_and_rows() {
        let [one, two] = [1, 2].map(|n| memory(&vec![SWIGLU; n].join(","), r#""seed": 1"#));
        let three = memory(&[SWIGLU; 3].join(","), r#""seed": 1"#);
        assert_eq!(three.activations - two.activations, two.activations - one.activations);
        // At least the two gates and their product, `[128, 85]` each.
        assert!(two.activations - one.activations >= 4 * 3 * 128 * 85);
    }
}
