//! Text to token ids, and token ids to text as they come: a token may end within a character.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use super::bpb::spelling::Spelling;
use super::prepare::{PrepareError, Tokens, guarded, load};

/// Why text and ids cannot be turned into each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] PrepareError),
    /// The tokenizer fails on the text.
    #[error("tokenizer `{}` cannot encode the text: {reason}\n  hint: use the tokenizer that the model was trained with", path.display())]
    Encode {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What its library said.
        reason: String,
    },
    /// The text has a token that the model does not know.
    #[error(
        "tokenizer `{}` makes id `{id}` of the text, but `vocab_size` is `{vocab_size}`\n  hint: use the tokenizer that the model was trained with",
        path.display()
    )]
    Vocabulary {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The id.
        id: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
}

/// A `tokenizer.json`.
pub struct TextTokenizer {
    tokens: Tokens,
    /// The bytes of each id, if tokens are spelled with one character a byte.
    bytes: Option<HashMap<u32, Vec<u8>>>,
}

impl TextTokenizer {
    /// Reads a tokenizer as `prepare` does: special tokens are not looked for in the text.
    ///
    /// # Errors
    /// If the file is no tokenizer.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let tokens = load(path, &|_| ())?;
        let byte_level = Spelling::of(&tokens.tokenizer).is_byte_level();
        let bytes = byte_level.then(|| bytes_of(&tokens.tokenizer));
        Ok(Self { tokens, bytes })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.tokens.path
    }

    /// The ids of a text, all below `vocab_size`.
    ///
    /// # Errors
    /// If the tokenizer fails, or an id is not below `vocab_size`.
    pub fn encode(&self, text: &str, vocab_size: usize) -> Result<Vec<u16>, TextError> {
        let path = || self.tokens.path.clone();
        let failed = |error: tokenizers::Error| TextError::Encode {
            path: path(),
            reason: error.to_string(),
        };
        let ids = self.tokens.encode(text).map_err(failed)?;
        let known = |id: &u32| match u16::try_from(*id) {
            Ok(small) if usize::from(small) < vocab_size => Ok(small),
            _ => Err(TextError::Vocabulary { path: path(), id: *id, vocab_size }),
        };
        ids.iter().map(known).collect()
    }

    /// A stream of text that begins with nothing.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { of: self, pending: Vec::new(), ids: Vec::new(), read: 0 }
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[u16]) -> String {
        let mut stream = self.stream();
        let text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text + &stream.finish()
    }

    /// What the library makes of `ids`, without special tokens.
    fn library(&self, ids: &[u32]) -> String {
        guarded(|| self.tokens.tokenizer.decode(ids, true)).unwrap_or_default()
    }
}

/// The bytes of each token but the special ones.
fn bytes_of(tokenizer: &Tokenizer) -> HashMap<u32, Vec<u8>> {
    let byte: HashMap<char, u8> = (0..=255).map(|byte| (character(byte), byte)).collect();
    let added = tokenizer.get_added_tokens_decoder();
    let spelled = |token: &str| token.chars().filter_map(|c| byte.get(&c).copied()).collect();
    let vocabulary = tokenizer.get_vocab(true).into_iter();
    let known = vocabulary.filter_map(|(token, id)| match added.get(&id) {
        Some(added) if added.special => None,
        Some(_) => Some((id, token.into_bytes())),
        None => Some((id, spelled(&token))),
    });
    known.collect()
}

/// The character that stands for a byte in the tokens of byte-level tokenizers (Radford et al.,
/// 2019): itself if it can be seen, else one of those from U+0100 on, in order.
fn character(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let unseen = (0..byte).filter(|byte| !seen(*byte)).count() as u32;
    let code = if seen(byte) { u32::from(byte) } else { 256 + unseen };
    char::from_u32(code).expect("these are all characters")
}

/// Text that comes token by token, in whole characters.
pub struct TextStream<'a> {
    of: &'a TextTokenizer,
    /// Bytes of a character that is not whole yet.
    pending: Vec<u8>,
    /// Tokens that the library needs for what comes next.
    ids: Vec<u32>,
    /// How many of them have been shown.
    read: usize,
}

/// Tokens that may wait for the end of a character: bytes of one are at most four, and a token has at
/// least one.
const WAITING: usize = 4;

