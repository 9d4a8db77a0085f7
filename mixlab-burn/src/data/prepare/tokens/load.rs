//! A `tokenizer.json` that somebody else made.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;

use super::super::event::{Event, Finding, Listener};
use super::super::guard::guarded;
use super::growth::{Growth, base64};
use super::{PrepareError, Tokens};
use crate::files::read_small_file;

/// Where WordPiece has the letters of a word beyond which it is unknown.
const LETTERS: &str = "max_input_chars_per_word";
/// The most that they may be: at each letter the library tries every end of the word, so the time for
/// a word grows with the third power of its length.
const LONGEST_WORD: u64 = 256;

/// Reads a tokenizer. What would lose text (truncation), add to it (padding) or give other tokens at
/// every run (dropout) is left out, and special tokens are not looked for in the text.
pub(in crate::data) fn load(path: &Path, tell: Listener) -> Result<Tokens, PrepareError> {
    let wrong = |reason: String| PrepareError::TokenizerFile { path: path.to_owned(), reason };
    let bytes = read_small_file(path).map_err(PrepareError::io(path))?;
    // Some editors put a mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut json: Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let Some(file) = json.as_object_mut() else {
        return Err(wrong("it holds no object".to_owned()));
    };
    file.remove("truncation");
    file.remove("padding");
    let model = file.get_mut("model").and_then(Value::as_object_mut);
    let model = model.ok_or_else(|| wrong("it has no object `model`".to_owned()))?;
    let dropout = model.remove("dropout").filter(|dropout| dropout.as_f64() > Some(0.0));
    let patient = model.get_mut(LETTERS).filter(|most| most.as_u64() > Some(LONGEST_WORD));
    let patient = patient.map(|most| std::mem::replace(most, LONGEST_WORD.into()).to_string());
    let unknown = model.get("unk_id").and_then(Value::as_u64);
    let unknown_token = model.get("unk_token").and_then(Value::as_str).map(str::to_owned);
    let longest = model.get("vocab").map_or(0, longest_piece);
    if longest > LONGEST_PIECE {
        let reason = format!("a token of its vocabulary has {longest} bytes");
        let why = format!("Unigram compares each letter of a text with up to {LONGEST_PIECE}");
        return Err(wrong(format!("{reason}, and {why}")));
    }
    if file.get("normalizer").is_some_and(promises_too_much) {
        return Err(wrong("its `precompiled_charsmap` is cut off".to_owned()));
    }
    if let Some(reason) = too_many_parts(&json) {
        return Err(wrong(reason));
    }
    let growth = growth(&json).map_err(|error| wrong(error.to_string()))?;
    let read = guarded(|| Tokenizer::from_bytes(json.to_string()));
    let mut tokenizer = read.map_err(|error| wrong(error.to_string()))?;
    tokenizer.set_encode_special_tokens(true);
    if let Some(dropout) = dropout {
        let (path, dropout) = (path.to_owned(), dropout.to_string());
        tell(Event::Finding(Finding::Dropout { path, dropout }));
    }
    if let Some(most) = patient {
        let (path, letters) = (path.to_owned(), LONGEST_WORD);
        tell(Event::Finding(Finding::LongestWord { path, most, letters }));
    }
    let unknown = unknown.and_then(|id| u32::try_from(id).ok());
    let unknown = unknown.or_else(|| tokenizer.token_to_id(&unknown_token?));
    Ok(Tokens { tokenizer, path: path.to_owned(), unknown, growth })
}

/// Bytes that a token of Unigram may have: at each letter of a text the library follows the longest
/// token that begins like what follows.
const LONGEST_PIECE: usize = 1024;

/// Bytes of the longest token in the vocabulary of a Unigram, a list of tokens and scores.
fn longest_piece(vocabulary: &Value) -> usize {
    let pieces = vocabulary.as_array().into_iter().flatten();
    pieces.filter_map(|piece| Some(piece.get(0)?.as_str()?.len())).max().unwrap_or(0)
}

/// How many parts a stage of a tokenizer may have, and how many of them `ByteLevel`. The library goes
/// over the whole text, or over each of its words, once a part; known files have up to ten.
const STAGES: [(&str, usize, usize); 2] =
    [("normalizer", 512, usize::MAX), ("pre_tokenizer", 64, 4)];

