//! The file of trained weights.

use std::path::Path;

use burn::tensor::backend::Backend;
use mixlab_burn::blocks::Block;
use mixlab_burn::files::Replacement;
use mixlab_burn::model::Model;
use mixlab_burn::weights::{self, Quantization, Quantized, WeightError};

/// A file that was written.
pub enum Exported {
    /// So many tensors as they are.
    Plain(usize),
    /// Tensors that are small integers now.
    Quantized(Quantization, Quantized),
}

impl Exported {
    /// Writes the weights of `model` to `place`, quantized if there is a rule for it.
    pub fn write<B: Backend, K: Block>(
        model: &Model<B, K>,
        place: Replacement,
        quantization: Option<Quantization>,
    ) -> Result<Self, WeightError> {
        let metadata = model.plan().metadata();
        Ok(match quantization {
            None => Self::Plain(weights::write(model, place, &metadata)?),
            Some(how) => {
                Self::Quantized(how, weights::write_quantized(model, place, &metadata, &how)?)
            }
        })
    }

    /// The line that says where it is.
    pub fn line(&self, path: &Path) -> String {
        let (kind, tensors) = match self {
            Self::Plain(tensors) => (String::new(), *tensors),
            Self::Quantized(how, file) => (format!("quantized ({}) ", how.levels), file.tensors),
        };
        format!("exported {kind}safetensors to {} ({tensors} tensors)", path.display())
    }
}

/// Size and error of a quantized file, and the validation losses before and after, if there are some.
pub fn summary(file: &Quantized, losses: Option<(f64, f64)>) -> String {
    let Quantized { bytes, float_bytes, error, worst, .. } = file;
    let share = 100.0 * *bytes as f64 / *float_bytes as f64;
    let mut line = format!(
        "quantized: {bytes} bytes, {share:.1}% of {float_bytes}; relative error {:.3}%",
        100.0 * error
    );
    if let Some((name, error)) = worst {
        line += &format!(" (largest {:.3}% in {name})", 100.0 * error);
    }
    if let Some((before, after)) = losses {
        line += &format!(", val={before:.4} before, {after:.4} after");
    }
    line
}
