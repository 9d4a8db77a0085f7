//! `export`: a model in a form that other programs run.

mod hub;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::files::replace_file;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{Layers, annotate, genai_config};
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights;

use super::onnx::OnnxFile;
use super::parity;
use crate::backend::{self, Job, Place};
use crate::{cli, outputs};

pub fn run<K: Block>(options: &cli::Export) -> anyhow::Result<()> {
    let (plan, config) = super::planned::<K>(&options.config, None)?;
    let inputs = [options.config.paths(), vec![options.safetensors_load.clone()]].concat();
    let folder = options.hf.as_ref().map(|path| hub::outputs(path));
    let files = [("--onnx", &options.onnx), ("--gguf", &options.gguf)];
    let files = files.into_iter().filter_map(|(flag, file)| Some((flag, file.clone()?)));
    let outputs: Vec<(&str, PathBuf)> =
        files.chain(folder.into_iter().flatten().map(|path| ("--hf", path))).collect();
    let outputs: Vec<(&str, &Path)> = outputs.iter().map(|(flag, path)| (*flag, &**path)).collect();
    outputs::check(&inputs, &outputs)?;
    backend::run(&options.compute, Export { options, plan, config })
}

struct Export<'a, K> {
    options: &'a cli::Export,
    plan: Arc<Plan<K>>,
    /// The config as JSON, overrides included.
    config: serde_json::Value,
}

impl<K: Block> Job for Export<'_, K> {
    fn run<A>(self, device: A::Device, _: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let model = Model::<A::InnerBackend, K>::new(self.plan.clone(), &device);
        let model = weights::load(model, &self.options.safetensors_load)?;
        if let Some(path) = &self.options.onnx {
            self.onnx(&model, path, &device)?;
        }
        if let Some(path) = &self.options.gguf {
            hub::gguf(self.options, &model, path)?;
        }
        if let Some(path) = &self.options.hf {
            hub::folder(self.options, &self.config, &model, path)?;
            self.onnx(&model, &hub::onnx(path)?, &device)?;
        }
        Ok(())
    }
}

impl<K: Block> Export<'_, K> {
    fn onnx<B: Backend>(
        &self,
        model: &Model<B, K>,
        path: &Path,
        device: &B::Device,
    ) -> anyhow::Result<()> {
        let tokenizer = hub::tokenizer(self.options);
        let file = OnnxFile {
            plan: &self.plan,
            config: &self.config,
            tokenizer: tokenizer.as_deref(),
            profile: self.options.profile.profile(),
            stateful: self.options.stateful,
            external: self.options.external_data,
            functions: self.options.functions(),
        };
        let prepared = file.prepare()?;
        prepared.write(model, path)?;
        if let Some(layers) = &prepared.layers {
            self.write_genai(path, layers)?;
        }
        if self.options.verify {
            let session = Session::new(model.clone(), device);
            let found = parity::compare(&session, path, &self.options.tolerance)?;
            annotate(path, &[("mixlab.parity".into(), format!("{:.1e}", found.worst()))])?;
        }
        Ok(())
    }

    /// Writes what onnxruntime-genai reads beside the file.
    fn write_genai(&self, path: &Path, layers: &Layers) -> anyhow::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let eos = self.options.eos_token;
        let config = genai_config(&self.plan, layers, &name, eos);
        let beside = path.with_file_name("genai_config.json");
        replace_file(&beside, |file| writeln!(file, "{config:#}"))
            .map_err(|error| outputs::unwritable(&beside, error))?;
        println!("wrote {}", beside.display());
        if eos.is_none() {
            println!(
                "note: no token ends a text, and onnxruntime-genai asks for one: it stops at {}; name \
                 another with --eos-token",
                self.plan.vocab - 1
            );
        }
        Ok(())
    }
}
