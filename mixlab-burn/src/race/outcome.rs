//! What became of a run.

use serde::{Deserialize, Serialize};

/// What became of a run, as its `result.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Outcome {
    /// It was trained to its end.
    Done(Finished),
    /// It cannot be trained.
    Failed {
        /// Why.
        reason: String,
        /// Whether the config is what is wrong, so that there is no use in another try.
        config: bool,
    },
}

/// What a run reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Loss of the first step, in nats per token.
    pub first_loss: f64,
    /// Loss of the last step.
    pub last_loss: f64,
    /// The last validation loss, if there was validation.
    pub val_loss: Option<f64>,
    /// Steps done.
    pub steps: u64,
    /// Time of training.
    pub seconds: f64,
    /// The most memory that the process held.
    pub peak_memory_bytes: Option<u64>,
}

impl Finished {
    /// What runs are ranked by: the last validation loss if there was one, else the last loss.
    pub fn key(&self) -> f64 {
        self.val_loss.unwrap_or(self.last_loss)
    }
}
