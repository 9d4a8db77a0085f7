//! How tokenizers spell their tokens, and how many bytes of text a token stands for.

use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

/// How the tokens of a tokenizer are spelled.
pub(in crate::data) struct Spelling {
    /// With one character a byte.
    byte_level: bool,
    /// What stands for a space, as `▁`.
    space: Option<String>,
    /// What tokens within a word begin with, as `##`.
    within: Option<String>,
    /// What tokens at the end of a word end with, as `</w>`.
    end: Option<String>,
    /// `<0x0A>` is a byte.
    byte_fallback: bool,
    /// The spaces between words are no part of any token.
    words: bool,
}

impl Spelling {
    pub fn of(tokenizer: &Tokenizer) -> Self {
        // What tokenizers do is open to their serialised form alone.
        let parts = [
            serde_json::to_value(tokenizer.get_normalizer()),
            serde_json::to_value(tokenizer.get_pre_tokenizer()),
            serde_json::to_value(tokenizer.get_decoder()),
        ];
        let parts = parts.map(Result::unwrap_or_default);
        let any = |test: &dyn Fn(&Value) -> bool| parts.iter().any(|part| any_part(part, test));
        let is = |name: &'static str| move |part: &Value| part["type"] == name;
        let byte_level = any(&is("ByteLevel"));
        let space = parts.iter().find_map(|part| find_part(part, &space_of));
        let splits = ["BertPreTokenizer", "Whitespace", "WhitespaceSplit"];
        let words = space.is_none() && !byte_level && splits.iter().any(|name| any(&is(name)));
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (within, end, byte_fallback) = match tokenizer.get_model() {
            ModelWrapper::BPE(model) => (
                given(&model.continuing_subword_prefix),
                given(&model.end_of_word_suffix),
                model.byte_fallback,
            ),
            ModelWrapper::WordPiece(model) => {
                (given(&Some(model.continuing_subword_prefix.clone())), None, false)
            }
            ModelWrapper::Unigram(model) => (None, None, model.byte_fallback()),
            ModelWrapper::WordLevel(_) => (None, None, false),
        };
        Self { byte_level, space, within, end, byte_fallback, words }
    }

    /// Whether tokens have one character a byte.
    pub fn is_byte_level(&self) -> bool {
        self.byte_level
    }

    /// Bytes of a token, and whether the first of them is a space.
    pub fn bytes(&self, token: &str) -> (usize, bool) {
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = byte.filter(|_| self.byte_fallback) {
            return (1, byte == b' ');
        }
        let mark = |mark: &Option<String>| mark.clone().unwrap_or_default();
        let rest = token.strip_prefix(&mark(&self.within));
        let is_within = self.within.is_some() && rest.is_some();
        let token = rest.unwrap_or(token);
        let rest = token.strip_suffix(&mark(&self.end));
        let is_end = self.end.is_some() && rest.is_some();
        let token = rest.unwrap_or(token);
        if self.byte_level {
            return (token.chars().count(), token.starts_with('Ġ'));
        }
        let text = match &self.space {
            Some(space) => token.replace(space, " "),
            None => token.to_owned(),
        };
        // Between two words there is a space, and none at a punctuation mark, which is a word of
        // its own: the space is counted with the word that shows where it begins or ends.
        let between = self.words && self.end.is_none() && !is_within;
        let leading = between && text.starts_with(char::is_alphanumeric);
        let trailing = self.words && is_end && text.ends_with(char::is_alphanumeric);
        let bytes = text.len() + usize::from(leading) + usize::from(trailing);
        (bytes, leading || text.starts_with(' '))
    }
}

/// Whether a part of a tokenizer, or a part of that, passes the test.
fn any_part(part: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    find_part(part, &|part| test(part).then_some(())).is_some()
}

fn find_part<T>(part: &Value, find: &dyn Fn(&Value) -> Option<T>) -> Option<T> {
    let inner = |part: &Value| match part {
        Value::Array(parts) => parts.iter().find_map(|part| find_part(part, find)),
        Value::Object(fields) => fields.values().find_map(|part| find_part(part, find)),
        _ => None,
    };
    find(part).or_else(|| inner(part))
}

