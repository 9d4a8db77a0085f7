//! Where a loader stands, as data.

use std::sync::Arc;

use crate::random::Generator;

/// Where a loader stands among its shards: enough to go on from there without reading what comes
/// before, and to notice other shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The generator as it was when the current shard was begun.
    pub(crate) generator: Arc<Generator>,
    /// Shards begun before the current one, each as often as it was.
    pub(crate) visit: usize,
    /// Next token of the current shard, counted in the order of reading.
    pub(crate) token: usize,
    /// How many shards there are.
    pub(crate) shards: usize,
    /// Tokens of the current shard.
    pub(crate) shard_tokens: usize,
}
