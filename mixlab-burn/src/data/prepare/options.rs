//! What to prepare and how.

use std::path::PathBuf;

use super::PrepareError;
use crate::data::MAX_PREPARED_VOCAB;

/// What to prepare and how.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// A file with text, JSON lines, a JSON list or Parquet; a folder with such files; or a pipe.
    pub input: PathBuf,
    /// Folder for shards, tokenizer and tables.
    pub output: PathBuf,
    /// Vocabulary size to train for, 1 … 65535.
    pub vocab_size: usize,
    /// Part of the tokens that is kept for validation, in [0, 1).
    pub val_split: f64,
    /// A `tokenizer.json` to use instead of training one.
    pub tokenizer: Option<PathBuf>,
    /// The field of records that holds the text; `a.b` is the field `b` of the object `a`.
    pub text_field: String,
    /// Tokens in a shard, > 0; the last shard has what is left.
    pub tokens_per_shard: usize,
    /// Whether blocks of training shards are shuffled.
    pub shuffle: bool,
    /// Whether a trained tokenizer knows all 256 bytes, and not only those of the text.
    pub byte_alphabet: bool,
    /// The tokenizer is trained on the first part of the text, of about so many bytes.
    pub train_bytes: usize,
}

impl PrepareOptions {
    /// The default way to prepare `input` into the folder `output`.
    pub fn new(input: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            vocab_size: 1024,
            val_split: 0.1,
            tokenizer: None,
            text_field: "text".to_owned(),
            tokens_per_shard: 1_000_000,
            shuffle: true,
            byte_alphabet: false,
            train_bytes: usize::MAX,
        }
    }

    /// Refuses what cannot work, before anything is written.
    pub(super) fn check(&self) -> Result<(), PrepareError> {
        let wrong = |option, value: &dyn ToString, expected| {
            Err(PrepareError::Option { option, value: value.to_string(), expected })
        };
        if self.tokenizer.is_none() && !(1..=MAX_PREPARED_VOCAB).contains(&self.vocab_size) {
            return wrong("--vocab-size", &self.vocab_size, "1 to 65535 (ids have 16 bits)");
        }
        if !(0.0..1.0).contains(&self.val_split) {
            return wrong("--val-split", &self.val_split, "at least 0 and below 1");
        }
        if self.output.to_str().is_none_or(str::is_empty) {
            let expected =
                "a folder whose name is UTF-8: shards are found by patterns, which are text";
            return wrong("--output", &self.output.display(), expected);
        }
        if self.tokens_per_shard == 0 {
            return wrong("--tokens-per-shard", &self.tokens_per_shard, "1 or more");
        }
        Ok(())
    }
}
