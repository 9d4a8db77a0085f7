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
    #[error("{} at step `{step}`, before any update: {cause}\n  hint: {hint}", broken(*loss))]
    BrokenStart {
        /// The step at which this was found.
        step: usize,
        /// Its loss.
        loss: f64,
        /// What is known of it.
        cause: String,
        /// The way out.
        hint: String,
    },
    /// The loss is not a number.
    #[error(
        "the loss is NaN at step `{step}` (it was last read at step `{last}`, as `{loss}`)\n  hint: {hint}"
    )]
    NotANumber {
        /// The step whose loss is NaN.
        step: usize,
        /// The last step whose loss was read before.
        last: usize,
        /// That loss.
        loss: f64,
        /// The way out.
        hint: String,
    },
    /// Gradients were infinite or NaN three times in a row; those updates were skipped.
    #[error(
        "the gradients are not finite at step `{step}`, for the third time in a row: {cause}\n  hint: {hint}"
    )]
    NotFinite {
        /// The step at which this was found.
        step: usize,
        /// What is known of it.
        cause: String,
        /// The way out.
        hint: String,
    },
}

/// What is not finite if the loss of a step without an update is `loss`.
fn broken(loss: f64) -> String {
    if loss.is_finite() {
        format!("the gradients are not finite (the loss is, with `{loss:.4}`)")
    } else {
        format!("the loss is `{loss}`")
    }
}
