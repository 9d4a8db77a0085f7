//! Evaluation: losses of a model on given tokens, as data.

#[cfg(feature = "data")]
mod bytes;
mod full;
mod layout;
#[cfg(feature = "data")]
mod total;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::blocks::Block;
use crate::data::Batch;
use crate::model::Model;

#[cfg(feature = "data")]
pub use bytes::{BytesError, TrueBytes};
pub use full::{Scored, score};
pub use layout::{Layout, Row};
#[cfg(feature = "data")]
pub use total::Total;

/// Mean loss over `batches` in nats per token, without dropout or gradients. The device is read
/// once.
pub fn mean_loss<B, K>(model: &Model<B, K>, batches: &[Batch], device: &B::Device) -> f64
where
    B: mixlab_ops::Backend,
    K: Block,
{
    let model = model.clone().no_grad();
    let losses: Vec<Tensor<B, 1>> = batches
        .iter()
        .map(|batch| {
            let (tokens, targets) = model.upload(batch.clone(), device);
            model.loss(tokens, targets, None)
        })
        .collect();
    let losses = Tensor::cat(losses, 0).into_data().convert::<f64>();
    let losses: Vec<f64> = losses.into_vec().expect("converted to f64 above");
    losses.iter().sum::<f64>() / losses.len() as f64
}
