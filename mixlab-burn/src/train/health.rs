//! Losses and gradients that are not finite. Updates with such gradients are skipped on the device;
//! the host learns of it when it reads the loss.

use burn::tensor::{DType, Tensor, TensorData};
use mixlab_ops::Backend;

use super::{Snapshot, State, StateError};

/// Multiplier of the gradients and their norm, `[factor, norm]`, on the device. A negative factor
/// tells that the norm was not finite and nothing was updated.
pub type Health<B> = Tensor<B, 1>;

/// Skipped updates in a row that end a run.
const LIMIT: usize = 3;
/// Steps whose numbers become one tensor.
const TOGETHER: usize = 64;

/// Loss and health of all steps, read rarely.
pub(super) struct Monitor<B: Backend> {
    losses: Vec<Tensor<B, 1>>,
    health: Vec<Health<B>>,
    /// Steps that were read.
    read: usize,
    /// Number and loss of the last step that was read.
    pub last: Option<(usize, f64)>,
    /// Loss of the first step of the run.
    pub first: Option<f64>,
    /// Skipped updates of the whole run.
    pub skipped: usize,
    /// Norm of the gradients of the last step that was read.
    pub norm: f32,
    in_a_row: usize,
}

/// What a look at the steps since the last one found.
pub(super) enum Reading {
    /// The loss of the last step.
    Loss(f64),
    /// The loss of this step is NaN.
    NotANumber(usize),
    /// There were too many skipped updates in a row.
    Broken,
}

impl<B: Backend> Monitor<B> {
    pub fn new() -> Self {
        let (losses, health) = (Vec::new(), Vec::new());
        let (first, last) = (None, None);
        Self { losses, health, read: 0, last, first, skipped: 0, norm: 0.0, in_a_row: 0 }
    }

    /// Keeps loss and health of a step, on the device; few tensors, however rarely they are read.
    pub fn push(&mut self, loss: Tensor<B, 1>, health: Health<B>) {
        self.losses.push(loss);
        self.health.push(health);
        if self.health.len() == TOGETHER {
            self.losses = vec![Tensor::cat(std::mem::take(&mut self.losses), 0)];
            self.health = vec![Tensor::cat(std::mem::take(&mut self.health), 0)];
        }
    }

    /// Reads what was pushed since the last time, if anything was.
    pub fn read(&mut self) -> Option<Reading> {
        let losses = numbers(&std::mem::take(&mut self.losses));
        let mut broken = false;
        for step in numbers(&std::mem::take(&mut self.health)).chunks(2) {
            let skipped = step[0] < 0.0;
            self.skipped += usize::from(skipped);
            self.in_a_row = if skipped { self.in_a_row + 1 } else { 0 };
            broken |= self.in_a_row >= LIMIT;
            self.norm = step[1];
        }
        let first = self.read;
        self.read += losses.len();
        let loss = f64::from(*losses.last()?);
        self.first = self.first.or(losses.first().map(|loss| f64::from(*loss)));
        self.last = Some((self.read - 1, loss));
        Some(match losses.iter().position(|loss| loss.is_nan()) {
            Some(at) => Reading::NotANumber(first + at),
            None if broken => Reading::Broken,
            None => Reading::Loss(loss),
        })
    }

    /// Adds all of this to `snapshot`; reads the device.
    pub fn save(&self, snapshot: &mut Snapshot<B>) {
        for (name, tensors) in [("watch.losses", &self.losses), ("watch.health", &self.health)] {
            let numbers = numbers(tensors);
            let count = numbers.len();
            snapshot.host(name, TensorData::new(numbers, [count]));
        }
        let last = self.last.map_or(vec![], |(step, loss)| vec![step as f64, loss]);
        let (count, first) = (last.len(), Vec::from_iter(self.first));
        snapshot.host("watch.last", TensorData::new(last, [count]));
        let count = first.len();
        snapshot.host("watch.first", TensorData::new(first, [count]));
        snapshot.number("watch.read", self.read);
        snapshot.number("watch.skipped", self.skipped);
        snapshot.number("watch.in_a_row", self.in_a_row);
    }

    /// Takes out of `state` what [`Monitor::save`] added.
    pub fn resume(state: &mut State, device: &B::Device) -> Result<Self, StateError> {
        let mut watch = Self::new();
        watch.read = state.number("watch.read")?;
        watch.skipped = state.number("watch.skipped")?;
        watch.in_a_row = state.number("watch.in_a_row")?;
        let unread = state.tensors.get("watch.losses").map_or(0, TensorData::num_elements);
        let losses = state.tensor("watch.losses", DType::F32, &[unread])?;
        let health = state.tensor("watch.health", DType::F32, &[2 * unread])?;
        if unread > 0 {
            watch.losses = vec![Tensor::from_data(losses, device)];
            watch.health = vec![Tensor::from_data(health, device)];
        }
        let known = if watch.read > 0 { 2 } else { 0 };
        let last = state.tensor("watch.last", DType::F64, &[known])?;
        let first = state.tensor("watch.first", DType::F64, &[known / 2])?;
        watch.first = first.iter::<f64>().next();
        let last: Vec<f64> = last.into_vec().expect("of this type");
        watch.last = last.first().map(|step| (*step as usize, last[1]));
        Ok(watch)
    }
}

fn numbers<B: Backend>(tensors: &[Tensor<B, 1>]) -> Vec<f32> {
    if tensors.is_empty() {
        return Vec::new();
    }
    let data = Tensor::cat(tensors.to_vec(), 0).into_data().convert::<f32>();
    data.to_vec().expect("converted to f32")
}
