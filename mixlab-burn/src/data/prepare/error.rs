//! Why text cannot be prepared.

use std::io;
use std::path::{Path, PathBuf};

use crate::data::bpb::TableError;
use crate::data::shard::ShardError;

/// Why the text cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// An option has a value that cannot work.
    #[error("`{option}` is `{value}`, expected {expected}")]
    Option {
        /// The option as it is called on the command line.
        option: &'static str,
        /// Its value.
        value: String,
        /// The values that work.
        expected: &'static str,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot access `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input folder has neither text nor JSONL files.
    #[error(
        "folder `{}` has no `*.txt` and no `*.jsonl` files\n  hint: name the file itself if it is called otherwise",
        folder.display()
    )]
    NoText {
        /// The input folder.
        folder: PathBuf,
    },
    /// A line of a JSONL file is not an object with text in its text field.
    #[error("line `{line}` of `{}`: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The supplied tokenizer cannot be read.
    #[error("cannot read tokenizer `{}`: {source}", path.display())]
    TokenizerFile {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizer library said.
        source: tokenizers::Error,
    },
    /// Training or encoding failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(#[source] tokenizers::Error),
    /// A supplied tokenizer gave an id that no shard can hold.
    #[error(
        "the tokenizer gave token id `{id}`, but shards hold ids up to `65535`\n  hint: use a tokenizer with a smaller vocabulary"
    )]
    WideId {
        /// The id.
        id: u32,
    },
    /// No token came out.
    #[error(
        "the text of `{}` gave no tokens (`{skipped}` JSONL objects lack the field `{text_field}`)\n  hint: check the input and `--text-field`",
        input.display()
    )]
    NoTokens {
        /// The input.
        input: PathBuf,
        /// JSONL objects without the text field.
        skipped: usize,
        /// The text field.
        text_field: String,
    },
    /// A shard cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The tables of bytes per token cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl PrepareError {
    /// Says which path a system error belongs to.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
