//! A `tokenizer.json` beside a model.

use std::path::Path;

use serde_json::{Value, json};

use super::HubError;
use super::error::io;

/// Special tokens that end a text, by the names that tokenizers have for them.
const ENDS: [&str; 6] = ["<|endoftext|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|end_of_text|>"];

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
        let bytes = std::fs::read(path).map_err(io("read", path))?;
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

/// The id that ends a text.
pub(super) fn end(tokens: Option<&Tokens>) -> Option<u64> {
    Some(tokens?.end.as_ref()?.0)
}