impl TextStream<'_> {
    /// The text that can be shown when `id` has come.
    pub fn push(&mut self, id: u16) -> String {
        let id = u32::from(id);
        match &self.of.bytes {
            Some(bytes) => {
                self.pending.extend(bytes.get(&id).into_iter().flatten());
                self.whole_characters()
            }
            None => {
                self.ids.push(id);
                self.by_library(self.ids.len() - self.read >= WAITING)
            }
        }
    }

    /// What is left, with `U+FFFD` for a character that never became whole.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned();
        rest + &self.by_library(true)
    }

    /// Takes the pending bytes up to a character that may still become whole.
    fn whole_characters(&mut self) -> String {
        let mut text = String::new();
        while let Err(error) = std::str::from_utf8(&self.pending) {
            let valid = self.pending.drain(..error.valid_up_to());
            text += &String::from_utf8_lossy(valid.as_slice());
            drop(valid);
            let Some(wrong) = error.error_len() else { return text };
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.drain(..wrong);
        }
        text + &String::from_utf8_lossy(&std::mem::take(&mut self.pending))
    }

    /// What the tokens that were not shown add to the text of those that were; nothing, unless `now`,
    /// while it ends in what may be half a character.
    fn by_library(&mut self, now: bool) -> String {
        let (shown, all) = (self.of.library(&self.ids[..self.read]), self.of.library(&self.ids));
        let added = all.strip_prefix(&shown).unwrap_or_default();
        if added.is_empty() || (!now && added.ends_with(char::REPLACEMENT_CHARACTER)) {
            return String::new();
        }
        self.ids.drain(..self.read);
        self.read = self.ids.len();
        added.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bpb::tests::tokenizer;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::metaspace::Metaspace;

    fn opened(tokenizer: &Tokenizer) -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        tokenizer.save(&path, false).unwrap();
        TextTokenizer::open(&path).unwrap()
    }

    fn parts(tokenizer: &TextTokenizer, ids: &[u16]) -> Vec<String> {
        let mut stream = tokenizer.stream();
        let parts = ids.iter().map(|id| stream.push(*id)).collect::<Vec<_>>();
        [parts, vec![stream.finish()]].concat()
    }

    fn byte_level(words: &[&str]) -> TextTokenizer {
        let mut tokenizer = tokenizer(words);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        opened(&tokenizer)
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: Vec<char> = (0..=255).map(character).collect();
        assert_eq!(
            [' ', '\n', 'a', '\u{ad}'].map(|c| character(c as u32 as u8)),
            ['Ġ', 'Ċ', 'a', 'Ń']
        );
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
    }

    #[test]
    fn bytes_become_text_when_their_character_is_whole() {
        // é is C3 A9, 😀 is F0 9F 98 80.
        let tokenizer = byte_level(&["a", "Ġthe", "Ã", "©", "ðŁ", "ĺĢ", "Ċ"]);
        assert_eq!(parts(&tokenizer, &[0, 1, 2, 3, 6]), ["a", " the", "", "é", "\n", ""]);
        assert_eq!(parts(&tokenizer, &[4, 5, 0]), ["", "😀", "a", ""]);
        assert_eq!(parts(&tokenizer, &[4, 0, 3]), ["", "\u{fffd}a", "\u{fffd}", ""]);
        assert_eq!(parts(&tokenizer, &[0, 2]), ["a", "", "\u{fffd}"]);
        // `<s>` is special, ` ok` was added, and nobody knows 50.
        assert_eq!(parts(&tokenizer, &[7, 8, 50]), ["", " ok", "", ""]);
        assert_eq!(tokenizer.decode(&[1, 2, 3]), " theé");
    }

    #[test]
    fn other_tokenizers_are_decoded_by_their_library() {
        let mut plain = tokenizer(&["<unk>", "▁the", "▁cat", "s"]);
        plain.with_pre_tokenizer(Some(Metaspace::default()));
        plain.with_decoder(Some(Metaspace::default()));
        let tokenizer = opened(&plain);
        let parts = parts(&tokenizer, &[1, 2, 3]);
        assert_eq!(parts.concat(), "the cats");
        assert_eq!(parts[1], " cat");
    }

    #[test]
    fn ids_that_the_model_does_not_know_are_errors() {
        let tokenizer = byte_level(&["a", "b"]);
        assert_eq!(tokenizer.encode("a", 1).unwrap(), [0]);
        let error = tokenizer.encode("b", 1).unwrap_err().to_string();
        assert!(error.contains("id `1`") && error.contains("hint: "), "{error}");
        assert!(TextTokenizer::open(Path::new("/nowhere/t.json")).is_err());
    }
}
