//! The folder of Hugging Face, and the file of llama.cpp.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use mixlab_burn::blocks::Block;
use mixlab_burn::hub::{Family, Folder, Run, write_gguf};
use mixlab_burn::model::Model;
use mixlab_burn::weights::Source;
use serde_json::Value;

use crate::cli;
use crate::commands::onnx::tokenizer_beside;

/// The part of the folder that has its ONNX file, and that file.
pub fn onnx(folder: &Path) -> (PathBuf, PathBuf) {
    let part = folder.join("onnx");
    let file = part.join("model.onnx");
    (part, file)
}

/// Writes `--hf DIR` without its ONNX file.
pub fn folder<B: Backend, K: Block>(
    options: &cli::Export,
    config: &Value,
    model: &Model<B, K>,
    weights: &mut dyn Source,
    path: &Path,
) -> anyhow::Result<()> {
    let run = options.metrics.as_deref().map(Run::read).transpose()?;
    let tokenizer = tokenizer(options);
    let tokenizer = tokenizer.as_deref();
    let wrote = Folder { path, config, tokenizer, run: run.as_ref() }.write(model, weights)?;
    let by = match wrote.family {
        Family::Llama => "transformers loads it as a llama, without code of its own",
        Family::Mixlab => "transformers loads it with trust_remote_code=True",
    };
    println!("wrote {}: {by}", path.display());
    if let Some(difference) = wrote.difference {
        println!("  it is no llama: {difference}");
    }
    if tokenizer.is_none() {
        eprintln!("note: there is no tokenizer in it\n  hint: `--tokenizer FILE` names one");
    }
    Ok(())
}

/// Writes `--gguf FILE`.
pub fn gguf<B: Backend, K: Block>(
    options: &cli::Export,
    model: &Model<B, K>,
    weights: &mut dyn Source,
    path: &Path,
) -> anyhow::Result<()> {
    let words = write_gguf(model, weights, path, tokenizer(options).as_deref())?;
    let tokens = if words { "with its tokens" } else { "without tokens: it takes ids" };
    println!("wrote {}: a llama, {tokens}", path.display());
    Ok(())
}

/// The tokenizer that is named, or that lies beside the weights or the config.
pub fn tokenizer(options: &cli::Export) -> Option<PathBuf> {
    let places = [&*options.safetensors_load, &*options.config.config];
    options.tokenizer.clone().or_else(|| tokenizer_beside(places))
}
