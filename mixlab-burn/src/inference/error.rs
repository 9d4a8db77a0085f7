//! Why a session has no answer.

use crate::config::ConfigError;
use crate::data::DataError;
use crate::plan::{LengthError, MAX_ELEMENTS};
use crate::weights::WeightError;

/// Why a session has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The config is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be loaded.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The batch is not whole, or has ids that the model does not know.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A block cannot run on rows of this length.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The batch is larger than a tensor may be.
    #[error(
        "a batch of `{batch}` rows of `{seq}` tokens needs more than `{MAX_ELEMENTS}` elements in one tensor\n  hint: split it"
    )]
    Size {
        /// Rows.
        batch: usize,
        /// Tokens in a row.
        seq: usize,
    },
    /// Rows that are decoded side by side have different lengths, or there are none.
    #[error(
        "rows of `{rows:?}` tokens cannot be decoded side by side\n  hint: give one or more rows, all of one length and none empty"
    )]
    Rows {
        /// Tokens that each row was given.
        rows: Vec<usize>,
    },
    /// A row is longer than the model was trained for.
    #[error(
        "`{tokens}` tokens are more than `seq_len` `{seq_len}`\n  hint: give fewer tokens, or let the window slide"
    )]
    TooLong {
        /// Tokens of the row.
        tokens: usize,
        /// Tokens in a row of the plan.
        seq_len: usize,
    },
    /// A setting of sampling is none.
    #[error("`{name}` is `{value}`\n  hint: {hint}")]
    Sampling {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        hint: &'static str,
    },
    /// A logit is NaN.
    #[error(
        "the logits after token `{after}` of row `{row}` are NaN\n  hint: the weights may come from a run that diverged"
    )]
    NotANumber {
        /// The row, from 0.
        row: usize,
        /// Tokens of the row before.
        after: usize,
    },
    /// The loss of a token is infinite or NaN.
    #[error(
        "the loss of token `{token}` of the data is `{loss}`\n  hint: the weights may come from a run that diverged"
    )]
    NotFinite {
        /// The token, counted from 0.
        token: usize,
        /// Its loss.
        loss: f32,
    },
    /// There is nothing to score.
    #[error("`{tokens}` tokens leave none to score\n  hint: give two or more")]
    NothingToScore {
        /// How many there are.
        tokens: usize,
    },
    /// Windows cannot advance by so many tokens.
    #[error(
        "windows of `seq_len` `{seq_len}` tokens cannot advance by `{stride}`\n  hint: use 1 to `{seq_len}`"
    )]
    Stride {
        /// What was asked for.
        stride: usize,
        /// Tokens in a window.
        seq_len: usize,
    },
}
