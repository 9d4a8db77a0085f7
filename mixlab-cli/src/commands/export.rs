//! `export`: a model in a form that other programs run.

mod genai;
mod hub;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::Batch;
use mixlab_burn::data::batch::validation_batches;
use mixlab_burn::eval::mean_loss;
use mixlab_burn::hub::Folder;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{Profile, annotate, data_path, load_runtime};
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights::{self, Bytes, WeightFile, layout};

use super::onnx::OnnxFile;
use super::parity;
use super::shards::Sources;
use crate::backend::{self, Job, Place};
use crate::{cli, outputs};

pub fn run<K: Block>(options: &cli::Export) -> anyhow::Result<()> {
    let (plan, config) = super::planned::<K>(&options.config, None)?;
    let inputs = [options.config.paths(), vec![options.safetensors_load.clone()]].concat();
    let outputs = written(options);
    let outputs: Vec<(&str, &Path)> = outputs.iter().map(|(flag, path)| (*flag, &**path)).collect();
    outputs::check(&inputs, &outputs)?;
    let batches = batches(options, &plan)?;
    backend::run(&options.compute, Export { options, plan, config, batches })
}

/// The files that may be written, each with its flag.
fn written(options: &cli::Export) -> Vec<(&'static str, PathBuf)> {
    let is_genai = options.profile == Profile::Genai;
    let with = |path: &PathBuf| -> Vec<PathBuf> {
        let config = is_genai.then(|| path.with_file_name(genai::CONFIG));
        [path.clone(), data_path(path)].into_iter().chain(config).collect()
    };
    let onnx = options.onnx.iter().flat_map(with).map(|path| ("--onnx", path));
    let gguf = options.gguf.iter().map(|path| ("--gguf", path.clone()));
    let folder = options.hf.iter().flat_map(|folder| {
        let files = Folder::outputs(folder);
        files.into_iter().chain(with(&hub::onnx(folder).1))
    });
    onnx.chain(gguf).chain(folder.map(|path| ("--hf", path))).collect()
}

/// The validation data, if some are named.
fn batches<K: Block>(options: &cli::Export, plan: &Plan<K>) -> anyhow::Result<Vec<Batch>> {
    if options.val.is_empty() {
        return Ok(Vec::new());
    }
    let shards =
        cli::Shards { train: Vec::new(), val: options.val.clone(), raw_u16: options.raw_u16 };
    let sources = Sources::find(&shards, plan.vocab)?;
    Ok(validation_batches(&sources.loader(plan, sources.validation()?))?)
}

struct Export<'a, K> {
    options: &'a cli::Export,
    plan: Arc<Plan<K>>,
    /// The config as JSON, overrides included.
    config: serde_json::Value,
    /// The validation data, if some are named.
    batches: Vec<Batch>,
}

impl<K: Block> Job for Export<'_, K> {
    fn run<A>(self, device: A::Device, _: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let model = Model::<A::InnerBackend, K>::new(self.plan.clone(), &device);
        let path = &self.options.safetensors_load;
        let bytes = Bytes::open(path)?;
        let mut file = WeightFile::new(path, &bytes, layout(&model))?;
        if let Some(path) = &self.options.onnx {
            self.onnx(&model, &mut file, path, &device)?;
        }
        if let Some(path) = &self.options.gguf {
            hub::gguf(self.options, &model, &mut file, path)?;
        }
        if let Some(path) = &self.options.hf {
            hub::folder(self.options, &self.config, &model, &mut file, path)?;
            if self.plan.training.ttt.is_some() {
                eprintln!(
                    "note: the model in it does not learn from what it reads, as test-time training \
                     does, and there is no onnx/\n  hint: `--set training.ttt_steps=0` says so, and \
                     adds it"
                );
            } else {
                let (part, path) = hub::onnx(path);
                fs::create_dir_all(&part).map_err(|error| outputs::unwritable(&part, error))?;
                self.onnx(&model, &mut file, &path, &device)?;
            }
        }
        Ok(())
    }
}

impl<K: Block> Export<'_, K> {
    /// Writes the file at `path`: `model` may be lazy, its weights are read from `file`.
    fn onnx<B: Backend>(
        &self,
        model: &Model<B, K>,
        file: &mut WeightFile<'_>,
        path: &Path,
        device: &B::Device,
    ) -> anyhow::Result<()> {
        let tokenizer = hub::tokenizer(self.options);
        let onnx = OnnxFile {
            plan: &self.plan,
            config: &self.config,
            tokenizer: tokenizer.as_deref(),
            profile: self.options.profile,
            stateful: self.options.stateful,
            external: self.options.external_data,
            functions: self.options.functions(),
            weights: self.options.weights,
        };
        let prepared = onnx.prepare()?;
        prepared.write_from(model, file, path)?;
        if let Some(layers) = &prepared.layers {
            genai::write(self.options, &self.plan, layers, path)?;
        }
        if !self.options.verify && self.batches.is_empty() {
            return Ok(());
        }
        // Whoever only writes has no need of a model in memory.
        let model = weights::load(model.clone(), &self.options.safetensors_load)?;
        let before = self.loss(&model, device);
        let model = prepared.rounded(model)?;
        let after = self.loss(&model, device);
        if let Some((before, after)) = before.zip(after) {
            let kind = self.options.weights.name();
            println!("val={before:.4} before, {after:.4} as {kind}");
        }
        if self.options.verify {
            let session = Session::new(model, device);
            let found = parity::compare(&session, path, &self.options.tolerance)?;
            let runtime = format!("onnxruntime {}", load_runtime()?.version);
            let parity = format!("{:.1e}", found.worst());
            let said = [("mixlab.parity", parity), ("mixlab.parity_runtime", runtime)];
            annotate(path, &said.map(|(key, value)| (key.into(), value)))?;
        }
        Ok(())
    }

    /// The mean loss of the validation data, if there are some.
    fn loss<B: Backend>(&self, model: &Model<B, K>, device: &B::Device) -> Option<f64> {
        (!self.batches.is_empty()).then(|| mean_loss(model, &self.batches, device))
    }
}
