//! The cases that mixlab 0.10.1 has run, and their files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{Batch, Batches, Loader, LoaderConfig};
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use safetensors::SafeTensors;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

pub struct Case {
    folder: PathBuf,
    pub trace: Value,
    pub plan: Arc<Plan>,
}

impl Case {
    pub fn open(name: &str) -> Result<Self, String> {
        let folder = root().join("cases").join(name);
        let text = fs::read_to_string(folder.join("trace.json")).unwrap();
        let config = folder.join("config.json");
        let planned = Plan::read(config.to_str().unwrap(), &[]).map_err(|e| e.to_string())?;
        let trace = serde_json::from_str(&text).unwrap();
        Ok(Self { folder, trace, plan: Arc::new(planned.plan) })
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(self.trace["files"][file].as_str().unwrap_or_else(|| panic!("{file}")))
    }

    /// All tensors of a file, by name.
    pub fn tensors(&self, file: &str) -> BTreeMap<String, Vec<f32>> {
        let bytes = fs::read(self.path(file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let number = |b: &[u8]| match b {
            [a, b, c, d] => [*a, *b, *c, *d],
            _ => unreachable!(),
        };
        let read = |view: safetensors::tensor::TensorView<'_>| -> Vec<f32> {
            let words = view.data().chunks(4).map(number);
            match view.dtype() {
                safetensors::Dtype::I32 => words.map(|w| i32::from_le_bytes(w) as f32).collect(),
                _ => words.map(f32::from_le_bytes).collect(),
            }
        };
        file.tensors().into_iter().map(|(name, view)| (name, read(view))).collect()
    }

    pub fn numbers(&self, key: &str) -> Vec<f64> {
        self.trace[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn patterns(&self, split: &str) -> Vec<String> {
        vec![format!("{}/data/char64/{split}_*.bin", root().display())]
    }

    pub fn loader(&self, split: &str) -> LoaderConfig {
        let training = &self.plan.training;
        LoaderConfig {
            patterns: self.patterns(split),
            batch_tokens: training.batch_tokens,
            seq_len: self.plan.seq_len,
            chunk: training.shuffle_chunk_tokens,
            seed: training.seed,
            vocab_size: self.plan.vocab,
            layout: Layout::Header,
        }
    }

    pub fn first_batch(&self, split: &str) -> Batch {
        Loader::new(&self.loader(split)).unwrap().next_batch().unwrap()
    }

    pub fn model<B: burn::tensor::backend::Backend>(&self) -> Model<B> {
        Model::init(self.plan.clone(), &Default::default())
    }
}

/// All cases.
pub fn cases() -> Vec<String> {
    let entries = fs::read_dir(root().join("cases")).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 62, "golden cases are missing");
    names
}

/// Runs `check` on every case and reports all failures together.
pub fn every_case(check: impl Fn(&Case) -> Result<(), String>) {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|name| {
            let checked = Case::open(name).and_then(|case| check(&case));
            checked.err().map(|problem| format!("{name}: {problem}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
