//! The ONNX file of a model, as `export` and `arch` write it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use burn::tensor::backend::Backend;
use mixlab_burn::blocks::Block;
use mixlab_burn::files;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{
    Layers, Options, Profile, Traced, WeightType, Written, trace_genai, trace_model, trace_stateful,
};
use mixlab_burn::plan::Plan;
use mixlab_burn::weights::Source;
use serde_json::Value;

use super::sha256;

/// What an ONNX file is to be.
pub struct OnnxFile<'a, K: Block> {
    pub plan: &'a Arc<Plan<K>>,
    /// The config as JSON, overrides included.
    pub config: &'a Value,
    /// The `tokenizer.json` of its ids, if it is known.
    pub tokenizer: Option<&'a Path>,
    pub profile: Profile,
    pub stateful: bool,
    pub external: bool,
    /// Whether blocks are functions; none for what the profile has.
    pub functions: Option<bool>,
    pub weights: WeightType,
}

/// A file of which all is known but the weights.
pub struct Prepared {
    traced: Traced,
    options: Options,
    /// Its layers, if it is for onnxruntime-genai.
    pub layers: Option<Layers>,
}

impl<K: Block> OnnxFile<'_, K> {
    /// All but the weights, or why the model cannot be exported.
    pub fn prepare(&self) -> anyhow::Result<Prepared> {
        let (traced, layers) = match (self.profile, self.stateful) {
            (Profile::Genai, _) => {
                let (traced, layers) = trace_genai(self.plan)?;
                (traced, Some(layers))
            }
            (_, true) => (trace_stateful(self.plan)?, None),
            (_, false) => (trace_model(self.plan)?, None),
        };
        traced.check(self.profile)?;
        let options = Options {
            external: self.external,
            profile: self.profile,
            functions: self.functions,
            weights: self.weights,
            doc: self.doc(),
            metadata: self.metadata()?,
        };
        Ok(Prepared { traced, options, layers })
    }

    /// What viewers show of the graph.
    fn doc(&self) -> String {
        let Plan { name, dim, vocab, seq_len, steps, .. } = &**self.plan;
        let blocks: Vec<&str> = steps.iter().map(|step| step.label.as_str()).collect();
        format!(
            "{name}: model_dim={dim} vocab_size={vocab} seq_len={seq_len}, blocks {}",
            blocks.join(", ")
        )
    }

    fn metadata(&self) -> anyhow::Result<Vec<(String, String)>> {
        let stateful = self.stateful || self.profile == Profile::Genai;
        let config = self.config.to_string();
        let mut entries = vec![
            ("mixlab.name", self.plan.name.clone()),
            ("mixlab.config_sha256", sha256(&config)),
            ("mixlab.config", config),
            ("mixlab.seq_len", self.plan.seq_len.to_string()),
            ("mixlab.stateful", stateful.to_string()),
            ("mixlab.profile", self.profile.name().into()),
            ("mixlab.least_runtime", self.profile.least_runtime().into()),
            ("mixlab.least_tokens", "1".into()),
        ];
        if let Some(path) = self.tokenizer {
            entries.push(("mixlab.tokenizer_sha256", sha256(read(path)?)));
        }
        Ok(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl Prepared {
    /// Writes the file with the weights of `model` to `path`, and says so.
    pub fn write<B: Backend, K: Block>(
        &self,
        model: &Model<B, K>,
        path: &Path,
    ) -> anyhow::Result<()> {
        let written = self.traced.write(model, path, &self.options)?;
        self.say(&written, path);
        Ok(())
    }

    /// [`write`](Self::write) with the weights of `source`, one at a time: `model` may be lazy.
    pub fn write_from<B: Backend, K: Block>(
        &self,
        model: &Model<B, K>,
        source: &mut dyn Source,
        path: &Path,
    ) -> anyhow::Result<()> {
        let written = self.traced.write_from(model, source, path, &self.options)?;
        self.say(&written, path);
        Ok(())
    }

    /// `model` with the weights that the file computes with.
    pub fn rounded<B: Backend, K: Block>(&self, model: Model<B, K>) -> anyhow::Result<Model<B, K>> {
        Ok(self.traced.rounded(model, &self.options)?)
    }

    fn say(&self, written: &Written, path: &Path) {
        println!("wrote {}: {}", path.display(), summary(written, self.options.weights));
    }
}

/// What is in a file, in a line.
fn summary(written: &Written, kind: WeightType) -> String {
    let Written { nodes, parameters, bytes, error, external } = *written;
    let beside = if external { ", weights beside it" } else { "" };
    let mut line = format!("{nodes} operations, {parameters} parameters{beside}");
    if kind != WeightType::F32 {
        let share = 100.0 * bytes as f64 / (4 * parameters.max(1)) as f64;
        line += &format!(
            "; as {}: {bytes} bytes, {share:.1}% of f32, relative error {:.3}%",
            kind.name(),
            100.0 * error
        );
    }
    line
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::read_small_file(path).map_err(|error| {
        let hint = files::hint(&error);
        anyhow!("cannot read `{}`: {error}\n  hint: {hint}", path.display())
    })
}

/// The `tokenizer.json` that lies beside the first of `files` that has one.
pub fn tokenizer_beside<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
    let beside = |path: &Path| Some(path.parent()?.join("tokenizer.json"));
    files.into_iter().filter_map(beside).find(|path| path.is_file())
}