/// What this part of a tokenizer writes for a space, or reads as one.
fn space_of(part: &Value) -> Option<String> {
    let (from, to) = (part["pattern"]["String"].as_str(), part["content"].as_str());
    let mark = match part["type"].as_str()? {
        "Metaspace" => part["replacement"].as_str(),
        "Replace" if from == Some(" ") => to,
        "Replace" if to == Some(" ") => from,
        _ => None,
    };
    mark.filter(|mark| !mark.is_empty() && *mark != " ").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::ByteTables;
    use super::super::tests::tokenizer;
    use super::*;
    use tokenizers::models::bpe::{BPE, BpeBuilder};
    use tokenizers::models::wordpiece::WordPiece;
    use tokenizers::normalizers::Replace;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::pre_tokenizers::metaspace::Metaspace;

    #[test]
    fn tokens_spelled_as_text_are_counted_in_utf8() {
        let mut tokenizer = tokenizer(&["ä", "▁the", "<0x0A>", "a▁b"]);
        let plain = ByteTables::of_tokenizer(&tokenizer, 0);
        assert_eq!(plain.bytes, [2, 6, 6, 5, 0, 2]);
        tokenizer.with_pre_tokenizer(Some(Metaspace::default()));
        let marked = ByteTables::of_tokenizer(&tokenizer, 0);
        assert_eq!(marked.bytes, [2, 3, 6, 3, 0, 2]);
        assert!(marked.leading_space[1] && !marked.leading_space[3]);
        tokenizer.with_pre_tokenizer(None::<Metaspace>);
        tokenizer.with_normalizer(Some(Replace::new(" ", "▁").unwrap()));
        assert_eq!(ByteTables::of_tokenizer(&tokenizer, 0), marked);
    }

    fn bpe(tokens: &[&str]) -> BpeBuilder {
        let vocab = tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), id));
        BPE::builder().vocab_and_merges(vocab.collect::<ahash::AHashMap<_, _>>(), Vec::new())
    }

    #[test]
    fn bytes_written_in_hexadecimal_are_bytes_where_the_model_has_them() {
        let tokens = ["<0x0A>", "<0x20>", "a"];
        let with = bpe(&tokens).byte_fallback(true).build().unwrap();
        let tables = ByteTables::of_tokenizer(&Tokenizer::new(with), 0);
        assert_eq!((tables.bytes, tables.leading_space), (vec![1, 0, 1], vec![false, true, false]));
        let without = bpe(&tokens).build().unwrap();
        assert_eq!(ByteTables::of_tokenizer(&Tokenizer::new(without), 0).bytes, [6, 6, 1]);
    }

    /// The bytes that the tables give for `text`, whose spaces are not tokens.
    fn bytes_of(tokenizer: &Tokenizer, text: &str) -> u32 {
        let tables = ByteTables::of_tokenizer(tokenizer, 0);
        let ids = tokenizer.encode_fast(text, false).unwrap();
        let ids: Vec<_> = ids.get_ids().iter().map(|id| *id as u16).collect();
        let first = tables.bytes(ids[0], ids[0]).unwrap();
        first + ids.windows(2).map(|pair| tables.bytes(pair[0], pair[1]).unwrap()).sum::<u32>()
    }

    #[test]
    fn marks_of_words_stand_for_the_spaces_between_them() {
        let text = "cat, bat. cat";
        let piece = WordPiece::builder();
        let vocab = [("[UNK]", 0), ("cat", 1), ("b", 2), ("##at", 3), (",", 4), (".", 5)];
        let vocab = vocab.map(|(token, id)| (token.to_owned(), id));
        let piece = piece.vocab(vocab.into_iter().collect::<ahash::AHashMap<_, _>>());
        let mut words = Tokenizer::new(piece.build().unwrap());
        words.with_pre_tokenizer(Some(BertPreTokenizer));
        // A space in front of the first word is counted, which there is not.
        assert_eq!(bytes_of(&words, text), text.len() as u32 + 1);
        let letters = ["c", "a", "b", "t", "t</w>", ",</w>", ".</w>"];
        let ends = bpe(&letters).end_of_word_suffix("</w>".to_owned()).build().unwrap();
        let mut ends = Tokenizer::new(ends);
        ends.with_pre_tokenizer(Some(BertPreTokenizer));
        assert_eq!(bytes_of(&ends, text), text.len() as u32 + 1);
    }
}