/// What is wrong with a stage that would take hours, or a multiple of the text.
fn too_many_parts(file: &Value) -> Option<String> {
    STAGES.iter().find_map(|&(stage, most, most_byte_levels)| {
        let part = file.get(stage)?;
        let (parts, byte_levels) = (count(part, None), count(part, Some("ByteLevel")));
        if byte_levels > most_byte_levels {
            let limit = format!("at most {most_byte_levels} may be");
            return Some(format!(
                "{byte_levels} parts of its `{stage}` are `ByteLevel`, {limit}: each doubles the text"
            ));
        }
        let limit = format!("at most {most} may be");
        (parts > most).then(|| {
            format!("its `{stage}` has {parts} parts, {limit}: each goes over the text again")
        })
    })
}

/// How many parts, of this type if one is given, make up a stage; a sequence is none itself.
fn count(stage: &Value, wanted: Option<&str>) -> usize {
    match stage {
        Value::Array(parts) => parts.iter().map(|part| count(part, wanted)).sum(),
        Value::Object(fields) => {
            let inner: usize = fields.values().map(|part| count(part, wanted)).sum();
            let own = fields.get("type").and_then(Value::as_str).filter(|own| *own != "Sequence");
            inner + usize::from(own.is_some_and(|own| wanted.is_none_or(|wanted| own == wanted)))
        }
        _ => 0,
    }
}

/// What has to be looked at of the normalizer, which made little of the added tokens: the library
/// normalizes them when it reads the file.
fn growth(file: &Value) -> tokenizers::Result<Option<Growth>> {
    let Some(normalizer) = file.get("normalizer").filter(|part| !part.is_null()) else {
        return Ok(None);
    };
    guarded(|| {
        let growth = Growth::of(NormalizerWrapper::deserialize(normalizer)?);
        let added = file.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let mut added = added.filter_map(|token| token["content"].as_str());
        let check = |growth: &Growth| added.try_for_each(|text| growth.check(text));
        growth.as_ref().map_or(Ok(()), check)?;
        Ok(growth)
    })
}

/// Whether a character map in a normalizer says that it is longer than it is: the library takes the
/// memory for all of it at once.
fn promises_too_much(normalizer: &Value) -> bool {
    match normalizer {
        Value::Array(parts) => parts.iter().any(promises_too_much),
        Value::Object(fields) => fields.iter().any(|(key, value)| match value.as_str() {
            Some(map) if key == "precompiled_charsmap" => {
                first_number(map).is_some_and(|bytes| bytes as usize > map.len() / 4 * 3)
            }
            _ => promises_too_much(value),
        }),
        _ => false,
    }
}

