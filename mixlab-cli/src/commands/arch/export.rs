//! The file of trained weights.

use std::path::Path;

use mixlab_burn::blocks::Block;
use mixlab_burn::data::Batch;
use mixlab_burn::eval::mean_loss;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::weights::{self, Quantization, Quantized};

/// Where weights go and how.
pub struct Export<'a> {
    /// The file.
    pub path: &'a Path,
    /// How they are quantized, if they are.
    pub quantization: Option<Quantization>,
    /// What quantized weights are scored on.
    pub validation: &'a [Batch],
}

impl Export<'_> {
    /// Writes the weights of `model`, and says what came of it.
    pub fn write<A: Backend, K: Block>(
        &self,
        model: &Model<A, K>,
        device: &A::Device,
        say: &impl Fn(String),
    ) -> anyhow::Result<()> {
        let (plan, path) = (model.plan(), self.path);
        let Some(how) = &self.quantization else {
            let count = weights::save(model, path, &plan.metadata())?;
            println!("exported safetensors to {} ({count} tensors)", path.display());
            return Ok(());
        };
        let file = weights::save_quantized(model, path, &plan.metadata(), how)?;
        println!(
            "exported quantized ({}) safetensors to {} ({} tensors)",
            how.levels,
            path.display(),
            file.tensors
        );
        let mut line = format!("  [{}] {}", plan.name, summary(&file));
        if !self.validation.is_empty() {
            let loaded = weights::load(Model::<A, K>::new(plan.clone(), device), path)?;
            let [before, after] = [model, &loaded].map(|m| mean_loss(m, self.validation, device));
            line += &format!(", val={before:.4} before, {after:.4} after");
        }
        say(line);
        Ok(())
    }
}

/// Size and error of a quantized file.
fn summary(file: &Quantized) -> String {
    let Quantized { bytes, float_bytes, error, worst, .. } = file;
    let share = 100.0 * *bytes as f64 / *float_bytes as f64;
    let mut line = format!(
        "quantized: {bytes} bytes, {share:.1}% of {float_bytes}; relative error {:.3}%",
        100.0 * error
    );
    if let Some((name, error)) = worst {
        line += &format!(" (largest {:.3}% in {name})", 100.0 * error);
    }
    line
}
