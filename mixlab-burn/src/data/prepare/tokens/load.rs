//! A `tokenizer.json` that somebody else made.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::super::event::{Event, Finding, Listener};
use super::super::guard::guarded;
use super::{PrepareError, Tokens};

/// Reads a tokenizer. What would lose text (truncation), add to it (padding) or give other tokens at
/// every run (dropout) is left out, and special tokens are not looked for in the text.
pub(in crate::data) fn load(path: &Path, tell: Listener) -> Result<Tokens, PrepareError> {
    let wrong = |reason: String| PrepareError::TokenizerFile { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(PrepareError::io(path))?;
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
    let unknown = model.get("unk_id").and_then(Value::as_u64);
    let unknown_token = model.get("unk_token").and_then(Value::as_str).map(str::to_owned);
    let read = guarded(|| Tokenizer::from_bytes(json.to_string()));
    let mut tokenizer = read.map_err(|error| wrong(error.to_string()))?;
    tokenizer.set_encode_special_tokens(true);
    if let Some(dropout) = dropout {
        let (path, dropout) = (path.to_owned(), dropout.to_string());
        tell(Event::Finding(Finding::Dropout { path, dropout }));
    }
    let unknown = unknown.and_then(|id| u32::try_from(id).ok());
    let unknown = unknown.or_else(|| tokenizer.token_to_id(&unknown_token?));
    Ok(Tokens { tokenizer, path: path.to_owned(), unknown })
}

#[cfg(test)]
mod tests {
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
