//! Shard files: a 1024-byte header, then tokens as 16-bit little-endian numbers.
//!
//! Header, all `i32` little-endian: magic 20240520, version 1, token count, zeros. nanoGPT and
//! Megatron-LM write the numbers alone ([`Layout::Raw`]).
//!
//! Shards are read, not mapped: a file that somebody shortens is an error that names it, where a map
//! would end the process.

mod error;
mod foreign;

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use error::ShardError;

use super::MAX_VOCAB;
use crate::files::replace_file;

/// Bytes of the header of a shard.
pub const HEADER_BYTES: usize = 1024;
const MAGIC: i32 = 20_240_520;
const VERSION: i32 = 1;

/// What stands before the tokens of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// The header.
    #[default]
    Header,
    /// Nothing.
    Raw,
}

impl Layout {
    fn header_bytes(self) -> usize {
        match self {
            Self::Header => HEADER_BYTES,
            Self::Raw => 0,
        }
    }

    /// Bytes of the tokens that the header counts in `head`, the first [`HEADER_BYTES`] of a shard or
    /// all that it has; `None` where there is no header, and only the end tells.
    pub fn counted(self, head: &[u8]) -> Option<u64> {
        let count = head.as_chunks().0.get(2).map_or(0, |word| i32::from_le_bytes(*word));
        (self == Self::Header).then(|| 2 * u64::try_from(count).unwrap_or_default())
    }
}

/// A shard file, closed: there may be more of them than files that a process may open.
#[derive(Debug, Clone)]
pub struct Shard {
    path: PathBuf,
    layout: Layout,
    tokens: usize,
}

/// An open shard.
#[derive(Debug)]
pub struct Reader {
    shard: Shard,
    file: File,
    /// What was read last: memory that is new each time costs more than to read it.
    bytes: Vec<u8>,
}

impl Shard {
    /// Looks at a shard and checks its header.
    ///
    /// # Errors
    /// If the file cannot be read or is no shard of this size.
    pub fn open(path: &Path, layout: Layout) -> Result<Self, ShardError> {
        Ok(Reader::open(path, layout)?.shard)
    }

    /// Opens the shard anew.
    ///
    /// # Errors
    /// As [`Self::open`], or if it has another number of tokens now.
    pub fn reader(&self) -> Result<Reader, ShardError> {
        let reader = Reader::open(&self.path, self.layout)?;
        match reader.shard.tokens {
            now if now == self.tokens => Ok(reader),
            now => Err(self.changed(now)),
        }
    }

    /// All of its tokens.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self) -> Result<Vec<u16>, ShardError> {
        let mut tokens = Vec::new();
        self.reader()?.read(0..self.tokens, &mut tokens)?;
        Ok(tokens)
    }

    /// Where the shard lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    fn changed(&self, now: usize) -> ShardError {
        ShardError::Changed { path: self.path.clone(), before: self.tokens, now }
    }

    /// Looks for an id outside the vocabulary among the tokens of `range`.
    fn check(&self, range: Range<usize>, vocab_size: usize) -> Result<(), ShardError> {
        /// Tokens that a cache holds.
        const PIECE: usize = 1 << 16;
        let (mut reader, mut tokens) = (self.reader()?, Vec::with_capacity(PIECE));
        for start in range.clone().step_by(PIECE) {
            tokens.clear();
            reader.read(start..range.end.min(start + PIECE), &mut tokens)?;
            let largest = tokens.iter().fold(0, |largest, id| largest.max(*id));
            if usize::from(largest) >= vocab_size {
                return Err(self.outside(start, &tokens, vocab_size));
            }
        }
        Ok(())
    }

    /// That one of `tokens`, which begin at position `start`, is outside the vocabulary.
    fn outside(&self, start: usize, tokens: &[u16], vocab_size: usize) -> ShardError {
        let all = self.read().unwrap_or_else(|_| tokens.to_vec());
        if let Some((what, hint)) = foreign::swapped(&all, vocab_size) {
            return ShardError::Foreign { path: self.path.clone(), what, hint };
        }
        let found = tokens.iter().position(|id| usize::from(*id) >= vocab_size);
        let at = found.expect("the largest is outside");
        ShardError::Vocabulary {
            path: self.path.clone(),
            position: start + at,
            id: tokens[at],
            largest: all.iter().copied().max().unwrap_or_default(),
            vocab_size,
        }
    }
}

