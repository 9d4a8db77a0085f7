//! How listings and pictures call a block.

use serde_json::Value;

use crate::config::BlockSpec;

/// Fields that a picture shows in another way, or that are too long for it.
const ELSEWHERE: [&str; 8] =
    ["type", "weights", "ops", "options", "weight_group", "kv_source", "stream", "source_stream"];

/// The type of a block and its `settings` as they were written.
pub fn label(spec: &BlockSpec, settings: &[(String, Value)]) -> String {
    let mut label = spec.kind.clone();
    for (key, value) in settings {
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
