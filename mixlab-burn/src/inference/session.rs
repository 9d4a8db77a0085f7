//! A model that has been loaded once.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Int, Tensor, backend::Backend};

use super::SessionError;
use super::narrow::narrowed;
use crate::blocks::{Block, Builtin};
use crate::data::Batch;
use crate::eval::{Layout, Scored, score};
use crate::model::{Model, Tokens};
use crate::plan::{MAX_ELEMENTS, Plan};
use crate::weights;

/// A model on a device, loaded once, that answers as often as it is asked.
///
/// Nothing here trains: there is no dropout, and on an autodiff backend no gradient. Batches may have
/// any number of rows of any length that the blocks run on.
#[derive(Debug)]
pub struct Session<B: Backend, K: Block = Builtin> {
    model: Model<B, K>,
    device: B::Device,
    /// The model that reads token by token.
    decoding: OnceLock<Model<B, K>>,
}

impl<B: Backend, K: Block> Session<B, K> {
    /// A session with `model`, which is on `device`.
    pub fn new(model: Model<B, K>, device: &B::Device) -> Self {
        Self { model: model.no_grad(), device: device.clone(), decoding: OnceLock::new() }
    }

    /// Loads a config and weights that were trained with it.
    ///
    /// # Errors
    /// If the config is not valid or the weights are not those of such a model.
    pub fn open(config: &str, weights: &Path, device: &B::Device) -> Result<Self, SessionError> {
        let plan = Arc::new(Plan::<K>::read(config, &[])?.plan);
        Self::load(plan, weights, device)
    }

    /// Loads weights that were trained with `plan`.
    ///
    /// # Errors
    /// If the weights are not those of such a model.
    pub fn load(
        plan: Arc<Plan<K>>,
        weights: &Path,
        device: &B::Device,
    ) -> Result<Self, SessionError> {
        Ok(Self::new(weights::load(Model::new(plan, device), weights)?, device))
    }

    /// The model.
    pub fn model(&self) -> &Model<B, K> {
        &self.model
    }

    /// The plan of the model.
    pub fn plan(&self) -> &Plan<K> {
        self.model.plan()
    }

    /// Where the model is.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Whether the model can run on a batch of `rows` rows of `seq` tokens.
    ///
    /// # Errors
    /// If a block cannot run on rows of that length, or a tensor would be too large.
    pub fn admits(&self, rows: usize, seq: usize) -> Result<(), SessionError> {
        self.plan().supports(seq)?;
        let largest = self.plan().vocab.max(self.plan().dim);
        let size = rows.checked_mul(seq).and_then(|tokens| tokens.checked_mul(largest));
        match size {
            Some(size) if size <= MAX_ELEMENTS => Ok(()),
            _ => Err(SessionError::Size { batch: rows, seq }),
        }
    }

    /// Moves a batch to the device, if the model can run on it.
    pub(super) fn upload(
        &self,
        batch: Batch,
    ) -> Result<(Tokens<B>, Tensor<B, 1, Int>), SessionError> {
        let Batch { batch: rows, seq, .. } = batch;
        batch.check(seq, self.plan().vocab)?;
        self.admits(rows, seq)?;
        Ok(self.model.upload(batch, &self.device))
    }
}

impl<B: mixlab_ops::Backend, K: Block> Session<B, K> {
    /// The model as rows are read with that come token by token.
    pub(super) fn decoding(&self) -> &Model<B, K> {
        self.decoding.get_or_init(|| narrowed(&self.model, &self.device))
    }

    /// Mean loss of the targets of `batch` in nats.
    ///
    /// # Errors
    /// If the batch is not whole, has unknown ids, or rows of a length that a block cannot run on.
    pub fn loss(&self, batch: Batch) -> Result<f64, SessionError> {
        let (tokens, targets) = self.upload(batch)?;
        Ok(f64::from(read(self.model.loss(tokens, targets, None))[0]))
    }

    /// Loss of each target of `batch` in nats, `[B·T]` row by row.
    ///
    /// # Errors
    /// As [`Session::loss`].
    pub fn losses(&self, batch: Batch) -> Result<Vec<f32>, SessionError> {
        let (tokens, targets) = self.upload(batch)?;
        Ok(read(self.model.losses(tokens, targets, None)))
    }

    /// Loss in nats of each of `tokens` but the first, given those before it in its row: rows of the
    /// plan's length follow one another, and the last one reaches back if it would be shorter.
    ///
    /// # Errors
    /// If there are less than two tokens, or an id is unknown.
    pub fn token_losses(&self, tokens: &[u16]) -> Result<Vec<f32>, SessionError> {
        let layout = Layout::of(self.plan(), tokens.len(), None)?;
        let mut losses = Vec::with_capacity(tokens.len());
        let each = |scored: Scored| {
            losses.extend(scored.losses);
            Ok(())
        };
        score::<SessionError>(tokens, &layout, |batch| self.losses(batch), each)?;
        Ok(losses)
    }

    /// Logits `[B, T, V]` of the token after each of `batch`.
    ///
    /// # Errors
    /// As [`Session::loss`].
    pub fn logits(&self, batch: Batch) -> Result<Tensor<B, 3>, SessionError> {
        let shape = [batch.batch, batch.seq, self.plan().vocab];
        let (tokens, _) = self.upload(batch)?;
        Ok(self.model.forward(tokens).reshape(shape))
    }

    /// The residual stream after the final norm, `[B, T, D]`.
    ///
    /// # Errors
    /// As [`Session::loss`].
    pub fn hidden(&self, batch: Batch) -> Result<Tensor<B, 3>, SessionError> {
        let shape = [batch.batch, batch.seq, self.plan().dim];
        let (tokens, _) = self.upload(batch)?;
        Ok(self.model.hidden(tokens, None).reshape(shape))
    }

    /// The residual stream as each block leaves it, and last the one after the final norm; each
    /// `[B, T, D]`.
    ///
    /// # Errors
    /// As [`Session::loss`].
    pub fn layers(&self, batch: Batch) -> Result<Vec<Tensor<B, 3>>, SessionError> {
        let shape = [batch.batch, batch.seq, self.plan().dim];
        let (tokens, _) = self.upload(batch)?;
        Ok(self.model.layers(tokens).into_iter().map(|x| x.reshape(shape)).collect())
    }
}

/// The numbers of a tensor, read from the device.
pub(super) fn read<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().expect("converted to f32 above")
}
