//! The split into training and validation, and their shard files.

use std::path::{Path, PathBuf};

use super::shuffle::BlockShuffle;
use super::{PrepareError, PrepareOptions};
use crate::data::shard::write_shard;

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
    /// Shards of an earlier run that the patterns match too: they should be removed.
    pub stale: Vec<PathBuf>,
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

/// Writes the shards: the last part is for validation, at least one token.
pub(super) fn write(ids: &[u16], options: &PrepareOptions) -> Result<Split, PrepareError> {
    let held_out = (ids.len() as f64 * options.val_split) as usize;
    let (train, val) = ids.split_at(ids.len().saturating_sub(held_out.max(1)));
    let shuffle = options.shuffle.then(BlockShuffle::new);
    let train = write_shards("train", train, options, shuffle)?;
    let val = write_shards("val", val, options, None)?;
    let mut stale = later_shards(&options.output, "train", train.len());
    stale.extend(later_shards(&options.output, "val", val.len()));
    Ok(Split { train, val, stale })
}

fn shard_path(folder: &Path, name: &str, index: usize) -> PathBuf {
    folder.join(format!("{name}_{index:05}.bin"))
}

fn write_shards(
    name: &str,
    ids: &[u16],
    options: &PrepareOptions,
    mut shuffle: Option<BlockShuffle>,
) -> Result<Vec<ShardReport>, PrepareError> {
    let count = ids.len().div_ceil(options.tokens_per_shard).max(1);
    let mut written = Vec::with_capacity(count);
    let mut parts = ids.chunks(options.tokens_per_shard);
    for index in 0..count {
        let part = parts.next().unwrap_or_default();
        let path = shard_path(&options.output, name, index);
        match &mut shuffle {
            Some(shuffle) => write_shard(&path, &shuffle.apply(part))?,
            None => write_shard(&path, part)?,
        }
        let tokens = part.len();
        written.push(ShardReport { path, tokens });
    }
    Ok(written)
}

/// Shards with the numbers that follow, without a gap.
fn later_shards(folder: &Path, name: &str, first: usize) -> Vec<PathBuf> {
    let paths = (first..).map(|index| shard_path(folder, name, index));
    paths.take_while(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::Shard;

    fn split(tokens: u16, val_split: f64, tokens_per_shard: usize) -> (tempfile::TempDir, Split) {
        let folder = tempfile::tempdir().unwrap();
        let options = PrepareOptions {
            val_split,
            tokens_per_shard,
            ..PrepareOptions::new("", folder.path())
        };
        let ids: Vec<_> = (0..tokens).collect();
        let split = write(&ids, &options).unwrap();
        (folder, split)
    }

    fn read(report: &ShardReport) -> Vec<u16> {
        let shard = Shard::open(&report.path).unwrap();
        shard.tokens(0..shard.len()).collect()
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

    #[test]
    fn shards_of_an_earlier_larger_run_are_reported() {
        let (folder, _) = split(100, 0.5, 10);
        let options =
            PrepareOptions { tokens_per_shard: 20, ..PrepareOptions::new("", folder.path()) };
        let second = write(&[0; 50], &options).unwrap();
        let names: Vec<_> = second.stale.iter().map(|p| p.file_name().unwrap()).collect();
        let expected = ["train_00003.bin", "train_00004.bin", "val_00001.bin"];
        assert_eq!(names[..3], expected);
        assert_eq!(names.len(), 6);
    }
}
