//! When validation no longer gets better.

use burn::tensor::{DType, TensorData};
use mixlab_ops::Backend;

use super::{Snapshot, State, StateError};

/// The best validation loss so far, and how many validations ago it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    loss: f64,
    since: usize,
}

impl Best {
    pub fn new() -> Self {
        Self { loss: f64::INFINITY, since: 0 }
    }

    /// Takes in one more validation loss; whether the last `patience` ones were no better than one
    /// before.
    pub fn is_stale(&mut self, loss: f64, patience: Option<usize>) -> bool {
        let better = loss < self.loss;
        self.since = if better { 0 } else { self.since + 1 };
        self.loss = self.loss.min(loss);
        patience.is_some_and(|patience| self.since >= patience)
    }

    pub fn save<B: Backend>(&self, snapshot: &mut Snapshot<B>) {
        snapshot.host("best.loss", TensorData::new(vec![self.loss], [1]));
        snapshot.number("best.since", self.since);
    }

    pub fn resume(state: &mut State) -> Result<Self, StateError> {
        let loss = state.tensor("best.loss", DType::F64, &[1])?;
        let loss = loss.iter::<f64>().next().expect("one number");
        Ok(Self { loss, since: state.number("best.since")? })
    }
}
