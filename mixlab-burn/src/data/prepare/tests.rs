use super::*;
use crate::data::shard::{Layout, Shard};
use serde_json::json;
use std::fs;
use std::sync::Mutex;
use tokenizers::Tokenizer;

const TEXT: &str = "The cat sat on the mat.\nThe dog sat on the cat.\n";

/// A text file of `text`, and options to prepare it in the same folder.
fn options(text: &str) -> (tempfile::TempDir, PrepareOptions) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.txt");
    fs::write(&input, text).unwrap();
    let output = folder.path().join("out/deep");
    let options = PrepareOptions { vocab_size: 24, ..PrepareOptions::new(input, output) };
    (folder, options)
}

fn prepared(options: &PrepareOptions) -> Result<PrepareReport, PrepareError> {
    prepare(options, &|_| ())
}

fn ids(shards: &[ShardReport]) -> Vec<u16> {
    let read = |report: &ShardReport| {
        let shard = Shard::open(&report.path, Layout::Header).unwrap();
        shard.read().unwrap()
    };
    shards.iter().flat_map(read).collect()
}

#[test]
fn shards_hold_the_ids_of_the_whole_text_in_order() {
    let (_folder, options) = options(&TEXT.repeat(20));
    let report = prepared(&options).unwrap();
    let tokenizer = Tokenizer::from_file(&report.tokenizer).unwrap();
    let expected = tokenizer.encode_fast(TEXT.repeat(20), false).unwrap();
    let found = [ids(&report.split.train), ids(&report.split.val)].concat();
    assert!(found.iter().map(|id| u32::from(*id)).eq(expected.get_ids().iter().copied()));
    assert_eq!(report.tokens(), found.len());
    assert_eq!(report.split.val_tokens(), found.len() / 10);
    assert_eq!((report.segments, report.bytes), (1, 960));
    assert_eq!((report.trained, report.vocab_size), (true, 24));
}

#[test]
fn the_bytes_of_all_tokens_are_the_bytes_of_the_text() {
    let (_folder, options) = options(&TEXT.repeat(20));
    let report = prepared(&options).unwrap();
    let tables = ByteTables::read(&options.output, 24).unwrap();
    let found = [ids(&report.split.train), ids(&report.split.val)].concat();
    let first = tables.bytes(found[0], found[0]).unwrap();
    let rest = found.windows(2).map(|pair| tables.bytes(pair[0], pair[1]).unwrap());
    assert_eq!(u64::from(first + rest.sum::<u32>()), report.bytes);
}

#[test]
fn a_supplied_tokenizer_is_used_and_not_copied() {
    let (_folder, options) = options(TEXT);
    let trained = prepared(&options).unwrap();
    let again = PrepareOptions {
        output: options.output.join("again"),
        tokenizer: Some(trained.tokenizer.clone()),
        ..options
    };
    let report = prepared(&again).unwrap();
    assert_eq!(ids(&report.split.train), ids(&trained.split.train));
    assert!(!report.trained && !again.output.join("tokenizer.json").exists());
    assert!(ByteTables::read(&again.output, 24).is_ok());
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_written() {
    let (_folder, good) = options(TEXT);
    let refused = |change: &dyn Fn(&mut PrepareOptions)| {
        let mut options = good.clone();
        change(&mut options);
        let error = prepared(&options).unwrap_err();
        assert!(!good.output.exists());
        error.to_string()
    };
    assert!(refused(&|o| o.vocab_size = 65_536).contains("`--vocab-size` is `65536`"));
    assert!(refused(&|o| o.vocab_size = 0).contains("--vocab-size"));
    assert!(refused(&|o| o.val_split = 1.0).contains("`--val-split` is `1`"));
    assert!(refused(&|o| o.val_split = f64::NAN).contains("`--val-split` is `NaN`"));
    assert!(refused(&|o| o.tokens_per_shard = 0).contains("--tokens-per-shard"));
    assert!(refused(&|o| o.output = PathBuf::new()).contains("`--output` is ``"));
}

#[test]
fn text_without_tokens_is_an_error() {
    let (folder, good) = options("");
    assert!(matches!(prepared(&good), Err(PrepareError::NoTokens { .. })));
    let input = folder.path().join("x.jsonl");
    fs::write(&input, "{\"content\": \"a\", \"meta\": {\"title\": \"b\", \"n\": 1}}\n").unwrap();
    let error = prepared(&PrepareOptions { input, ..good }).unwrap_err().to_string();
    assert!(error.contains("none of `1` records has the field `text`"), "{error}");
    assert!(error.contains("; they have `content`, `meta.title`\n  hint: "), "{error}");
}

#[test]
fn a_bad_line_stops_training_with_its_place() {
    let (folder, good) = options("");
    let input = folder.path().join("x.jsonl");
    fs::write(&input, "{\"text\": \"a\"}\n{\"text\"\n").unwrap();
    let error = prepared(&PrepareOptions { input, ..good }).unwrap_err();
    assert!(matches!(error, PrepareError::Json { line: 2, .. }));
}

/// Prepares with a tokenizer, and returns what was found.
fn findings(text: &str, tokenizer: &serde_json::Value) -> (PrepareReport, Vec<Finding>) {
    let (folder, options) = options(text);
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, tokenizer.to_string()).unwrap();
    let options = PrepareOptions { tokenizer: Some(path), ..options };
    let found = Mutex::new(Vec::new());
    let tell = |event: Event| {
        if let Event::Finding(finding) = event {
            found.lock().unwrap().push(finding);
        }
    };
    let report = prepare(&options, &tell).unwrap();
    let contents = Prepared::read(&options.output).unwrap().unwrap();
    assert_eq!(contents.train.bytes + contents.val.bytes, report.bytes);
    assert_eq!(contents.train.tokens + contents.val.tokens, report.tokens() as u64);
    (report, found.into_inner().unwrap())
}

