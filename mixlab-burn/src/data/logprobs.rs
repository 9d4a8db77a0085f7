//! Files of losses, one for each token: those of mixlab 0.10.1.
//!
//! Little-endian: magic `0x4C504C42`, version 1, vocabulary size and number of records, 32 bits each;
//! then for each record the token, 16 bits, and its loss in nats, an f32.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::files::{self, Replacement};

const MAGIC: u32 = 0x4C50_4C42;
const VERSION: u32 = 1;
const HEADER: usize = 16;
const RECORD: usize = 6;

/// Why such a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogprobsError {
    /// The system refuses.
    #[error("cannot access `{}`: {source}\n  hint: {}", path.display(), files::hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is none of these, or it was cut.
    #[error("`{}` {problem}\n  hint: write it with `eval --logprobs-out`", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Losses of tokens, in the order of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Each token with its loss in nats.
    pub records: Vec<(u16, f32)>,
}

impl Logprobs {
    /// Mean loss in nats; 0 for none.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.records.iter().map(|(_, loss)| f64::from(*loss)).sum();
        sum / self.records.len().max(1) as f64
    }

    /// Writes the file. A reader sees the old one or the whole new one.
    ///
    /// # Errors
    /// If the system refuses, or there are more than 2³² − 1 records.
    pub fn write(&self, place: Replacement) -> Result<(), LogprobsError> {
        let path = place.path().to_owned();
        let io = |source| LogprobsError::Io { path: path.clone(), source };
        let [vocab, count] = [self.vocab_size, self.records.len()].map(u32::try_from);
        let too_many = |_| io(io::Error::other("more records than its header can count"));
        let header = [MAGIC, VERSION, vocab.map_err(too_many)?, count.map_err(too_many)?];
        let written = place.commit(|file| {
            let mut file = BufWriter::new(file);
            header.iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))?;
            for (token, loss) in &self.records {
                file.write_all(&token.to_le_bytes())?;
                file.write_all(&loss.to_le_bytes())?;
            }
            file.flush()
        });
        written.map_err(io)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If the file is no such one, or has fewer or more records than it says.
    pub fn read(path: &Path) -> Result<Self, LogprobsError> {
        let bytes = fs::read(path);
        let bytes = bytes.map_err(|source| LogprobsError::Io { path: path.to_owned(), source })?;
        let wrong = |problem| Err(LogprobsError::Content { path: path.to_owned(), problem });
        let Some((header, records)) = bytes.split_at_checked(HEADER) else {
            return wrong(format!("has `{}` bytes, less than a header", bytes.len()));
        };
        let word = |i: usize| u32::from_le_bytes(header.as_chunks().0[i]);
        if (word(0), word(1)) != (MAGIC, VERSION) {
            return wrong(format!("begins with `{:#x}`, version `{}`", word(0), word(1)));
        }
        let (records, rest) = records.as_chunks::<RECORD>();
        if records.len() != word(3) as usize || !rest.is_empty() {
            let bytes = records.len() * RECORD + rest.len();
            return wrong(format!("has `{bytes}` bytes for `{}` records of 6", word(3)));
        }
        let record = |r: &[u8; RECORD]| {
            (u16::from_le_bytes([r[0], r[1]]), f32::from_le_bytes([r[2], r[3], r[4], r[5]]))
        };
        let records = records.iter().map(record).collect();
        Ok(Self { vocab_size: word(2) as usize, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.bin");
        let written = Logprobs { vocab_size: 64, records: vec![(13, 4.5), (65_535, 0.25)] };
        written.write(Replacement::begin(&path).unwrap()).unwrap();
        assert_eq!(Logprobs::read(&path).unwrap(), written);
        assert_eq!(written.mean(), 2.375);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            bytes[..18],
            [0x42, 0x4C, 0x50, 0x4C, 1, 0, 0, 0, 64, 0, 0, 0, 2, 0, 0, 0, 13, 0]
        );
        let mut other_magic = bytes.clone();
        other_magic[0] = 0;
        for wrong in [&bytes[..27], &bytes[..9], &[&bytes[..], &[0]].concat(), &other_magic] {
            fs::write(&path, wrong).unwrap();
            let error = Logprobs::read(&path).unwrap_err().to_string();
            assert!(error.contains("l.bin") && error.contains("hint: "), "{error}");
        }
        Logprobs { vocab_size: 1, records: vec![] }
            .write(Replacement::begin(&path).unwrap())
            .unwrap();
        assert_eq!(Logprobs::read(&path).unwrap().mean(), 0.0);
    }
}
