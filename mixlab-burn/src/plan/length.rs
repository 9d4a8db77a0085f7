//! Rows of another length than a plan was made for.

use crate::blocks::Block;

use super::Plan;

/// A length of rows that a model cannot run on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "block `{block}` cannot run on rows of `{seq}` tokens: {reason}\n  hint: use rows of `{planned}` tokens (seq_len), or write sizes of the block that follow the length as `T`"
)]
pub struct LengthError {
    /// The block, counted from 0.
    pub block: usize,
    /// Tokens in a row.
    pub seq: usize,
    /// The length of the plan.
    pub planned: usize,
    /// What does not fit.
    pub reason: String,
}

impl<K: Block> Plan<K> {
    /// Whether the model can run on rows of `seq` tokens; on rows of `seq_len` it can.
    ///
    /// # Errors
    /// With the first block that cannot.
    pub fn supports(&self, seq: usize) -> Result<(), LengthError> {
        self.steps.iter().enumerate().try_for_each(|(block, step)| {
            let error = |reason| LengthError { block, seq, planned: self.seq_len, reason };
            step.block.supports(seq).map_err(error)
        })
    }
}