/// The 32-bit little-endian number with which data in base64 begin.
fn first_number(text: &str) -> Option<u32> {
    let bytes = base64(text.get(..6)?);
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use serde_json::json;

    fn file(normalizer: Value, unknown: Option<&str>) -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 4_000_000_000_u32},
                      "unk_token": unknown},
        })
    }

    fn read(content: &str) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, content).unwrap();
        load(&path, &|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let charsmap = |map: &str| json!({"type": "Precompiled", "precompiled_charsmap": map});
        let damaged = [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            "not JSON".to_owned(),
            file(json!({"type": "Unheard"}), Some("[UNK]")).to_string(),
            file(charsmap("AAAA"), Some("[UNK]")).to_string(),
            file(charsmap("////"), Some("[UNK]")).to_string(),
            file(charsmap("AgAAAAAAAAA="), Some("[UNK]")).to_string(),
            "[".repeat(100_000),
        ];
        for content in damaged {
            let shown = &content[..content.len().min(99)];
            // Some damage shows only when a text is encoded.
            let error = match read(&content) {
                Err(error) => error,
                Ok(tokens) => {
                    let encoded = guarded(|| tokens.tokenizer.encode_fast("a text", false));
                    assert!(encoded.is_err(), "{shown}");
                    continue;
                }
            };
            assert!(error.contains("tokenizer.json") && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn a_character_map_that_promises_more_than_it_has_takes_no_memory() {
        // 2³² − 4 bytes, and 8.
        let long = json!({"type": "Precompiled", "precompiled_charsmap": "/P///wAAAAA="});
        let short = json!({"type": "Precompiled", "precompiled_charsmap": "CAAAAAAAAAAAAAAA"});
        assert_eq!(first_number("/P///wAAAAA="), Some(u32::MAX - 3));
        assert_eq!(first_number("CAAAAAAAAAAAAAAA"), Some(8));
        assert_eq!((first_number("CAAA"), first_number("C?AAAA")), (None, None));
        assert!(promises_too_much(&long) && !promises_too_much(&short));
        let nested = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, long]});
        let error = read(&file(nested, Some("[UNK]")).to_string()).err().unwrap();
        assert!(error.contains("`precompiled_charsmap` is cut off"), "{error}");
    }

    #[test]
    fn stages_of_so_many_parts_that_they_never_end_are_refused() {
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                                "trim_offsets": true, "use_regex": false});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let read = |stage: &str, parts: Vec<Value>| {
            let mut file = file(json!(null), Some("[UNK]"));
            file[stage] = match stage {
                "normalizer" => json!({"type": "Sequence", "normalizers": parts}),
                _ => json!({"type": "Sequence", "pretokenizers": parts}),
            };
            read(&file.to_string()).err()
        };
        let nested = vec![json!({"type": "Sequence", "pretokenizers": vec![&digits; 32]}); 2];
        for (stage, most, more, said) in [
            ("pre_tokenizer", vec![byte_level.clone(); 4], &byte_level, "each doubles the text"),
            ("pre_tokenizer", vec![digits.clone(); 64], &digits, "has 65 parts, at most 64"),
            ("pre_tokenizer", nested, &digits, "has 65 parts, at most 64"),
            ("normalizer", vec![json!({"type": "NFC"}); 512], &json!({"type": "NFC"}), "513 parts"),
        ] {
            assert_eq!(read(stage, most.clone()), None);
            let error = read(stage, [most, vec![more.clone()]].concat()).unwrap();
            assert!(error.contains(said) && error.contains(stage), "{error}");
        }
    }

    #[test]
    fn added_tokens_of_which_the_normalizer_makes_a_book_are_refused() {
        let page =
            json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "a".repeat(5000)});
        let mut file = file(page, Some("[UNK]"));
        assert!(read(&file.to_string()).is_ok());
        file["added_tokens"] = json!([{"id": 9, "content": "x".repeat(100_000), "special": false,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": true}]);
        let error = read(&file.to_string()).err().unwrap();
        assert!(error.contains("makes more than 16 bytes of one"), "{error}");
    }

    #[test]
    fn a_unigram_with_a_token_of_a_page_is_refused() {
        let unigram = |length: usize| {
            let mut file = file(json!(null), None);
            let pieces = json!([["<unk>", 0.0], ["a", -1.0], ["a".repeat(length), -2.0]]);
            file["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": pieces});
            read(&file.to_string())
        };
        assert!(unigram(1024).is_ok());
        let error = unigram(1025).err().unwrap();
        assert!(error.contains("a token of its vocabulary has 1025 bytes"), "{error}");
    }

    #[test]
    fn a_word_of_any_length_is_encoded_at_once() {
        let mut file = file(json!(null), None);
        file["pre_tokenizer"] = json!(null);
        file["model"] = json!({"type": "WordPiece", "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 1_000_000_000,
            "vocab": {"[UNK]": 0, "a": 1, "##a": 2}});
        let tokens = read(&file.to_string()).unwrap();
        assert_eq!(tokens.encode(&"a".repeat(256)).unwrap().len(), 256);
        assert_eq!(tokens.encode(&"a".repeat(100_000)).unwrap(), [0]);
    }

    #[test]
    fn the_unknown_token_is_known() {
        let tokens = read(&file(json!(null), Some("[UNK]")).to_string()).unwrap();
        assert_eq!(tokens.unknown, Some(0));
        let marked = format!("\u{feff}{}", file(json!(null), Some("[UNK]")));
        assert_eq!(read(&marked).unwrap().unknown, Some(0));
        let unigram = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": null,
            "model": {"type": "Unigram", "unk_id": 1, "vocab": [["a", -1.0], ["<unk>", 0.0]]},
        });
        assert_eq!(read(&unigram.to_string()).unwrap().unknown, Some(1));
    }
}
