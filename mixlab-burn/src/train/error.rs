//! Why a run stops early.

use crate::data::DataError;

/// Why a run stopped early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// There was no batch, or none that fits the model.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Saving(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The loss or all gradients are not finite, and no update has ever been made: it is not the
    /// training that does not work.
    #[error("the loss is `{loss}` at step `{step}`, before any update: {cause}\n  hint: {hint}")]
    BrokenStart {
        /// The step at which this was found.
        step: usize,
        /// Its loss.
        loss: f64,
        /// What is known of the weights.
        cause: String,
        /// The way out.
        hint: &'static str,
    },
    /// The loss is not a number.
    #[error(
        "the loss is NaN at step `{step}` (it was last read at step `{last}`, as `{loss}`)\n  hint: lower `training.lr`, or set `training.grad_clip` to `1`"
    )]
    NotANumber {
        /// The step whose loss is NaN.
        step: usize,
        /// The last step whose loss was read before.
        last: usize,
        /// That loss.
        loss: f64,
    },
    /// Gradients were infinite or NaN three times in a row; those updates were skipped.
    #[error(
        "the gradients are not finite at step `{step}`, for the third time in a row; nearest to the loss: {weight}\n  hint: lower `training.lr`, set `training.grad_clip`, or train with `--precision f32`"
    )]
    NotFinite {
        /// The step at which this was found.
        step: usize,
        /// The weight nearest to the loss whose gradient is not finite.
        weight: String,
    },
}
