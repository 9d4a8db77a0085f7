//! Text to token ids: the tokenizer is trained here, or read from a `tokenizer.json`.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::{PrepareError, PrepareOptions};

/// The special token of trained tokenizers, id 0. It never occurs in prepared text.
const PAD: &str = "<|pad|>";
/// Texts are cut into pieces of at least this many bytes where that changes nothing.
const PIECE: usize = 1 << 16;
/// Bytes that are encoded side by side.
const BATCH: usize = 1 << 22;

fn pre_tokenizer() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Trains a byte-level BPE tokenizer. Its alphabet is what occurs in the text, unless
/// `byte_alphabet` asks for all 256 bytes.
pub(super) fn train(
    texts: impl Iterator<Item = String> + Send,
    options: &PrepareOptions,
) -> Result<Tokenizer, PrepareError> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(options.vocab_size)
        .min_frequency(0)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(PAD, true)]);
    if options.byte_alphabet {
        trainer = trainer.initial_alphabet(ByteLevel::alphabet().into_iter().collect());
    }
    let mut trainer: TrainerWrapper = trainer.build().into();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer()));
    let pieces = texts.flat_map(|text| pieces(&text).map(str::to_owned).collect::<Vec<_>>());
    let mut bytes = 0;
    let part = pieces.take_while(|piece| {
        let wanted = bytes < options.train_bytes;
        bytes += piece.len();
        wanted
    });
    tokenizer.train(&mut trainer, part).map_err(PrepareError::Tokenizer)?;
    Ok(tokenizer)
}

/// Reads a `tokenizer.json`. Its truncation and padding are left out: they would lose text.
pub(super) fn load(path: &Path) -> Result<Tokenizer, PrepareError> {
    let mut tokenizer = Tokenizer::from_file(path)
        .map_err(|source| PrepareError::TokenizerFile { path: path.to_owned(), source })?;
    tokenizer.with_truncation(None).map_err(PrepareError::Tokenizer)?.with_padding(None);
    Ok(tokenizer)
}

/// Texts in, one sequence of ids out. Nothing is put between two texts.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    may_cut: bool,
    waiting: Vec<String>,
    waiting_bytes: usize,
    ids: Vec<u16>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            may_cut: may_cut(tokenizer),
            waiting: Vec::new(),
            waiting_bytes: 0,
            ids: Vec::new(),
        }
    }

    pub fn add(&mut self, text: String) -> Result<(), PrepareError> {
        if !self.may_cut {
            return self.add_piece(text);
        }
        pieces(&text).try_for_each(|piece| self.add_piece(piece.to_owned()))
    }

    fn add_piece(&mut self, piece: String) -> Result<(), PrepareError> {
        self.waiting_bytes += piece.len();
        self.waiting.push(piece);
        if self.waiting_bytes < BATCH {
            return Ok(());
        }
        self.encode_waiting()
    }

    fn encode_waiting(&mut self) -> Result<(), PrepareError> {
        let texts = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let encoded =
            self.tokenizer.encode_batch_fast(texts, false).map_err(PrepareError::Tokenizer)?;
        for id in encoded.iter().flat_map(|text| text.get_ids()) {
            let Ok(id) = u16::try_from(*id) else {
                return Err(PrepareError::WideId { id: *id });
            };
            self.ids.push(id);
        }
        Ok(())
    }

    /// The ids of everything that was added.
    pub fn finish(mut self) -> Result<Vec<u16>, PrepareError> {
        self.encode_waiting()?;
        Ok(self.ids)
    }
}

/// Whether a text may be cut as [`pieces`] does without changing its ids: words are found as our
/// own tokenizers find them, and no added token reaches over white space.
fn may_cut(tokenizer: &Tokenizer) -> bool {
    let ours = PreTokenizerWrapper::ByteLevel(pre_tokenizer());
    let one_word = |token: &AddedToken| {
        !(token.lstrip || token.rstrip || token.content.contains(char::is_whitespace))
    };
    tokenizer.get_normalizer().is_none()
        && tokenizer.get_pre_tokenizer() == Some(&ours)
        && tokenizer.get_added_tokens_decoder().values().all(one_word)
}

