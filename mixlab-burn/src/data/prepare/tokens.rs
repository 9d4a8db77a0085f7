//! Text to token ids: the tokenizer is trained here, or read from a `tokenizer.json`.

mod cut;
mod encode;
mod growth;
mod ids;
mod load;
mod special;
mod train;
mod words;

use std::path::PathBuf;

use tokenizers::Tokenizer;

use super::PrepareError;
use super::guard::guarded;

pub(super) use encode::{Encoded, encode};
use growth::Growth;
pub(in crate::data) use load::load;
pub(super) use train::train;

/// A tokenizer and what its library does not tell of it.
pub(in crate::data) struct Tokens {
    pub tokenizer: Tokenizer,
    /// Its file, as messages call it.
    pub path: PathBuf,
    /// The id that stands for whatever the tokenizer does not know.
    pub unknown: Option<u32>,
    /// Its normalizers, if they might make too much of a text.
    pub growth: Option<Growth>,
}

impl Tokens {
    /// The ids of a text.
    pub fn encode(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        guarded(|| {
            self.growth.as_ref().map_or(Ok(()), |growth| growth.check(text))?;
            Ok(self.tokenizer.encode_fast(text, false)?.get_ids().to_vec())
        })
    }

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
