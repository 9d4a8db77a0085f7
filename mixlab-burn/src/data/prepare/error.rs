//! Why text cannot be prepared.

use std::io;
use std::path::{Path, PathBuf};

use super::LeftOut;
use crate::config::shortened;
use crate::data::bpb::TableError;
use crate::data::prepared::PreparedError;
use crate::data::shard::ShardError;
use crate::files;

/// Why the text cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// An option has a value that cannot work.
    #[error(
        "`{option}` is `{value}`, expected {expected}\n  hint: `mixlab-cli prepare --help` says what it means"
    )]
    Option {
        /// The option as it is called on the command line.
        option: &'static str,
        /// Its value.
        value: String,
        /// The values that work.
        expected: &'static str,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot access `{}`: {source}\n  hint: {}", path.display(), files::hint(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input folder has no files that are known to be texts.
    #[error(
        "folder `{}` has no text: no `*.txt`, `*.jsonl`, `*.ndjson`, `*.json` with the text field, `*.parquet`, packed or not (left out: {left_out})\n  hint: name the file itself if it is called otherwise",
        folder.display()
    )]
    NoText {
        /// The input folder.
        folder: PathBuf,
        /// The files that it has.
        left_out: LeftOut,
    },
    /// A file is no text.
    #[error("`{}` is {what}\n  hint: {hint}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What can be done.
        hint: &'static str,
    },
    /// The output cannot be written there.
    #[error("cannot write to `{}`: {reason}\n  hint: give `--output` a folder of its own", path.display())]
    Output {
        /// The output folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A Parquet file cannot be read.
    #[error(
        "cannot read Parquet file `{}`: {}\n  hint: {hint}",
        path.display(), shortened(reason)
    )]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What can be done.
        hint: String,
    },
    /// A record of a JSON file is not an object with text in its text field.
    #[error(
        "line `{line}` of `{}`: {}\n  hint: mend or remove that line; a text that is no JSON is called `.txt`",
        path.display(), shortened(reason)
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The supplied tokenizer cannot be read, or fails at the text.
    #[error(
        "cannot use tokenizer `{}`: {}\n  hint: name a whole `tokenizer.json` of the tokenizers library",
        path.display(), shortened(reason)
    )]
    TokenizerFile {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizer library said.
        reason: String,
    },
    /// Training the tokenizer failed.
    #[error("the tokenizer cannot be trained: {}\n  hint: give one with `--tokenizer-path`", shortened(.0))]
    Training(String),
    /// Reading has stopped, because its texts could not be encoded; that is the error to report.
    #[error("reading has stopped")]
    Stopped,
    /// A supplied tokenizer gave an id that no shard can hold.
    #[error(
        "tokenizer `{}` gave token id `{id}`, but shards hold ids up to `65535`\n  hint: use a tokenizer with a smaller vocabulary",
        path.display()
    )]
    WideId {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The id.
        id: u32,
    },
    /// No token came out.
    #[error(
        "the text of `{}` gave no tokens{}",
        input.display(), lacking(*skipped, text_field, fields)
    )]
    NoTokens {
        /// The input.
        input: PathBuf,
        /// Records without the text field, or null there.
        skipped: usize,
        /// The text field.
        text_field: String,
        /// The fields of a record that hold strings.
        fields: Vec<String>,
    },
    /// A shard cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The tables of bytes per token cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What is known about the shards cannot be written.
    #[error(transparent)]
    Prepared(#[from] PreparedError),
}

/// Why there are no tokens, and the way out.
fn lacking(skipped: usize, text_field: &str, fields: &[String]) -> String {
    /// Fields that are named.
    const MOST: usize = 12;
    if skipped == 0 {
        return ": it is empty, or the tokenizer leaves nothing of it\n  hint: check the input"
            .into();
    }
    let none = format!(": none of `{skipped}` records has the field `{text_field}`");
    if fields.is_empty() {
        return format!(
            "{none}, and the first has no text outside of lists\n  hint: name the field of the text with `--text-field`; of the lists in a file `jq -c '.data[]'` makes records"
        );
    }
    let named = fields.iter().take(MOST).map(|field| format!("`{}`", shortened(field)));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if fields.len() > MOST { ", …" } else { "" };
    format!(
        "{none}; they have {named}{more}\n  hint: name the field of the text with `--text-field`"
    )
}

impl PrepareError {
    /// Says which path a system error belongs to.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
