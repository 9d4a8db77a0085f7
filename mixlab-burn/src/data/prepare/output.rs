//! The split into training and validation, and their shard files.

use std::path::{Path, PathBuf};

use super::shuffle::BlockShuffle;
use super::{PrepareError, PrepareOptions};
use crate::data::shard::write_tokens;

/// A shard that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardReport {
    /// Where it lies.
    pub path: PathBuf,
    /// How many tokens it holds.
    pub tokens: usize,
}

/// The shards that were written.
#[derive(Debug, Clone)]
pub struct Split {
    /// Training shards.
    pub train: Vec<ShardReport>,
    /// Validation shards.
    pub val: Vec<ShardReport>,
}

impl Split {
    /// Tokens for training.
    pub fn train_tokens(&self) -> usize {
        self.train.iter().map(|shard| shard.tokens).sum()
    }

    /// Tokens for validation.
    pub fn val_tokens(&self) -> usize {
        self.val.iter().map(|shard| shard.tokens).sum()
    }
}

/// Writes the shards of `ids` into `folder`: the last part is for validation, at least one token.
/// They are reported as they will lie in the output folder.
pub(super) fn write(
    ids: &[[u8; 2]],
    folder: &Path,
    options: &PrepareOptions,
) -> Result<Split, PrepareError> {
    let held_out = (ids.len() as f64 * options.val_split) as usize;
    let (train, val) = ids.split_at(ids.len().saturating_sub(held_out.max(1)));
    let shuffle = options.shuffle.then(BlockShuffle::new);
    Ok(Split {
        train: write_shards("train", train, folder, options, shuffle)?,
        val: write_shards("val", val, folder, options, None)?,
    })
}

fn write_shards(
    name: &str,
    ids: &[[u8; 2]],
    folder: &Path,
    options: &PrepareOptions,
    mut shuffle: Option<BlockShuffle>,
) -> Result<Vec<ShardReport>, PrepareError> {
    let count = ids.len().div_ceil(options.tokens_per_shard).max(1);
    let mut written = Vec::with_capacity(count);
    let mut parts = ids.chunks(options.tokens_per_shard);
    for index in 0..count {
        let part = parts.next().unwrap_or_default();
        let name = format!("{name}_{index:05}.bin");
        let path = folder.join(&name);
        let token = |place: usize| u16::from_le_bytes(part[place]);
        match &mut shuffle {
            Some(shuffle) => write_tokens(&path, shuffle.places(part.len()).map(token))?,
            None => write_tokens(&path, (0..part.len()).map(token))?,
        }
        written.push(ShardReport { path: options.output.join(name), tokens: part.len() });
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::{Layout, Shard};

    fn split(tokens: u16, val_split: f64, tokens_per_shard: usize) -> (tempfile::TempDir, Split) {
        let folder = tempfile::tempdir().unwrap();
        let options = PrepareOptions {
            val_split,
            tokens_per_shard,
            ..PrepareOptions::new("", folder.path())
        };
        let ids: Vec<_> = (0..tokens).map(u16::to_le_bytes).collect();
        let split = write(&ids, folder.path(), &options).unwrap();
        (folder, split)
    }

    fn read(report: &ShardReport) -> Vec<u16> {
        let shard = Shard::open(&report.path, Layout::Header).unwrap();
        shard.read().unwrap()
    }

    #[test]
    fn the_tail_is_for_validation_and_shards_are_numbered() {
        let (_folder, split) = split(1_009, 0.1, 400);
        let sizes = |shards: &[ShardReport]| shards.iter().map(|s| s.tokens).collect::<Vec<_>>();
        assert_eq!(sizes(&split.train), [400, 400, 109]);
        assert_eq!(sizes(&split.val), [100]);
        assert_eq!(read(&split.val[0]), (909..1_009).collect::<Vec<_>>());
        assert!(split.train[2].path.ends_with("train_00002.bin"));
    }

    #[test]
    fn a_split_of_zero_still_keeps_one_token_for_validation() {
        let (_folder, split) = split(10, 0.0, 100);
        assert_eq!((split.train_tokens(), split.val_tokens()), (9, 1));
    }

    #[test]
    fn a_single_token_leaves_an_empty_training_shard() {
        let (_folder, split) = split(1, 0.5, 100);
        assert!(read(&split.train[0]).is_empty());
        assert_eq!(read(&split.val[0]), [0]);
    }

    #[test]
    fn training_shards_are_shuffled_in_blocks_by_one_stream_and_validation_is_not() {
        let (_folder, split) = split(40_000, 0.5, 9 * 2048 + 5);
        let blocks = |ids: Vec<u16>| ids.iter().step_by(2048).map(|t| t / 2048).collect::<Vec<_>>();
        assert_eq!(blocks(read(&split.train[0]))[..9], [3, 0, 7, 2, 4, 6, 1, 5, 8]);
        let val = [read(&split.val[0]), read(&split.val[1])].concat();
        assert_eq!(val, (20_000..40_000).collect::<Vec<_>>());
    }
}
