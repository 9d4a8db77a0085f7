//! Training a tokenizer: byte-level BPE on the words of the text.

use ahash::{AHashMap, AHashSet};
use compact_str::CompactString;
use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::super::event::{Activity, Event, Finding, Listener};
use super::super::source::{Item, Source};
use super::super::{PrepareError, PrepareOptions, stage};
use super::Tokens;
use super::cut::{Cutter, Piece};
use super::words::{pre_tokenizer, words};

/// The special token of trained tokenizers, id 0. It never occurs in prepared text.
const PAD: &str = "<|pad|>";
/// Bytes whose words are counted side by side.
const BATCH: usize = 1 << 22;
/// Longer words are cut: the time for a word grows with the square of its length.
const LONGEST_WORD: usize = 1024;
/// Bytes of distinct words. A trainer needs about fifty times as much memory.
const WORD_BYTES: usize = 1 << 24;

/// Trains a byte-level BPE tokenizer. Its alphabet is what occurs in the text, unless
/// `byte_alphabet` asks for all 256 bytes.
pub(in super::super) fn train(
    source: &Source,
    options: &PrepareOptions,
    tell: Listener,
) -> Result<Tokens, PrepareError> {
    let words = count(source, options, tell)?;
    words.tell(tell);
    let counts = words.spelled();
    tell(source.progress(Activity::Merging { words: counts.len() }));
    let alphabet =
        if options.byte_alphabet { ByteLevel::alphabet() } else { words.alphabet.characters() };
    let trainer = BpeTrainer::builder()
        .vocab_size(options.vocab_size)
        .min_frequency(0)
        .show_progress(false)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(vec![AddedToken::from(PAD, true)])
        .build();
    let mut model = BPE::default();
    let failed = |error: tokenizers::Error| PrepareError::Training(error.to_string());
    let special = trainer.do_train(&counts, &mut model).map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer()));
    tokenizer.add_special_tokens(&special);
    tokenizer.set_encode_special_tokens(true);
    let path = options.output.join(stage::TOKENIZER);
    Ok(Tokens { tokenizer, path, unknown: None, growth: None })
}

/// Words of the text and how often they occur.
#[derive(Default)]
struct Words {
    counts: AHashMap<CompactString, u64>,
    /// Bytes of the distinct words.
    bytes: usize,
    /// Bytes that occur anywhere.
    alphabet: Alphabet,
    /// Words that were cut.
    long: u64,
    /// Whether words were left out, since there were enough.
    is_full: bool,
}

/// Whether each byte occurs.
struct Alphabet([bool; 256]);

impl Default for Alphabet {
    fn default() -> Self {
        Self([false; 256])
    }
}

impl Alphabet {
    /// The bytes that occur, as a byte-level tokenizer writes them.
    fn characters(&self) -> AHashSet<char> {
        let spelled = spelling().into_iter().zip(self.0);
        spelled.filter(|(_, occurs)| *occurs).map(|(c, _)| c).collect()
    }
}

fn count(source: &Source, options: &PrepareOptions, tell: Listener) -> Result<Words, PrepareError> {
    let (mut counted, mut batch, mut bytes, mut total) = (Words::default(), Vec::new(), 0, 0);
    let mut cutter = Cutter::new(&|_, _, _| true);
    let mut take = |pieces: Vec<Piece>| {
        for piece in pieces {
            if total >= options.train_bytes {
                break;
            }
            (total, bytes) = (total + piece.bytes, bytes + piece.bytes);
            batch.push(piece);
        }
        if bytes >= BATCH {
            bytes = 0;
            counted.add(&std::mem::take(&mut batch));
            tell(source.progress(Activity::Counting));
        }
    };
    source.each(|item| {
        match item {
            Item::Part(part) => take(cutter.add(part)),
            Item::End => take(cutter.end()),
            Item::Skipped => {}
        }
        Ok(())
    })?;
    counted.add(&batch);
    Ok(counted)
}