impl Reader {
    fn open(path: &Path, layout: Layout) -> Result<Self, ShardError> {
        let failed = || ShardError::io(path);
        foreign::check_kind(path, &fs::metadata(path).map_err(failed())?)?;
        let mut file = File::open(path).map_err(failed())?;
        let bytes = file.metadata().map_err(failed())?.len();
        let mut head = Vec::new();
        Read::by_ref(&mut file)
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(failed())?;
        match layout {
            Layout::Header => check_header(path, &head, bytes)?,
            Layout::Raw => check_raw(path, &head, bytes)?,
        }
        let tokens = (bytes as usize - layout.header_bytes()) / 2;
        Ok(Self { shard: Shard { path: path.to_owned(), layout, tokens }, file, bytes: Vec::new() })
    }

    /// Adds the tokens of a range of positions to `tokens`.
    ///
    /// # Errors
    /// If the file cannot be read, or has become shorter.
    pub fn read(&mut self, range: Range<usize>, tokens: &mut Vec<u16>) -> Result<(), ShardError> {
        let Self { shard, file, bytes } = self;
        let start = shard.layout.header_bytes() + 2 * range.start;
        bytes.resize(2 * range.len(), 0);
        let read = file.seek(SeekFrom::Start(start as u64)).and_then(|_| file.read_exact(bytes));
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                let left = file.metadata().map_or(0, |kind| kind.len() as usize);
                shard.changed(left.saturating_sub(shard.layout.header_bytes()) / 2)
            }
            _ => ShardError::io(&shard.path)(error),
        })?;
        tokens.extend(bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)));
        Ok(())
    }
}

/// Reads every token of `shards` once to see that it is below `vocab_size`: all cores at once, as
/// fast as the disk gives them.
///
/// # Errors
/// Names the first token that is not.
pub fn check_vocabulary(shards: &[Shard], vocab_size: usize) -> Result<(), ShardError> {
    /// Tokens that are read at once.
    const PART: usize = 1 << 21;
    if vocab_size >= MAX_VOCAB {
        return Ok(());
    }
    let parts = shards.iter().flat_map(|shard| {
        let starts = (0..shard.tokens).step_by(PART);
        starts.map(move |start| (shard, start..shard.tokens.min(start + PART)))
    });
    let parts: Vec<_> = parts.collect();
    let checked = parts.into_par_iter().map(|(shard, range)| shard.check(range, vocab_size));
    checked.find_first(Result::is_err).unwrap_or(Ok(()))
}

fn check_raw(path: &Path, head: &[u8], bytes: u64) -> Result<(), ShardError> {
    foreign::check_head(path, head)?;
    let foreign = |what, hint| Err(ShardError::Foreign { path: path.to_owned(), what, hint });
    if head.starts_with(&MAGIC.to_le_bytes()) {
        return foreign("one with a header", "leave out `--raw-u16`");
    }
    if !bytes.is_multiple_of(2) {
        return foreign("an odd number of bytes", "each id has two; write the file anew");
    }
    Ok(())
}

fn check_header(path: &Path, head: &[u8], bytes: u64) -> Result<(), ShardError> {
    foreign::check_head(path, head)?;
    if head.len() < HEADER_BYTES {
        return Err(ShardError::NoHeader { path: path.to_owned(), bytes });
    }
    let word = |i: usize| i32::from_le_bytes(head.as_chunks().0[i]);
    let fields = [("magic", word(0), MAGIC), ("version", word(1), VERSION)];
    for (field, found, expected) in fields {
        if found != expected {
            return Err(ShardError::Header { path: path.to_owned(), field, found, expected });
        }
    }
    let tokens = word(2);
    if tokens < 0 {
        return Err(ShardError::NegativeCount { path: path.to_owned(), tokens });
    }
    let needed = HEADER_BYTES as i64 + 2 * i64::from(tokens);
    if needed != bytes as i64 {
        return Err(ShardError::Size { path: path.to_owned(), bytes, tokens, needed });
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
mod tests;
