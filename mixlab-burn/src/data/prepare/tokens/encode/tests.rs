use super::super::super::PrepareOptions;
use super::super::load;
use super::super::train::tests::{lines, options, trained};
use super::*;
use serde_json::json;
use std::fs;

fn encoded(tokens: &Tokens, text: &str) -> (Vec<u16>, Encoded) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("text.txt");
    fs::write(&input, text).unwrap();
    let options = PrepareOptions::new(input, folder.path());
    let source = Source::open(&options, folder.path(), &|_| ()).unwrap();
    let tables = ByteTables::of_tokenizer(&tokens.tokenizer, 0);
    let encoded = encode(&source, tokens, &tables, folder.path(), &|_| ()).unwrap();
    (encoded.ids().iter().map(|id| u16::from_le_bytes(*id)).collect(), encoded)
}

/// The ids of the whole text at once.
fn whole(tokens: &Tokens, text: &str) -> Vec<u16> {
    let encoded = tokens.tokenizer.encode_fast(text, false).unwrap();
    encoded.get_ids().iter().map(|id| u16::try_from(*id).unwrap()).collect()
}

fn loaded(json: &serde_json::Value) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    load(&path, &|_| ()).unwrap()
}

/// BPE over single letters, each word with or without a mark in front, and bytes.
fn letters(normalizer: serde_json::Value, pre_tokenizer: serde_json::Value) -> Tokens {
    let mut vocab = serde_json::Map::new();
    let letters = ('a'..='z').chain("▁ .,'\n".chars()).map(String::from);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    for token in letters.chain(["▁w".into(), "▁▁".into(), "or".into()]).chain(bytes) {
        let id = vocab.len();
        vocab.insert(token, json!(id));
    }
    loaded(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": true,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
            "merges": [["▁", "w"], ["▁", "▁"], ["o", "r"]],
        },
    }))
}

#[test]
fn cutting_changes_no_id_of_our_own_tokenizers() {
    let text = lines();
    let tokens = trained(&text, &options(300));
    let (ids, encoded) = encoded(&tokens, &text);
    assert!(text.len() > 5 << 16);
    assert_eq!(ids, whole(&tokens, &text));
    assert_eq!((encoded.bytes, encoded.seams), (text.len() as u64, 0));
    assert_eq!(encoded.table_bytes, encoded.bytes);
}

#[test]
fn cutting_changes_no_id_of_tokenizers_that_put_a_space_in_front() {
    let text = lines();
    let mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let first = json!({"type": "Prepend", "prepend": "▁"});
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    for tokens in [
        letters(json!({"type": "Sequence", "normalizers": [first, mark]}), json!(null)),
        letters(mark.clone(), json!(null)),
        letters(json!(null), metaspace("always")),
        letters(json!(null), metaspace("first")),
        letters(json!(null), json!({"type": "Whitespace"})),
    ] {
        let (ids, encoded) = encoded(&tokens, &text);
        assert_eq!(ids, whole(&tokens, &text));
        assert_eq!((encoded.bytes, encoded.seams), (text.len() as u64, 0));
    }
}

#[test]
fn bytes_are_known_for_any_number_of_tokens() {
    let text = lines();
    let tokens = trained(&text, &options(300));
    let tables = ByteTables::of_tokenizer(&tokens.tokenizer, 0);
    let (ids, encoded) = encoded(&tokens, &text);
    let mut bytes = 0;
    for (count, id) in ids.iter().enumerate() {
        if count % 997 == 0 {
            assert_eq!(encoded.bytes_of(count as u64, &tables), (bytes, bytes));
        }
        let prev = ids[count.saturating_sub(1)];
        bytes += u64::from(tables.bytes(prev, *id).unwrap());
    }
    assert_eq!(encoded.bytes_of(ids.len() as u64, &tables), (bytes, bytes));
    assert_eq!(bytes, text.len() as u64);
}

#[test]
fn unseen_bytes_vanish_unless_all_bytes_are_in_the_alphabet() {
    let seen = trained("aaaa", &options(300));
    assert_eq!(encoded(&seen, "zaz").0, [1]);
    let all = PrepareOptions { byte_alphabet: true, ..options(300) };
    assert_eq!(encoded(&trained("aaaa", &all), "zaz").0.len(), 3);
}

#[test]
fn what_a_text_spells_is_counted_and_encoded_as_text() {
    let text = format!("a <|pad|> b <|pad|>{}", "c".repeat(9));
    let tokens = trained(&text, &options(300));
    let (ids, encoded) = encoded(&tokens, &text);
    assert!(!ids.contains(&0));
    assert_eq!((encoded.spelled.as_slice(), encoded.counts[0]), (&[2][..], 0));
    assert_eq!(encoded.table_bytes, text.len() as u64);
}

#[test]
fn a_tokenizer_file_that_truncates_or_drops_merges_gives_the_whole_text() {
    let ours = trained(&lines(), &options(300)).tokenizer.to_string(false).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&ours).unwrap();
    let expected = whole(&loaded(&json), &lines());
    json["truncation"] = json!({
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    });
    json["model"]["dropout"] = json!(0.5);
    assert_eq!(encoded(&loaded(&json), &lines()).0, expected);
}