impl Words {
    fn add(&mut self, batch: &[Piece]) {
        let count = |piece: &Piece| Self::of(&piece.text);
        let counted: Vec<Self> = batch.par_iter().map(count).collect();
        // Decided once for the whole batch, so that no order within it matters.
        self.is_full |= self.bytes > WORD_BYTES;
        for words in counted {
            self.long += words.long;
            self.alphabet.0.iter_mut().zip(words.alphabet.0).for_each(|(all, here)| *all |= here);
            for (word, count) in words.counts {
                match self.counts.get_mut(&word) {
                    Some(all) => *all += count,
                    None if self.is_full => {}
                    None => {
                        self.bytes += word.len();
                        self.counts.insert(word, count);
                    }
                }
            }
        }
    }

    fn of(text: &str) -> Self {
        let mut counted = Self::default();
        text.bytes().for_each(|byte| counted.alphabet.0[usize::from(byte)] = true);
        for mut word in words(text) {
            counted.long += u64::from(word.len() > LONGEST_WORD);
            while !word.is_empty() {
                let (part, rest) = word.split_at(word.floor_char_boundary(LONGEST_WORD));
                match counted.counts.get_mut(part) {
                    Some(count) => *count += 1,
                    None => _ = counted.counts.insert(CompactString::from(part), 1),
                }
                word = rest;
            }
        }
        counted
    }

    fn tell(&self, tell: Listener) {
        if self.long > 0 {
            let (words, longest) = (self.long, LONGEST_WORD);
            tell(Event::Finding(Finding::LongWords { words, longest }));
        }
        if self.is_full {
            tell(Event::Finding(Finding::ManyWords { words: self.counts.len() }));
        }
    }

    /// The words as a byte-level tokenizer writes them. The trainer counts pairs in 31 bits: where
    /// that is too little, all counts are divided.
    fn spelled(&self) -> AHashMap<CompactString, u64> {
        let alphabet = spelling();
        let divisor = self.most_frequent_pair().div_ceil(i32::MAX as u64).max(1);
        let spell = |word: &CompactString| {
            word.bytes().map(|byte| alphabet[usize::from(byte)]).collect::<CompactString>()
        };
        let counts = self.counts.iter();
        counts.map(|(word, count)| (spell(word), (count / divisor).max(1))).collect()
    }

    /// How often the most frequent pair of bytes occurs; no pair of longer tokens occurs more often.
    fn most_frequent_pair(&self) -> u64 {
        let mut pairs = vec![0_u64; 1 << 16];
        for (word, count) in &self.counts {
            for pair in word.as_bytes().windows(2) {
                pairs[usize::from(u16::from_le_bytes([pair[0], pair[1]]))] += count;
            }
        }
        pairs.into_iter().max().unwrap_or(0)
    }
}

