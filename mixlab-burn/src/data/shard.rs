//! Shard files: a 1024-byte header, then tokens as 16-bit little-endian numbers.
//!
//! Header, all `i32` little-endian: magic 20240520, version 1, token count, zeros.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::files::replace_file;

const HEADER_BYTES: usize = 1024;
const MAGIC: i32 = 20_240_520;
const VERSION: i32 = 1;

/// Why a shard cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file cannot be opened, mapped or written.
    #[error("cannot access shard `{}`: {source}", path.display())]
    Io {
        /// The shard.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not even a whole header.
    #[error(
        "shard `{}` has `{bytes}` bytes, fewer than its 1024-byte header\n  hint: write shards with `prepare`",
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
        "shard `{}` has {field} `{found}` in its header, expected `{expected}`\n  hint: write shards with `prepare`, or exclude this file from the pattern",
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
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A shard file, memory-mapped: tokens are read from disk when they are used.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
}

impl Shard {
    /// Maps a shard and checks its header.
    ///
    /// # Errors
    /// If the file cannot be read or its header is not that of a shard of this size.
    pub fn open(path: &Path) -> Result<Self, ShardError> {
        let file = File::open(path).map_err(ShardError::io(path))?;
        let bytes = file.metadata().map_err(ShardError::io(path))?.len();
        if bytes < HEADER_BYTES as u64 {
            let path = path.to_owned();
            return Err(ShardError::NoHeader { path, bytes });
        }
        // SAFETY: the map is only read, as bytes, for which every value is valid. Shards are
        // replaced by renaming, never rewritten in place, so a mapped file keeps its content.
        let map = unsafe { Mmap::map(&file) }.map_err(ShardError::io(path))?;
        check_header(path, &map)?;
        let path = path.to_owned();
        Ok(Self { path, map })
    }

    /// Where the shard lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.payload().len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a range of positions.
    ///
    /// # Panics
    /// If the range reaches beyond [`Self::len`].
    pub fn tokens(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = u16> + '_ {
        self.payload()[range].iter().map(|b| u16::from_le_bytes(*b))
    }

    /// Reads every token once to see that it is below `vocab_size`.
    ///
    /// # Errors
    /// Names the first token that is not.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), ShardError> {
        let all = || self.tokens(0..self.len());
        let largest = all().fold(0, u16::max);
        if usize::from(largest) < vocab_size {
            return Ok(());
        }
        let outside = |(_, id): &(usize, u16)| usize::from(*id) >= vocab_size;
        let Some((position, id)) = all().enumerate().find(outside) else {
            return Ok(());
        };
        Err(ShardError::Vocabulary { path: self.path.clone(), position, id, largest, vocab_size })
    }

    fn payload(&self) -> &[[u8; 2]] {
        self.map[HEADER_BYTES..].as_chunks().0
    }
}

fn check_header(path: &Path, file: &[u8]) -> Result<(), ShardError> {
    let word = |i: usize| i32::from_le_bytes(file.as_chunks().0[i]);
    let fields = [("magic", word(0), MAGIC), ("version", word(1), VERSION)];
    for (field, found, expected) in fields {
        if found != expected {
            return Err(ShardError::Header { path: path.to_owned(), field, found, expected });
        }
    }
    let tokens = word(2);
    let needed = HEADER_BYTES as i64 + 2 * i64::from(tokens);
    if needed != file.len() as i64 {
        return Err(ShardError::Size {
            path: path.to_owned(),
            bytes: file.len() as u64,
            tokens,
            needed,
        });
    }
    Ok(())
}

/// Writes a shard. A reader sees the old file or the whole new one, never a part.
///
/// # Errors
/// If the file cannot be written or has more than 2³¹ − 1 tokens.
pub fn write_shard(path: &Path, tokens: &[u16]) -> Result<(), ShardError> {
    write_tokens(path, tokens.iter().copied())
}

