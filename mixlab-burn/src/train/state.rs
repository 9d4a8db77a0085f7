//! A run in the middle, as data: everything but the weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, TensorData};

use crate::data::Position;
use crate::random::{Generator, WORDS};

/// What a [`Trainer`](super::Trainer) needs beside the model's weights to go on as if it had never
/// stopped: named tensors and named whole numbers, so that any format can hold it.
///
/// | names | what |
/// |---|---|
/// | `w{i}_{name}.m`, `.v` | moments of a weight, called as in weight files; Muon has no `.v` |
/// | `bias` | `1 − βᵗ` of each moving average |
/// | `step`, `tokens`, `seed` | steps and tokens trained on; the seed of dropout |
/// | `watch.*` | losses and gradient norms that nobody has read, and updates that were skipped |
/// | `data.*` | the position of a loader, if [`State::set_position`] was called |
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorData>,
    /// Whole numbers by name.
    pub numbers: BTreeMap<String, u64>,
}

/// Why training cannot go on from a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Something is not there.
    #[error(
        "the state of the run has no `{name}`\n  hint: resume with the whole state of a run of the same config"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape or type than the model's.
    #[error(
        "`{name}` in the state of the run is {found}, not {expected}\n  hint: resume with the state of a run of the same config"
    )]
    Tensor {
        /// Its name.
        name: String,
        /// Its type and shape.
        found: String,
        /// What the model asks for.
        expected: String,
    },
    /// The state has something that the model has no place for.
    #[error(
        "the state of the run has `{name}`, which this model has not\n  hint: resume with the state of a run of the same config"
    )]
    Unknown {
        /// Its name.
        name: String,
    },
}

/// Prefix of the names of a loader's position.
const DATA: &str = "data.";

impl State {
    /// Adds where a loader stands.
    pub fn set_position(&mut self, position: &Position) {
        let Position { generator, visit, token, shards, shard_tokens } = position;
        let words = TensorData::new(generator.words().to_vec(), [WORDS]);
        self.tensors.insert(format!("{DATA}generator"), words);
        let numbers = [
            ("visit", visit),
            ("token", token),
            ("shards", shards),
            ("shard_tokens", shard_tokens),
        ];
        for (name, number) in numbers {
            self.set(&format!("{DATA}{name}"), *number);
        }
    }

    /// Where a loader stood, if that was added.
    ///
    /// # Errors
    /// If a part of it is missing or has another shape.
    pub fn position(&self) -> Result<Option<Position>, StateError> {
        let of_data = |name: &String| name.starts_with(DATA);
        if !self.tensors.keys().chain(self.numbers.keys()).any(of_data) {
            return Ok(None);
        }
        let mut data = self.clone();
        let words = data.tensor(&format!("{DATA}generator"), DType::U64, &[WORDS])?;
        let words: Vec<u64> = words.into_vec().expect("of this type");
        let mut number = |name: &str| data.number(&format!("{DATA}{name}"));
        Ok(Some(Position {
            generator: Arc::new(Generator::from_words(words.try_into().expect("of this length"))),
            visit: number("visit")?,
            token: number("token")?,
            shards: number("shards")?,
            shard_tokens: number("shard_tokens")?,
        }))
    }

    pub(super) fn set(&mut self, name: &str, number: usize) {
        self.numbers.insert(name.into(), number as u64);
    }

    /// Takes a number out.
    pub(super) fn number(&mut self, name: &str) -> Result<usize, StateError> {
        let number = self.numbers.remove(name);
        let number = number.ok_or_else(|| StateError::Missing { name: name.into() })?;
        Ok(number as usize)
    }

    /// Takes a tensor of this type and shape out.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorData, StateError> {
        let data = self.tensors.remove(name);
        let data = data.ok_or_else(|| StateError::Missing { name: name.into() })?;
        let found = data.shape.to_vec();
        if (data.dtype, &found[..]) != (dtype, shape) {
            return Err(StateError::Tensor {
                name: name.into(),
                found: format!("{:?} {found:?}", data.dtype),
                expected: format!("{dtype:?} {shape:?}"),
            });
        }
        Ok(data)
    }

    /// Whether everything but the position of a loader has been taken out.
    pub(super) fn used_up(&self) -> Result<(), StateError> {
        let mut left = self.tensors.keys().chain(self.numbers.keys());
        match left.find(|name| !name.starts_with(DATA)) {
            Some(name) => Err(StateError::Unknown { name: name.clone() }),
            None => Ok(()),
        }
    }
}
