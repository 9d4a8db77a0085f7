//! Bytes per token: three tables by which a loss per token becomes bits per byte.
//!
//! A token's space in front is counted apart: after a special token it does not count.

pub(super) mod spelling;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use super::MAX_PREPARED_VOCAB;
use crate::files::{regular, replace_file};
use spelling::Spelling;

const BYTES: &str = "bytes_per_token.bin";
const LEADING_SPACE: &str = "has_leading_space.bin";
const BOUNDARY: &str = "is_boundary_token.bin";
/// The names of the three files.
pub(crate) const NAMES: [&str; 3] = [BYTES, LEADING_SPACE, BOUNDARY];

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A table cannot be read or written.
    #[error(
        "cannot access table `{}`: {source}\n  hint: `prepare` writes the tables beside the shards",
        path.display()
    )]
    Io {
        /// The table.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A table has fewer entries than the vocabulary, or half an entry.
    #[error(
        "table `{}` has `{bytes}` bytes, but `vocab_size` `{vocab_size}` needs `{needed}` or more\n  hint: use the tables of the tokenizer that the model was trained with",
        path.display()
    )]
    Size {
        /// The table.
        path: PathBuf,
        /// Its size in bytes.
        bytes: usize,
        /// The model's vocabulary size.
        vocab_size: usize,
        /// Bytes for that many entries.
        needed: usize,
    },
}

/// The tables, one entry a token id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByteTables {
    /// UTF-8 bytes of the token, without a space in front.
    bytes: Vec<u16>,
    /// Whether the token begins with a space.
    leading_space: Vec<bool>,
    /// Whether the token is special: a space after it is not counted.
    boundary: Vec<bool>,
}

impl ByteTables {
    /// The tables of a tokenizer, with at least `vocab_size` entries (those without token are 0).
    /// Ids that no shard can hold have no entry.
    pub fn of_tokenizer(tokenizer: &Tokenizer, vocab_size: usize) -> Self {
        let mut vocabulary = tokenizer.get_vocab(true);
        vocabulary.retain(|_, id| u16::try_from(*id).is_ok());
        let added = tokenizer.get_added_tokens_decoder();
        let ids = vocabulary.values().map(|id| *id as usize + 1);
        let size = ids.max().unwrap_or(0).max(vocab_size);
        let mut tables = Self {
            bytes: vec![0; size],
            leading_space: vec![false; size],
            boundary: vec![false; size],
        };
        let spelling = Spelling::of(tokenizer);
        for (token, id) in &vocabulary {
            match added.get(id) {
                Some(added) if added.special => tables.boundary[*id as usize] = true,
                Some(_) => tables.set(*id, token.len(), token.starts_with(' ')),
                None => {
                    let (bytes, space) = spelling.bytes(token);
                    tables.set(*id, bytes, space);
                }
            }
        }
        tables
    }

    fn set(&mut self, id: u32, bytes: usize, leading_space: bool) {
        let counted = bytes - usize::from(leading_space);
        self.bytes[id as usize] = u16::try_from(counted).unwrap_or(u16::MAX);
        self.leading_space[id as usize] = leading_space;
    }

    /// Bytes that `token` stands for when it follows `prev`; nothing for an id outside the tables.
    pub fn bytes(&self, prev: u16, token: u16) -> Option<u32> {
        let (prev, token) = (usize::from(prev), usize::from(token));
        let counted = u32::from(*self.bytes.get(token)?);
        let after_special = *self.boundary.get(prev)?;
        let space = *self.leading_space.get(token)? && !after_special;
        Some(counted + u32::from(space))
    }

    /// Writes the three files into a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TableError> {
        let flags = |flags: &[bool]| flags.iter().map(|flag| u8::from(*flag)).collect();
        let tables: [(_, Vec<u8>); 3] = [
            (BYTES, self.bytes.iter().flat_map(|n| n.to_le_bytes()).collect()),
            (LEADING_SPACE, flags(&self.leading_space)),
            (BOUNDARY, flags(&self.boundary)),
        ];
        for (name, content) in tables {
            let path = folder.join(name);
            replace_file(&path, |file| file.write_all(&content))
                .map_err(|source| TableError::Io { path, source })?;
        }
        Ok(())
    }

    /// Whether `folder` has the first of the three files.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(BYTES).is_file()
    }

    /// Reads the three files of a folder.
    ///
    /// # Errors
    /// If a file is missing or has fewer than `vocab_size` entries.
    pub fn read(folder: &Path, vocab_size: usize) -> Result<Self, TableError> {
        // A model may have rows that no id in a shard can reach.
        let vocab_size = vocab_size.min(MAX_PREPARED_VOCAB);
        let flags = |name| {
            let table = read_table(folder.join(name), vocab_size, 1)?;
            Ok(table.iter().map(|flag| *flag != 0).collect())
        };
        let bytes = read_table(folder.join(BYTES), vocab_size, 2)?;
        let numbers = bytes.as_chunks().0.iter();
        Ok(Self {
            bytes: numbers.map(|n| u16::from_le_bytes(*n)).collect(),
            leading_space: flags(LEADING_SPACE)?,
            boundary: flags(BOUNDARY)?,
        })
    }
}

