//! A `tokenizer.json` beside a model.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::HubError;
use super::error::io;
use crate::files::{read_small_file, replace_file, same_file};

/// Special tokens that end a text, by the names that tokenizers have for them.
const ENDS: [&str; 6] = ["<|endoftext|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|end_of_text|>"];

/// The file of a tokenizer, and what is said of it beside.
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A tokenizer as its file has it.
pub(super) struct Tokens {
    /// The whole file.
    pub json: Value,
    /// Id and text of the special token that ends a text, if there is one.
    pub end: Option<(u64, String)>,
}

impl Tokens {
    /// Reads the file at `path`, for a model of `vocab` tokens.
    ///
    /// # Errors
    /// If it is no tokenizer, or knows more tokens than the model.
    pub fn read(path: &Path, vocab: usize) -> Result<Self, HubError> {
        let wrong = |problem: String, hint| HubError::Input { path: path.into(), problem, hint };
        let bytes = read_small_file(path).map_err(io("read", path))?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("is no JSON: {error}"), "name a `tokenizer.json`"))?;
        if json["model"].is_null() {
            return Err(wrong("has no `model`".into(), "name a `tokenizer.json`"));
        }
        let tokens = Self { end: None, json };
        let listed = tokens.added().map(|(id, _)| id);
        let largest = tokens.vocabulary().into_iter().map(|(id, _)| id).chain(listed).max();
        if let Some(id) = largest.filter(|id| *id >= vocab as u64) {
            let problem = format!("has the id `{id}`, and the model has `{vocab}` tokens");
            return Err(wrong(problem, "use the tokenizer that the model was trained with"));
        }
        let end = tokens.added().find(|(_, text)| ENDS.contains(text));
        let end = end.map(|(id, text)| (id, text.to_owned()));
        Ok(Self { end, ..tokens })
    }

    /// Tokens that the model of the tokenizer does not make itself.
    pub fn added(&self) -> impl Iterator<Item = (u64, &str)> {
        let tokens = self.json["added_tokens"].as_array().into_iter().flatten();
        tokens.filter_map(|token| Some((token["id"].as_u64()?, token["content"].as_str()?)))
    }

    /// Tokens of the model of the tokenizer, if it lists them by name.
    pub fn vocabulary(&self) -> Vec<(u64, &str)> {
        let tokens = self.json["model"]["vocab"].as_object().into_iter().flatten();
        tokens.filter_map(|(text, id)| Some((id.as_u64()?, text.as_str()))).collect()
    }

    /// What `transformers` reads beside it.
    pub fn config(&self, seq_len: usize) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": seq_len,
            "eos_token": self.end.as_ref().map(|(_, text)| text),
            "clean_up_tokenization_spaces": false,
        })
    }
}

/// Writes the tokenizer at `path` into `folder` as tools read it that take no other: `tokenizer.json`, and
/// `tokenizer_config.json` for rows of `seq_len` tokens. What already is the file there stays as it is.
/// Returns the id that ends a text, if the tokenizer has one.
///
/// # Errors
/// If it is no tokenizer or has more than `vocab` tokens, or a file cannot be written.
pub fn write_tokenizer(
    path: &Path,
    folder: &Path,
    vocab: usize,
    seq_len: usize,
) -> Result<Option<usize>, HubError> {
    let tokens = Tokens::read(path, vocab)?;
    let own = same_file(path, &folder.join(TOKENIZER));
    if !own {
        write_json(&folder.join(TOKENIZER), &tokens.json)?;
    }
    let config = folder.join(TOKENIZER_CONFIG);
    if !own || !config.exists() {
        write_json(&config, &tokens.config(seq_len))?;
    }
    Ok(end(Some(&tokens)).map(|id| id as usize))
}

/// Writes `value` to `path`.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), HubError> {
    replace_file(path, |file| writeln!(file, "{value:#}")).map_err(io("write", path))
}

/// The id that ends a text.
pub(super) fn end(tokens: Option<&Tokens>) -> Option<u64> {
    Some(tokens?.end.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"model": {"vocab": {"a": 0, "b": 1}},
        "added_tokens": [{"id": 2, "content": "</s>"}]}"#;

    #[test]
    fn a_tokenizer_is_copied_with_its_config_and_one_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for folder in [&from, &to] {
            std::fs::create_dir(folder).unwrap();
        }
        let path = from.join(TOKENIZER);
        std::fs::write(&path, JSON).unwrap();
        assert_eq!(write_tokenizer(&path, &to, 3, 16).unwrap(), Some(2));
        let read = |path: &Path| -> Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        assert_eq!(read(&to.join(TOKENIZER)), read(&path));
        let config = read(&to.join(TOKENIZER_CONFIG));
        assert_eq!(
            (&config["eos_token"], &config["model_max_length"]),
            (&json!("</s>"), &json!(16))
        );
        // Its own folder.
        std::fs::write(from.join(TOKENIZER_CONFIG), "{}").unwrap();
        write_tokenizer(&path, &from, 3, 16).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), JSON);
        assert_eq!(std::fs::read_to_string(from.join(TOKENIZER_CONFIG)).unwrap(), "{}");
        let refused = write_tokenizer(&path, &to, 2, 16).unwrap_err().to_string();
        assert!(refused.contains("the model has `2` tokens"), "{refused}");
    }
}
