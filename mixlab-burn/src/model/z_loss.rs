//! The loss with the size of the softmax's denominator, which may be kept small (Chowdhery et al.,
//! "PaLM", 2022).

use burn::tensor::{Int, Tensor};
use mixlab_ops::cross_entropy;

use super::{Model, Tokens};
use crate::blocks::{Block, DropoutKey};

impl<B: mixlab_ops::Backend, K: Block> Model<B, K> {
    /// As [`Model::loss`], and the mean of `log² Σ exp(logit)` over all positions, `[1]`.
    ///
    /// # Panics
    /// As [`Model::forward`].
    pub fn loss_and_z(
        &self,
        tokens: impl Into<Tokens<B>>,
        targets: Tensor<B, 1, Int>,
        key: Option<DropoutKey>,
    ) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let logits = self.logits(self.hidden(tokens, key));
        let losses = cross_entropy(logits.clone(), targets.clone());
        // A loss is the logarithm of the denominator less the target's logit.
        let target = logits.gather(1, targets.unsqueeze_dim::<2>(1)).squeeze_dim::<1>(1);
        let log_sum = losses.clone() + target;
        (losses.mean(), log_sum.square().mean())
    }
}