/// The characters as which a byte-level tokenizer writes the 256 bytes: many as themselves, the
/// others in their order as those that are left.
fn spelling() -> [char; 256] {
    let alphabet = ByteLevel::alphabet();
    let mut others: Vec<_> = alphabet.iter().copied().filter(|c| u32::from(*c) > 255).collect();
    others.sort();
    let mut others = others.into_iter();
    let mut other = || others.next().expect("the alphabet has a character for each byte");
    std::array::from_fn(|byte| match char::from(byte as u8) {
        own if alphabet.contains(&own) => own,
        _ => other(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    /// Lines with all kinds of white space between and around them.
    pub fn lines() -> String {
        let ends = ["\n", "\n\n", " \n", "\n ", "\n\n\n", "\n\t", "'s\n'll ", "\n  ", "\u{3000}\n"];
        let line = |i: usize| {
            let end = ends[i % ends.len()];
            format!("word{} don't  {} stop{end}", i % 97, i % 13)
        };
        (0..20_000).map(line).collect()
    }

    pub fn options(vocab_size: usize) -> PrepareOptions {
        PrepareOptions { vocab_size, ..PrepareOptions::new("", "") }
    }

    pub fn trained(text: &str, options: &PrepareOptions) -> Tokens {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("text.txt");
        fs::write(&input, text).unwrap();
        let options = PrepareOptions { input, ..options.clone() };
        let source = Source::open(&options, folder.path(), &|_| ()).unwrap();
        train(&source, &options, &|_| ()).unwrap()
    }

    fn size(text: &str, vocab_size: usize) -> usize {
        trained(text, &options(vocab_size)).tokenizer.get_vocab_size(true)
    }

    /// As the library trains it on a text of one piece.
    fn by_the_library(text: &str, vocab_size: usize) -> Tokenizer {
        let trainer = BpeTrainer::builder().vocab_size(vocab_size).min_frequency(0);
        let trainer = trainer.show_progress(false);
        let mut trainer = trainer.special_tokens(vec![AddedToken::from(PAD, true)]).build().into();
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer()));
        let trainer: &mut tokenizers::models::TrainerWrapper = &mut trainer;
        tokenizer.train(trainer, [text].into_iter()).unwrap();
        tokenizer
    }

    #[test]
    fn the_tokenizer_is_the_one_that_the_library_trains() {
        let foreign = "Žluťoučký kůň, 東京 🦀 ½ don't x² \u{a0}\u{2003}naïve ";
        for text in [lines(), foreign.repeat(50), "ab".repeat(400)] {
            let ours = trained(&text, &options(400)).tokenizer;
            let expected = by_the_library(&text, 400);
            assert_eq!(ours.to_string(false).unwrap(), expected.to_string(false).unwrap());
        }
    }

    #[test]
    fn words_are_found_and_written_as_the_tokenizer_does_it() {
        let text = "Ünïcode's 12 kinds\t of\n\n  wörds\u{3000}東京² we'll…\0\u{7f} end ";
        let mut split = PreTokenizedString::from(text);
        PreTokenizerWrapper::ByteLevel(pre_tokenizer()).pre_tokenize(&mut split).unwrap();
        let splits = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        let mut expected: Vec<_> = splits.iter().map(|(word, ..)| word.to_string()).collect();
        let words = Words::of(text);
        let mut found: Vec<_> = words.spelled().into_keys().map(String::from).collect();
        expected.sort();
        expected.dedup();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_short_text_gives_fewer_tokens_than_asked_and_an_alphabet_more() {
        assert_eq!(size("abracadabra!", 2), 7);
        assert!((8..20).contains(&size("abracadabra!", 300)));
    }

    #[test]
    fn the_alphabet_follows_the_special_token_in_code_point_order() {
        let tokenizer = trained("ba c", &options(6)).tokenizer;
        let known = ["<|pad|>", "a", "b", "c", "Ġ"];
        let found = (0..5).map(|id| tokenizer.id_to_token(id).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), known);
    }

    #[test]
    fn training_on_a_part_stops_after_the_piece_that_completes_it() {
        let text = lines();
        let late = format!("{text}late\nUNSEEN\n");
        let part = PrepareOptions { train_bytes: 10, ..options(300) };
        let mut cutter = Cutter::new(&|_, _, _| true);
        let (mut pieces, last) = (cutter.add(&text), cutter.end());
        pieces.extend(last);
        let vocabulary =
            |text: &str, options: &PrepareOptions| trained(text, options).tokenizer.get_vocab(true);
        let expected = vocabulary(&pieces[0].text, &options(300));
        assert_eq!(vocabulary(&late, &part), expected);
        assert_ne!(vocabulary(&late, &options(300)), expected);
    }

    #[test]
    fn long_words_are_cut_and_told() {
        let text = "ACGT".repeat(100_000);
        let words = Words::of(&text);
        assert_eq!(words.long, 1);
        assert!(words.counts.keys().all(|word| word.len() <= LONGEST_WORD));
        assert!(size(&text, 64) > 10);
    }

    #[test]
    fn counts_beyond_31_bits_are_divided_and_none_is_lost() {
        let mut words = Words::default();
        words.counts.insert("aa".into(), 1 << 40);
        words.counts.insert("aab".into(), 3);
        let spelled = words.spelled();
        assert!(spelled["aa"] <= i32::MAX as u64 && spelled["aa"] > 1 << 29);
        assert_eq!(spelled["aab"], 1);
    }
}