/// Cuts before a single space or line end that a letter or digit follows: of the white space in
/// front of a word only the last character can belong to it, so a word ends there in any case.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(cut(text));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn cut(text: &str) -> usize {
    let before_word = |i: usize| text[i + 1..].starts_with(char::is_alphanumeric);
    let mut late = text.bytes().enumerate().skip(PIECE);
    let found = late.find(|(i, byte)| matches!(byte, b' ' | b'\n') && before_word(*i));
    found.map_or(text.len(), |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines with all kinds of white space between and around them.
    fn lines() -> String {
        let ends = ["\n", "\n\n", " \n", "\n ", "\n\n\n", "\n\t", "'s\n'll ", "\n  ", "\u{3000}\n"];
        let line = |i: usize| {
            let end = ends[i % ends.len()];
            format!("word{} don't  {} stop{end}", i % 97, i % 13)
        };
        (0..20_000).map(line).collect()
    }

    #[test]
    fn no_cut_that_is_allowed_changes_how_words_are_found() {
        let text: String = lines().chars().take(3_000).collect();
        let tokenizer = trained(&lines(), &options(300));
        let whole = ids(&tokenizer, &text);
        let mut cuts = 0;
        for (i, _) in text.match_indices([' ', '\n']) {
            if text[i + 1..].starts_with(char::is_alphanumeric) {
                let parts = [ids(&tokenizer, &text[..i]), ids(&tokenizer, &text[i..])];
                assert_eq!(parts.concat(), whole, "cut at {i}");
                cuts += 1;
            }
        }
        assert!(cuts > 100);
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u16> {
        let mut encoder = Encoder::new(tokenizer);
        encoder.add(text.to_owned()).unwrap();
        encoder.finish().unwrap()
    }

    fn options(vocab_size: usize) -> PrepareOptions {
        PrepareOptions { vocab_size, ..PrepareOptions::new("", "") }
    }

    fn trained(text: &str, options: &PrepareOptions) -> Tokenizer {
        train([text.to_owned()].into_iter(), options).unwrap()
    }

    #[test]
    fn cutting_a_text_changes_neither_tokenizer_nor_ids() {
        let text = lines();
        assert!(pieces(&text).count() > 5);
        assert_eq!(pieces(&text).collect::<String>(), text);
        let tokenizer = trained(&text, &options(300));
        let whole = tokenizer.encode_fast(text.as_str(), false).unwrap();
        let whole: Vec<_> = whole.get_ids().iter().map(|id| *id as u16).collect();
        assert!(may_cut(&tokenizer));
        assert_eq!(ids(&tokenizer, &text), whole);
    }

    #[test]
    fn a_short_text_gives_fewer_tokens_than_asked_and_an_alphabet_more() {
        let size = |vocab| trained("abracadabra!", &options(vocab)).get_vocab_size(true);
        assert_eq!(size(2), 7);
        assert!((8..20).contains(&size(300)), "{}", size(300));
    }

    #[test]
    fn the_alphabet_follows_the_special_token_in_code_point_order() {
        let tokenizer = trained("ba c", &options(6));
        let known = ["<|pad|>", "a", "b", "c", "Ġ"];
        let found = (0..5).map(|id| tokenizer.id_to_token(id).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), known);
    }

    #[test]
    fn unseen_bytes_vanish_unless_all_bytes_are_in_the_alphabet() {
        let seen = trained("aaaa", &options(300));
        assert_eq!(ids(&seen, "zaz"), [1]);
        let all = PrepareOptions { byte_alphabet: true, ..options(300) };
        assert_eq!(ids(&trained("aaaa", &all), "zaz").len(), 3);
    }

    #[test]
    fn training_on_a_part_stops_after_the_piece_that_completes_it() {
        let text = lines();
        let late = format!("{text}late\nUNSEEN\n");
        let part = PrepareOptions { train_bytes: 10, ..options(300) };
        let first = pieces(&text).next().unwrap();
        let expected = trained(first, &options(300)).get_vocab(true);
        assert_eq!(trained(&late, &part).get_vocab(true), expected);
        assert_ne!(trained(&late, &options(300)).get_vocab(true), expected);
    }

    #[test]
    fn a_tokenizer_file_that_truncates_does_not_lose_text() {
        let mut tokenizer = trained(&lines(), &options(300));
        let limit = tokenizers::TruncationParams { max_length: 3, ..Default::default() };
        tokenizer.with_truncation(Some(limit)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        tokenizer.save(&path, true).unwrap();
        assert!(ids(&load(&path).unwrap(), &lines()).len() > 10_000);
        let error = load(&folder.path().join("none.json")).err().unwrap();
        assert!(error.to_string().contains("none.json"));
    }
}