/// [`write_shard`] for tokens that need not lie in memory.
pub(crate) fn write_tokens(
    path: &Path,
    tokens: impl ExactSizeIterator<Item = u16>,
) -> Result<(), ShardError> {
    let Ok(count) = i32::try_from(tokens.len()) else {
        return Err(ShardError::TooLong { path: path.to_owned(), tokens: tokens.len() });
    };
    let mut header = [0; HEADER_BYTES];
    for (place, value) in header.as_chunks_mut().0.iter_mut().zip([MAGIC, VERSION, count]) {
        *place = value.to_le_bytes();
    }
    let write = |file: &mut File| {
        let mut file = BufWriter::new(file);
        file.write_all(&header)?;
        for token in tokens {
            file.write_all(&token.to_le_bytes())?;
        }
        file.flush()
    };
    replace_file(path, write).map_err(ShardError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valid shard of three tokens, changed by `change`, and what opening it says.
    fn open_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Shard, ShardError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train_00000.bin");
        write_shard(&path, &[7, 300, 65_535]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        Shard::open(&path)
    }

    #[test]
    fn what_was_written_is_read() {
        let shard = open_changed(|_| ()).unwrap();
        assert_eq!(shard.tokens(0..3).collect::<Vec<_>>(), [7, 300, 65_535]);
        assert_eq!(shard.tokens(1..2).collect::<Vec<_>>(), [300]);
    }

    #[test]
    fn the_layout_is_header_zeros_then_little_endian_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        write_shard(&path, &[0x0102]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..12], [0x88, 0xd8, 0x34, 1, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert!(bytes[12..1024].iter().all(|b| *b == 0));
        assert_eq!(bytes[1024..], [2, 1]);
    }

    #[test]
    fn a_shard_without_tokens_is_valid() {
        let shard = open_changed(|bytes| {
            bytes.truncate(HEADER_BYTES);
            bytes[8] = 0;
        });
        assert!(shard.unwrap().is_empty());
    }

    #[test]
    fn ignored_header_bytes_may_have_any_value() {
        assert!(open_changed(|bytes| bytes[12..1024].fill(9)).is_ok());
    }

    #[test]
    fn a_wrong_magic_or_version_is_named() {
        let error = open_changed(|bytes| bytes[0] ^= 1).unwrap_err().to_string();
        assert!(error.contains("magic `20240521`"), "{error}");
        let error = open_changed(|bytes| bytes[4] = 2).unwrap_err().to_string();
        assert!(error.contains("version `2`"), "{error}");
    }

    #[test]
    fn a_size_that_contradicts_the_count_is_an_error_either_way() {
        let grown = open_changed(|bytes| bytes.push(0)).unwrap_err();
        let (bytes, needed) = (1031, 1030);
        assert!(
            matches!(grown, ShardError::Size { bytes: b, needed: n, .. } if (b, n) == (bytes, needed))
        );
        let cut = open_changed(|bytes| bytes.truncate(1028)).unwrap_err();
        assert!(matches!(cut, ShardError::Size { bytes: 1028, .. }));
        let negative = open_changed(|bytes| bytes[8..12].fill(255)).unwrap_err();
        assert!(matches!(negative, ShardError::Size { tokens: -1, .. }));
    }

    #[test]
    fn a_file_shorter_than_the_header_is_an_error() {
        let error = open_changed(|bytes| bytes.truncate(1023)).unwrap_err();
        assert!(matches!(error, ShardError::NoHeader { bytes: 1023, .. }));
    }

    #[test]
    fn the_first_id_outside_the_vocabulary_is_named() {
        let shard = open_changed(|_| ()).unwrap();
        assert!(shard.check_vocabulary(65_536).is_ok());
        let error = shard.check_vocabulary(300).unwrap_err().to_string();
        assert!(error.contains("id `300` at position `1`"), "{error}");
        assert!(error.contains("more than `65535`"), "{error}");
    }
}
