//! `prepared.json`: what `prepare` knows about the shards beside it, and nobody could know later.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::{self, read_small_file, regular, replace_file};

/// The name of the file.
pub const NAME: &str = "prepared.json";
const VERSION: u64 = 1;

/// Why `prepared.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreparedError {
    /// The file cannot be read or written.
    #[error("cannot access `{}`: {source}\n  hint: {}", path.display(), files::hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what `prepare` writes.
    #[error("`{}` has no whole number `{field}`, version `{VERSION}`\n  hint: prepare the text anew, or remove the file", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is missing.
        field: String,
    },
}

/// The training or the validation part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Tokens in its shards.
    pub tokens: u64,
    /// Bytes of its text, in UTF-8 with `\n` as line end. A text that goes from one part to the other
    /// is divided where the tokens are.
    pub bytes: u64,
    /// Bytes that the tables of bytes per token give for its tokens.
    pub table_bytes: u64,
}

impl Part {
    /// True bytes for each byte of the tables: what a sum over some of the tokens is multiplied by.
    /// 1 if there are no tokens.
    pub fn correction(&self) -> f64 {
        match self.table_bytes {
            0 => 1.0,
            bytes => self.bytes as f64 / bytes as f64,
        }
    }
}

/// What is known about a folder of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prepared {
    /// Entries of the tokenizer.
    pub vocab_size: u64,
    /// The training part.
    pub train: Part,
    /// The validation part.
    pub val: Part,
}

impl Prepared {
    /// Writes the file into `folder`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), PreparedError> {
        let part = |part: &Part| json!({"tokens": part.tokens, "bytes": part.bytes, "table_bytes": part.table_bytes});
        let content = json!({
            "version": VERSION,
            "vocab_size": self.vocab_size,
            "train": part(&self.train),
            "val": part(&self.val),
        });
        let path = folder.join(NAME);
        replace_file(&path, |file| writeln!(file, "{content:#}"))
            .map_err(|source| PreparedError::Io { path, source })
    }

    /// Reads the file of `folder`, if there is one: shards of other programs have none.
    ///
    /// # Errors
    /// If the file cannot be read or was not written by `prepare`.
    pub fn read(folder: &Path) -> Result<Option<Self>, PreparedError> {
        let path = folder.join(NAME);
        let content = match regular(&path).and_then(read_small_file) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PreparedError::Io { path, source }),
        };
        let json: Value = serde_json::from_slice(&content).unwrap_or_default();
        let number = |field: &str| {
            let found = json.pointer(field).and_then(Value::as_u64);
            let field = field[1..].replace('/', ".");
            found.ok_or_else(|| PreparedError::Content { path: path.clone(), field })
        };
        let part = |name: &str| {
            let number = |field| number(&format!("/{name}/{field}"));
            let (tokens, bytes) = (number("tokens")?, number("bytes")?);
            Ok(Part { tokens, bytes, table_bytes: number("table_bytes")? })
        };
        match number("/version")? {
            VERSION => {}
            _ => return Err(PreparedError::Content { path, field: "version".to_owned() }),
        }
        let vocab_size = number("/vocab_size")?;
        Ok(Some(Self { vocab_size, train: part("train")?, val: part("val")? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Prepared::read(folder.path()).unwrap(), None);
        let part = Part { tokens: 7, bytes: 30, table_bytes: 20 };
        let prepared = Prepared { vocab_size: 9, train: part, val: Part::default() };
        prepared.write(folder.path()).unwrap();
        assert_eq!(Prepared::read(folder.path()).unwrap(), Some(prepared));
        assert_eq!((part.correction(), Part::default().correction()), (1.5, 1.0));
    }

    #[test]
    fn other_contents_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["", "[]", "{\"version\": 2}", "{\"version\": 1, \"vocab_size\": -1}"] {
            std::fs::write(folder.path().join(NAME), content).unwrap();
            let error = Prepared::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(NAME) && error.contains("hint: "), "{error}");
        }
    }
}
