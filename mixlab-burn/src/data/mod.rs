//! From text to batches.
//!
//! ```text
//! text ─ prepare ─► shards (*.bin) ─ pattern ─► shard ─► stream ─► batch ─ prefetch ─► the loop
//! demo ───────────►       └► bpb tables, prepared.json
//! text ─ text ─► tokens ─ a model ─► tokens ─ text ─► text
//!                              └► logprobs · tensors (files)
//! ```
//!
//! Order and shuffling follow mixlab 0.10.1 token by token: the same shards, seed and sizes give
//! the same batches.

pub mod batch;
#[cfg(feature = "data")]
pub mod bpb;
#[cfg(feature = "synthetic")]
pub mod demo;
pub(crate) mod format;
#[cfg(any(feature = "data", feature = "train"))]
pub mod identity;
#[cfg(feature = "data")]
pub mod logprobs;
pub mod pattern;
mod position;
pub mod prefetch;
#[cfg(feature = "data")]
pub mod prepare;
#[cfg(feature = "data")]
pub mod prepared;
pub mod shard;
pub mod stream;
#[cfg(feature = "data")]
pub mod tensors;
#[cfg(feature = "data")]
pub mod text;

pub use batch::{Batch, Batches, Loader, LoaderConfig};
pub use position::Position;
pub use prefetch::Prefetch;

use std::path::PathBuf;

/// The largest vocabulary of a model: as many as there are ids of 16 bits.
pub const MAX_VOCAB: usize = 1 << 16;

/// The largest vocabulary that text is prepared for, as in the original: the last id stays free.
pub const MAX_PREPARED_VOCAB: usize = MAX_VOCAB - 1;

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A pattern names no shards.
    #[error(transparent)]
    Pattern(#[from] pattern::PatternError),
    /// A shard cannot be used.
    #[error(transparent)]
    Shard(#[from] shard::ShardError),
    /// There are shards, but no tokens.
    #[error(
        "all `{shards}` matching shards are empty, first `{}`\n  hint: prepare more text",
        first.display()
    )]
    Empty {
        /// How many shards matched.
        shards: usize,
        /// The first of them.
        first: PathBuf,
    },
    /// A batch is not a whole number of rows.
    #[error(
        "`batch_tokens` is `{batch_tokens}` and `seq_len` is `{seq_len}`, but a batch needs one or more whole rows\n  hint: make `batch_tokens` a multiple of `seq_len`"
    )]
    BatchShape {
        /// Tokens in a batch.
        batch_tokens: usize,
        /// Tokens in a row.
        seq_len: usize,
    },
    /// The validation shards hold less than one row and its successor.
    #[error(
        "validation shards `{pattern}` hold `{tokens}` tokens, but a row of `seq_len` `{seq_len}` needs one more than that\n  hint: prepare more text or a larger `--val-split`"
    )]
    ShortValidation {
        /// The validation patterns.
        pattern: String,
        /// Tokens in all of their shards.
        tokens: usize,
        /// Tokens in a row.
        seq_len: usize,
    },
    /// A batch has not as many tokens as it says, or ids outside the vocabulary.
    #[error("a batch of `{batch}` rows of `{seq}` tokens {problem}")]
    Batch {
        /// Rows.
        batch: usize,
        /// Tokens in a row.
        seq: usize,
        /// What is wrong with it, and the way out.
        problem: String,
    },
    /// A loader cannot go on where it stood, for the shards are others.
    #[error(
        "the data stood at token `{}` of a shard of `{}` tokens, one of `{}`, but there are now `{}` shards, and this one has `{}` tokens\n  hint: resume with the shards, seed and order that the run began with",
        then.token, then.shard_tokens, then.shards, now.shards, now.shard_tokens
    )]
    OtherShards {
        /// Where the loader stood.
        then: Position,
        /// The same place now.
        now: Position,
    },
    /// The source of batches has ended.
    #[error("there are no more batches\n  hint: give more data, or set fewer `training.steps`")]
    Exhausted,
    /// A batch was asked for after the loader had failed.
    #[error("the loader has stopped after an earlier error\n  hint: look for that error")]
    Stopped,
}
