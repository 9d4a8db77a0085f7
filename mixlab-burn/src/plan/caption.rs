//! How listings and pictures call a block, and what it reads beside the stream.

use serde_json::Value;

use crate::config::{BlockSpec, Config};

/// Something that a block reads beside the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The block (from 0) that it comes from; `None` for the embedding.
    pub from: Option<usize>,
    /// What is read.
    pub what: String,
}

/// Fields that a picture shows in another way, or that are too long for it.
const ELSEWHERE: [&str; 8] =
    ["type", "weights", "ops", "options", "weight_group", "kv_source", "stream", "source_stream"];

/// The type of the block written as `json`, and its settings.
pub fn label(spec: &BlockSpec, json: &Value) -> String {
    let mut label = spec.kind.clone();
    for (key, value) in json.as_object().into_iter().flatten() {
        let key = key.to_lowercase();
        match value {
            _ if ELSEWHERE.contains(&key.as_str()) => {}
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => label += &format!(" {key}"),
            Value::String(text) => label += &format!(" {text}"),
            value => label += &format!(" {key}={value}"),
        }
    }
    label
}

/// What block `index` reads beside the stream.
pub fn reads(config: &Config, index: usize) -> Vec<Read> {
    let spec = &config.blocks[index];
    let key_values = spec.kv_source.filter(|n| *n > 0).and_then(|n| usize::try_from(n - 1).ok());
    let key_values = key_values.map(|from| Read { from: Some(from), what: "k, v".into() });
    let stream = spec.source_stream.as_deref().filter(|name| *name != "x").map(|name| Read {
        from: config.blocks.iter().position(|block| block.stream.as_deref() == Some(name)),
        what: name.into(),
    });
    let mixed = config.resid_mix == Some(true) && spec.kind == "plain";
    let mixed = mixed.then(|| Read { from: None, what: "x0".into() });
    key_values.into_iter().chain(stream).chain(mixed).collect()
}
