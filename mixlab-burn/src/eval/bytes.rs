//! Bytes of text that tokens stand for.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::data::bpb::{ByteTables, TableError};
use crate::data::prepared::{Prepared, PreparedError};

/// Tables of bytes per token, and how far they are from the true bytes of the validation text.
#[derive(Clone, Debug)]
pub struct TrueBytes {
    tables: ByteTables,
    correction: f64,
}

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BytesError {
    /// The tables cannot be used.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// What `prepare` wrote beside them cannot be used.
    #[error(transparent)]
    Prepared(#[from] PreparedError),
}

impl TrueBytes {
    /// The tables in `folder`, and what `prepared.json` there knows of the validation text.
    ///
    /// # Errors
    /// If a table is missing or has fewer than `vocab_size` entries, or `prepared.json` is damaged.
    pub fn read(folder: &Path, vocab_size: usize) -> Result<Self, BytesError> {
        let tables = ByteTables::read(folder, vocab_size)?;
        let correction = Prepared::read(folder)?.map_or(1.0, |known| known.val.correction());
        Ok(Self { tables, correction })
    }

    /// The tables of `folder` if it is given; else those beside the first of `shards` that has some,
    /// or those in `data`, where mixlab 0.10.1 looks. `None` if there are none.
    ///
    /// # Errors
    /// As [`TrueBytes::read`], for tables that are there or were asked for.
    pub fn find(
        folder: Option<&Path>,
        shards: &[PathBuf],
        vocab_size: usize,
    ) -> Result<Option<Self>, BytesError> {
        if let Some(folder) = folder {
            return Self::read(folder, vocab_size).map(Some);
        }
        let beside = shards.iter().filter_map(|shard| shard.parent());
        let mut folders = beside.chain([Path::new("data")]);
        let found = folders.find(|folder| ByteTables::is_in(folder));
        found.map(|folder| Self::read(folder, vocab_size)).transpose()
    }

    /// Bytes of the tokens `range` of `tokens`. Ids outside of the tables stand for none.
    pub fn of(&self, tokens: &[u16], range: Range<usize>) -> f64 {
        let bytes = |at: usize| self.tables.bytes(tokens[at - 1], tokens[at]).unwrap_or(0);
        range.map(|at| u64::from(bytes(at))).sum::<u64>() as f64 * self.correction
    }
}
