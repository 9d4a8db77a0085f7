//! The folder that `transformers` opens.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use super::HubError;
use super::card::{Run, card};
use super::error::io;
use super::llama::{Llama, Pairs};
use super::planned::{Places, describe};
use super::tensors::{self, Elements, Named};
use super::tokens::{self, TOKENIZER, TOKENIZER_CONFIG, Tokens, write_json};
use crate::blocks::Block;
use crate::files::replace_file;
use crate::model::Model;
use crate::plan::Plan;
use crate::program::{describe as capture, diagram};
use crate::weights::{Source, Weight, layout};

/// The file that loads what `transformers` does not know.
const MODELING: &str = include_str!("modeling_mixlab.py");
/// Bytes of weights in one file, as the hub likes them.
const SHARD: usize = 5_000_000_000;

/// By what `transformers` loads a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// By its own code, as a `llama`.
    Llama,
    /// By `modeling_mixlab.py`.
    Mixlab,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrote {
    /// By what it is loaded.
    pub family: Family,
    /// Why it is no `llama`, if it is not.
    pub difference: Option<String>,
    /// Weight files.
    pub files: usize,
}

/// What to write, and where.
pub struct Folder<'a> {
    /// The folder; made if it is not there.
    pub path: &'a Path,
    /// The config of the model as JSON.
    pub config: &'a Value,
    /// The tokenizer, if text is to become tokens.
    pub tokenizer: Option<&'a Path>,
    /// The run that made the weights, for the model card.
    pub run: Option<&'a Run>,
}

impl Folder<'_> {
    /// The files that may be written, for those who must not lose one.
    pub fn outputs(path: &Path) -> Vec<PathBuf> {
        let names = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            TOKENIZER,
            TOKENIZER_CONFIG,
            "README.md",
            "architecture.svg",
            "modeling_mixlab.py",
        ];
        names.iter().map(|name| path.join(name)).collect()
    }

    /// Writes `model`, with the weights of `source` one at a time.
    ///
    /// # Errors
    /// If neither `transformers` nor the modelling file has one of its blocks, or a file cannot be
    /// read or written.
    pub fn write<B: Backend, K: Block>(
        &self,
        model: &Model<B, K>,
        source: &mut dyn Source,
    ) -> Result<Wrote, HubError> {
        let plan = model.plan();
        let tokens = self.tokenizer.map(|path| Tokens::read(path, plan.vocab)).transpose()?;
        let difference = Llama::difference(plan);
        let (family, mut config, tensors) = match difference {
            None => {
                let llama = Llama::of(model, source, Pairs::Halves)?;
                (Family::Llama, llama.config(), llama.tensors)
            }
            Some(_) => {
                let places = Places::of(model);
                let config = mixlab_config(plan, describe(model, &places)?);
                (Family::Mixlab, config, named(places))
            }
        };
        let end = tokens::end(tokens.as_ref());
        let own = [
            ("dtype", "float32".into()),
            ("bos_token_id", Value::Null),
            ("eos_token_id", end.into()),
            ("mixlab", self.config.clone()),
        ];
        config.as_object_mut().expect("an object").extend(own.map(|(k, v)| (k.to_owned(), v)));
        let program = capture(plan, [1, plan.seq_len])?;
        let parameters = layout(model).iter().map(Weight::len).sum();
        fs::create_dir_all(self.path).map_err(io("make the folder", self.path))?;
        let files = tensors::write(self.path, &tensors, source, SHARD)?.len();
        let generation = json!({
            "bos_token_id": null,
            "eos_token_id": end,
            "max_length": plan.seq_len,
            "use_cache": family == Family::Llama || plan.is_streaming(),
        });
        self.json("generation_config.json", &generation)?;
        if let Some(tokens) = &tokens {
            self.json(TOKENIZER, &tokens.json)?;
            self.json(TOKENIZER_CONFIG, &tokens.config(plan.seq_len))?;
        }
        self.text("architecture.svg", &diagram(plan, &program))?;
        self.text("README.md", &card(plan, self.config, family, parameters, self.run))?;
        if family == Family::Mixlab {
            self.text("modeling_mixlab.py", MODELING)?;
        }
        // Last: a folder with a config is whole.
        self.json("config.json", &config)?;
        Ok(Wrote { family, difference, files })
    }

    fn json(&self, name: &str, value: &Value) -> Result<(), HubError> {
        write_json(&self.path.join(name), value)
    }

    fn text(&self, name: &str, text: &str) -> Result<(), HubError> {
        let path = self.path.join(name);
        replace_file(&path, |file| file.write_all(text.as_bytes())).map_err(io("write", &path))
    }
}

/// Weights under their names in files.
fn named(places: Places) -> Vec<Named> {
    let all = places.files.into_iter().enumerate();
    all.map(|(index, (name, shape))| Named { name, shape, elements: Elements::Weight(index) })
        .collect()
}

fn mixlab_config<K: Block>(plan: &Plan<K>, described: Value) -> Value {
    json!({
        "architectures": ["MixlabForCausalLM"],
        "model_type": "mixlab",
        "auto_map": {
            "AutoConfig": "modeling_mixlab.MixlabConfig",
            "AutoModelForCausalLM": "modeling_mixlab.MixlabForCausalLM",
        },
        "vocab_size": plan.vocab,
        "hidden_size": plan.dim,
        "num_hidden_layers": plan.steps.len(),
        "max_position_embeddings": plan.seq_len,
        // The head reads the embedding itself.
        "tie_word_embeddings": false,
        "use_cache": plan.is_streaming(),
        "plan": described,
    })
}
