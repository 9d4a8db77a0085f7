//! Text to token ids: the tokenizer is trained here, or read from a `tokenizer.json`.

mod cut;
mod encode;
mod ids;
mod load;
mod special;
mod train;
mod words;

use std::path::PathBuf;

use tokenizers::Tokenizer;

use super::PrepareError;

pub(super) use encode::{Encoded, encode};
pub(in crate::data) use load::load;
pub(super) use train::train;

/// A tokenizer and what its library does not tell of it.
pub(in crate::data) struct Tokens {
    pub tokenizer: Tokenizer,
    /// Its file, as messages call it.
    pub path: PathBuf,
    /// The id that stands for whatever the tokenizer does not know.
    pub unknown: Option<u32>,
}

impl Tokens {
    /// The special tokens and their ids.
    pub fn special(&self) -> Vec<(u32, String)> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special);
        let mut special: Vec<_> = special.map(|(id, token)| (id, token.content)).collect();
        special.retain(|(_, content)| !content.is_empty());
        special.sort();
        special
    }
}
