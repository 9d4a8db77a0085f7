//! Why a shard cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Why a shard cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The file cannot be opened, read or written.
    #[error("cannot access shard `{}`: {source}\n  hint: {}", path.display(), files::hint(source))]
    Io {
        /// The shard.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else than a shard.
    #[error("`{}` is no shard of token ids: it is {what}\n  hint: {hint}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The way out.
        hint: &'static str,
    },
    /// Not even a whole header.
    #[error(
        "shard `{}` has `{bytes}` bytes, fewer than its 1024-byte header\n  hint: write shards with `prepare`; ids without a header, as nanoGPT writes them, need `--raw-u16`",
        path.display()
    )]
    NoHeader {
        /// The shard.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A header field has another value than the format's.
    #[error(
        "shard `{}` has {field} `{found}` in its header, expected `{expected}`\n  hint: write shards with `prepare`, or exclude this file from the pattern; ids of 16 bits without a header, as nanoGPT writes them, need `--raw-u16`",
        path.display()
    )]
    Header {
        /// The shard.
        path: PathBuf,
        /// `magic` or `version`.
        field: &'static str,
        /// The value in the file.
        found: i32,
        /// The value of the format.
        expected: i32,
    },
    /// The header counts fewer tokens than none.
    #[error(
        "shard `{}` has token count `{tokens}` in its header, expected at least `0`\n  hint: counts of more than 2147483647 come out so; write the tokens anew, as several shards",
        path.display()
    )]
    NegativeCount {
        /// The shard.
        path: PathBuf,
        /// Token count in the header.
        tokens: i32,
    },
    /// The header's token count and the file's size contradict each other.
    #[error(
        "shard `{}` has `{bytes}` bytes, but `{tokens}` tokens need `{needed}`\n  hint: the file was cut or is still being written; write it anew",
        path.display()
    )]
    Size {
        /// The shard.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// Token count in the header.
        tokens: i32,
        /// Size in bytes that the token count asks for.
        needed: i64,
    },
    /// The file has become another one since the run began.
    #[error(
        "shard `{}` had `{before}` tokens when the run began, and has `{now}`\n  hint: leave shards alone while a run reads them; write new ones into another folder",
        path.display()
    )]
    Changed {
        /// The shard.
        path: PathBuf,
        /// Its tokens then.
        before: usize,
        /// Its tokens now, as far as they can be read.
        now: usize,
    },
    /// A token id that no embedding row belongs to.
    #[error(
        "shard `{}` has token id `{id}` at position `{position}`, but `vocab_size` is `{vocab_size}`\n  hint: set `vocab_size` to the tokenizer's (more than `{largest}`), or prepare the data with `--vocab-size {vocab_size}`",
        path.display()
    )]
    Vocabulary {
        /// The shard.
        path: PathBuf,
        /// Index of the first such token.
        position: usize,
        /// Its id.
        id: u16,
        /// The largest id in the shard.
        largest: u16,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// More tokens than the header can count.
    #[error(
        "shard `{}` would have `{tokens}` tokens, more than its header can count\n  hint: write several shards",
        path.display()
    )]
    TooLong {
        /// The shard.
        path: PathBuf,
        /// Tokens to be written.
        tokens: usize,
    },
}

impl ShardError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
