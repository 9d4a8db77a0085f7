//! A run in the middle, as data: everything but the weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift};

use crate::data::Position;
use crate::random::{Generator, WORDS};

/// What a [`Trainer`](super::Trainer) needs beside the model's weights to go on as if it had never
/// stopped: named tensors and named whole numbers, so that any format can hold it.
///
/// | names | what |
/// |---|---|
/// | `w{i}_{name}.m`, `.v` | moments of a weight, called as in weight files; Muon has no `.v` |
/// | `bias`, `bias.1` … | `1 − βᵗ` of each moving average |
/// | `w{i}_{name}.average` | the average of a weight, once there is one |
/// | `best.*` | the best validation loss, and how many validations ago it was |
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
    /// A tensor has another shape or type than the model's, or a number is one of no run.
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

/// A run in the middle that has not been read from the device yet: weights and [`State`]. It holds
/// on to what it names, so that nothing of that changes; steps taken meanwhile need more memory.
#[derive(Debug)]
pub struct Snapshot<B: Backend> {
    /// The weights, in their order, called as in weight files.
    pub weights: Vec<Held<B>>,
    /// The tensors of the state.
    pub tensors: Vec<Held<B>>,
    /// The numbers of the state.
    pub numbers: BTreeMap<String, u64>,
}

/// A named tensor, here or still on the device.
#[derive(Debug)]
pub struct Held<B: Backend> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    value: Storage<B>,
}

#[derive(Debug)]
enum Storage<B: Backend> {
    Device(Tensor<B, 1>),
    Host(TensorData),
}

impl<B: Backend> Held<B> {
    /// A tensor on the device; its values are read as f32.
    pub(super) fn new(name: String, value: FloatTensor<B>, shape: &[usize]) -> Self {
        let flat = B::float_reshape(value, [shape.iter().product::<usize>()].into());
        Self { name, shape: shape.to_vec(), value: Storage::Device(lift(flat)) }
    }

    /// The type of its elements once it is read.
    pub fn dtype(&self) -> DType {
        match &self.value {
            Storage::Device(_) => DType::F32,
            Storage::Host(data) => data.dtype,
        }
    }

    /// Its values; reads the device if need be.
    pub fn read(self) -> TensorData {
        match self.value {
            Storage::Host(data) => data,
            Storage::Device(tensor) => {
                let data = tensor.into_data().convert::<f32>();
                TensorData { shape: self.shape.into(), ..data }
            }
        }
    }
}

impl<B: Backend> Snapshot<B> {
    /// Nothing but weights.
    pub(super) fn new(weights: Vec<Held<B>>) -> Self {
        Self { weights, tensors: Vec::new(), numbers: BTreeMap::new() }
    }

    pub(super) fn tensor(&mut self, name: String, value: FloatTensor<B>, shape: &[usize]) {
        self.tensors.push(Held::new(name, value, shape));
    }

    pub(super) fn host(&mut self, name: impl Into<String>, data: TensorData) {
        let (name, shape) = (name.into(), data.shape.to_vec());
        self.tensors.push(Held { name, shape, value: Storage::Host(data) });
    }

    pub(super) fn number(&mut self, name: &str, number: usize) {
        self.numbers.insert(name.into(), number as u64);
    }

    /// Adds where a loader stands.
    pub fn set_position(&mut self, position: &Position) {
        let mut state = State::default();
        state.set_position(position);
        state.tensors.into_iter().for_each(|(name, data)| self.host(name, data));
        self.numbers.extend(state.numbers);
    }

    /// The state without the weights; reads the device.
    pub fn into_state(self) -> State {
        let read = |held: Held<B>| (held.name.clone(), held.read());
        State { tensors: self.tensors.into_iter().map(read).collect(), numbers: self.numbers }
    }
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

    fn set(&mut self, name: &str, number: usize) {
        self.numbers.insert(name.into(), number as u64);
    }

    /// Takes a number out.
    pub(super) fn number(&mut self, name: &str) -> Result<usize, StateError> {
        let number = self.numbers.remove(name);
        let number = number.ok_or_else(|| StateError::Missing { name: name.into() })?;
        // What is counted goes on to be counted.
        i64::try_from(number).map(|number| number as usize).map_err(|_| StateError::Tensor {
            name: name.into(),
            found: format!("`{number}`"),
            expected: format!("at most `{}`", i64::MAX),
        })
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
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