/// A tokenizer of whole words.
fn words(vocab: &[&str], special: &[&str]) -> serde_json::Value {
    let id = |word: &&str| vocab.iter().position(|known| known == word);
    let vocab: serde_json::Map<_, _> =
        vocab.iter().map(|word| (word.to_string(), json!(id(word)))).collect();
    let added: Vec<_> = special
        .iter()
        .map(|word| {
            json!({"id": id(word), "content": word, "special": true, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    })
}

#[test]
fn unknown_words_are_told_with_their_share() {
    let (_, found) =
        findings(&"cat cat dog cat ".repeat(99), &words(&["[UNK]", "cat"], &["[UNK]"]));
    let unknown = found.iter().find(|finding| matches!(finding, Finding::Unknown { .. })).unwrap();
    assert!(unknown.is_warning());
    let text = unknown.to_string();
    assert!(text.starts_with("99 of 396 tokens (25.00 %) are the unknown token `[UNK]`"), "{text}");
    let (_, found) = findings("cat cat", &words(&["[UNK]", "cat"], &["[UNK]"]));
    assert_eq!(found, []);
}

#[test]
fn special_tokens_in_the_text_are_told_whatever_became_of_them() {
    let (_, found) = findings("cat <s> cat", &words(&["[UNK]", "cat", "<s>"], &["[UNK]", "<s>"]));
    assert!(
        found
            .iter()
            .any(|f| matches!(f, Finding::SpecialInText { token, count: 1 } if token == "<s>"))
    );
    let mut tokenizer = words(&["[UNK]", "cat", "<", "s", ">", "<s>"], &["<s>"]);
    tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"});
    let (_, found) = findings("cat <s> cat", &tokenizer);
    assert!(
        found
            .iter()
            .any(|f| matches!(f, Finding::SpellsSpecial { token, count: 1 } if token == "<s>"))
    );
}

#[test]
fn holes_in_the_ids_are_told_with_the_size_that_a_model_needs() {
    let mut tokenizer = words(&["[UNK]", "cat"], &[]);
    tokenizer["model"]["vocab"]["dog"] = json!(60_000);
    let (report, found) = findings("cat dog", &tokenizer);
    assert_eq!(report.vocab_size, 3);
    let [hole @ Finding::Holes { tokens: 3, largest: 60_000 }] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(hole.to_string().contains("`vocab_size` 60001") && !hole.is_warning(), "{hole}");
}

#[test]
fn halves_of_utf16_are_counted() {
    let (folder, options) = options("");
    let input = folder.path().join("half.txt");
    let text = "some text ".repeat(9);
    let units = [0xfeff, 0xd83d].into_iter().chain(text.encode_utf16());
    fs::write(&input, units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let found = Mutex::new(Vec::new());
    let tell = |event: Event| found.lock().unwrap().push(event);
    prepare(&PrepareOptions { input, ..options }, &tell).unwrap();
    let counted =
        |event: &Event| matches!(event, Event::Finding(Finding::NotUtf8 { bytes: 1, .. }));
    assert!(found.lock().unwrap().iter().any(counted));
}

#[test]
fn tables_that_are_off_are_told_with_the_ratio() {
    let text = "wide     spaces     between     words ".repeat(50);
    let tokenizer = words(&["[UNK]", "wide", "spaces", "between", "words"], &[]);
    let (report, found) = findings(&text, &tokenizer);
    let [Finding::Bytes { tables, bytes, .. }] = found[..] else { panic!("{found:?}") };
    assert_eq!((bytes, report.bytes), (text.len() as u64, text.len() as u64));
    assert!(tables < bytes);
    let text = found[0].to_string();
    assert!(text.contains("bytes") && text.contains("ratio 0."), "{text}");
}

#[test]
fn a_run_that_fails_leaves_the_output_as_it_was() {
    let (folder, good) = options(&TEXT.repeat(20));
    prepared(&good).unwrap();
    let contents = |folder: &std::path::Path| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = contents(&good.output);
    let bad = folder.path().join("bad.jsonl");
    let lines = "{\"text\": \"some words\"}\n".repeat(9000);
    fs::write(&bad, format!("{lines}no JSON\n")).unwrap();
    let again = PrepareOptions { input: bad, ..good.clone() };
    assert!(matches!(prepared(&again), Err(PrepareError::Json { line: 9001, .. })));
    assert!(contents(&good.output) == before);
    assert_eq!(fs::read_dir(good.output.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn fewer_shards_leave_none_of_the_old_ones() {
    let (_folder, many) = options(&TEXT.repeat(20));
    let many = PrepareOptions { tokens_per_shard: 20, ..many };
    let first = prepared(&many).unwrap();
    let few = prepared(&PrepareOptions { tokens_per_shard: 1000, ..many.clone() }).unwrap();
    assert!(first.split.train.len() > 2 && few.split.train.len() == 1);
    let names = fs::read_dir(&many.output).unwrap().map(|entry| entry.unwrap().file_name());
    let shards = names.filter(|name| name.to_string_lossy().starts_with("train_"));
    assert_eq!(shards.count(), 1);
}