fn read_table(path: PathBuf, vocab_size: usize, width: usize) -> Result<Vec<u8>, TableError> {
    let content = match regular(&path).and_then(fs::read) {
        Ok(content) => content,
        Err(source) => return Err(TableError::Io { path, source }),
    };
    let (bytes, needed) = (content.len(), vocab_size * width);
    if bytes < needed || bytes % width != 0 {
        return Err(TableError::Size { path, bytes, vocab_size, needed });
    }
    Ok(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokenizers::AddedToken;
    use tokenizers::models::wordlevel::WordLevel;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    /// Ids in the order of `words`; the added ones follow: `<s>` special, ` ok` not.
    pub fn tokenizer(words: &[&str]) -> Tokenizer {
        let numbered = words.iter().zip(0..).map(|(w, id)| (w.to_string(), id));
        let model = WordLevel::builder()
            .vocab(numbered.collect())
            .unk_token(words[0].to_owned())
            .build()
            .unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.add_special_tokens(&[AddedToken::from("<s>", true)]);
        tokenizer.add_tokens(&[AddedToken::from(" ok", false)]);
        tokenizer
    }

    #[test]
    fn byte_level_tokens_are_counted_in_bytes_without_their_space() {
        let mut tokenizer = tokenizer(&["a", "Ġthe", "Ġ", "ĠĠ", "Ã¤", "Ċ"]);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::default()));
        let tables = ByteTables::of_tokenizer(&tokenizer, 10);
        assert_eq!(tables.bytes, [1, 3, 0, 1, 2, 1, 0, 2, 0, 0]);
        let space = tables.leading_space.iter().map(|s| u8::from(*s));
        assert_eq!(space.collect::<Vec<_>>(), [0, 1, 1, 1, 0, 0, 0, 1, 0, 0]);
        let boundary = tables.boundary.iter().position(|b| *b);
        assert_eq!(boundary, Some(6));
    }

    #[test]
    fn ids_that_no_shard_can_hold_have_no_entry() {
        let vocab = [("a".to_owned(), 0), ("b".to_owned(), 4_000_000_000)];
        let model = WordLevel::builder()
            .vocab(vocab.into_iter().collect())
            .unk_token("a".to_owned())
            .build()
            .unwrap();
        assert_eq!(ByteTables::of_tokenizer(&Tokenizer::new(model), 3).bytes, [1, 0, 0]);
    }

    #[test]
    fn a_space_after_a_special_token_is_not_counted() {
        let mut tokenizer = tokenizer(&["a", "Ġthe"]);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::default()));
        let tables = ByteTables::of_tokenizer(&tokenizer, 0);
        assert_eq!(tables.bytes(0, 1), Some(4));
        assert_eq!(tables.bytes(2, 1), Some(3));
        assert_eq!(tables.bytes(1, 0), Some(1));
        assert_eq!(tables.bytes(0, 9), None);
        assert_eq!(tables.bytes(9, 0), None);
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let tables = ByteTables::of_tokenizer(&tokenizer(&["a", "▁the"]), 4);
        tables.write(folder.path()).unwrap();
        assert_eq!(ByteTables::read(folder.path(), 4).unwrap(), tables);
        assert_eq!(ByteTables::read(folder.path(), 2).unwrap(), tables);
        let bytes = fs::read(folder.path().join(BYTES)).unwrap();
        assert_eq!(bytes[..4], [1, 0, 6, 0]);
    }

    #[test]
    fn short_broken_or_missing_tables_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let read = |vocab| ByteTables::read(folder.path(), vocab).unwrap_err().to_string();
        assert!(read(4).contains("bytes_per_token.bin"));
        let tables = ByteTables::of_tokenizer(&tokenizer(&["a", "b"]), 4);
        tables.write(folder.path()).unwrap();
        assert!(read(5).contains("has `8` bytes, but `vocab_size` `5` needs `10`"));
        fs::write(folder.path().join(BYTES), [0; 9]).unwrap();
        assert!(read(4).contains("has `9` bytes"));
    }
}
