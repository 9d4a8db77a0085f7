//! The words in which byte-level tokenizers see a text, as GPT-2 finds them.

use std::sync::LazyLock;

use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::utils::SysRegex;

/// The library's own expression, which it keeps to itself.
static WORDS: LazyLock<SysRegex> = LazyLock::new(|| {
    SysRegex::new(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
        .expect("the pattern is well-formed")
});

/// How the tokenizers that are trained here find words.
pub(super) fn pre_tokenizer() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// The words of a text; together they are the text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    WORDS.find_iter(text).map(|(start, end)| &text[start..end])
}

/// Whether the ids of a text are those of its [`words`]: nothing else looks at the text.
pub(super) fn are_apart(tokenizer: &Tokenizer) -> bool {
    let finds_them = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(level)) => level.use_regex && !level.add_prefix_space,
        _ => false,
    };
    let added = tokenizer.get_added_tokens_decoder();
    let skips_added = tokenizer.get_encode_special_tokens() && added.values().all(|t| t.special);
    finds_them && skips_added && tokenizer.get_normalizer().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn words_are_found_as_the_library_finds_them() {
        let text = "Ünïcode's 12 kinds\t of\n\n  wörds\u{3000}東京² we'll…\0\u{7f} ''s end  ";
        let mut split = PreTokenizedString::from(text);
        pre_tokenizer().pre_tokenize(&mut split).unwrap();
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let expected: Vec<_> = splits.iter().map(|(_, (from, to), _)| &text[*from..*to]).collect();
        assert_eq!(words(text).collect::<Vec<_>>(), expected);
        assert_eq!(expected.concat(), text);
    }
}
