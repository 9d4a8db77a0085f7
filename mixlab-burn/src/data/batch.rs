//! Batches: B rows of T consecutive tokens, and for each token its successor.

use std::path::PathBuf;

use super::pattern::expand;
use super::shard::{Layout, Shard, check_vocabulary};
use super::stream::{StreamConfig, TokenStream};
use super::{DataError, Position};

/// Batches that are kept for validation during training.
pub const VALIDATION_BATCHES: usize = 10;

/// Inputs and targets of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Rows, B.
    pub batch: usize,
    /// Tokens in a row, T.
    pub seq: usize,
    /// Input tokens, `[B, T]`, row by row.
    pub x: Vec<i32>,
    /// The token after each input token, `[B, T]`.
    pub y: Vec<i32>,
    /// The token before each row, `[B]`: the last of the row before, −1 for the first row.
    pub prev: Vec<i32>,
}

impl Batch {
    /// Cuts `tokens` (B·T + 1 of them) into rows of `seq` tokens; all but the last are inputs.
    ///
    /// # Errors
    /// If that is not one or more whole rows.
    pub fn from_tokens(tokens: &[u16], seq: usize) -> Result<Self, DataError> {
        let pairs = tokens.len().saturating_sub(1);
        let batch = rows(pairs, seq)?;
        let numbers = |part: &[u16]| part.iter().map(|t| i32::from(*t)).collect::<Vec<_>>();
        let x = numbers(&tokens[..pairs]);
        let before = |row: usize| if row == 0 { -1 } else { x[row * seq - 1] };
        let prev = (0..batch).map(before).collect();
        Ok(Self { batch, seq, prev, y: numbers(&tokens[1..]), x })
    }

    /// The batch in at most `parts` parts of whole rows, as equal as they can be.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let rows = self.batch.div_ceil(parts.max(1)).max(1);
        let part = |first: usize| {
            let batch = rows.min(self.batch - first);
            let tokens = first * self.seq..(first + batch) * self.seq;
            Self {
                batch,
                seq: self.seq,
                x: self.x[tokens.clone()].to_vec(),
                y: self.y[tokens].to_vec(),
                prev: self.prev[first..first + batch].to_vec(),
            }
        };
        (0..self.batch).step_by(rows).map(part).collect()
    }

    /// Checks what a model of rows of `seq_len` tokens and `vocab` ids takes for granted.
    ///
    /// # Errors
    /// If there are no rows, rows of another length, more or fewer tokens than rows hold, or an id
    /// that no row of the embedding belongs to.
    pub fn check(&self, seq_len: usize, vocab: usize) -> Result<(), DataError> {
        let &Self { batch, seq, .. } = self;
        let fail = |problem| Err(DataError::Batch { batch, seq, problem });
        if batch == 0 || seq == 0 || seq != seq_len {
            return fail(format!("is none of the model's\n  hint: give rows of `{seq_len}`"));
        }
        let lengths = [self.x.len(), self.y.len(), self.prev.len()];
        if lengths != [batch * seq, batch * seq, batch] {
            let [x, y, prev] = lengths;
            return fail(format!(
                "has `{x}` inputs, `{y}` targets and `{prev}` tokens before its rows\n  hint: `x` and `y` have an id for each token, `prev` one for each row"
            ));
        }
        let outside = |id: &&i32| usize::try_from(**id).map_or(true, |id| id >= vocab);
        if let Some(id) = self.x.iter().chain(&self.y).find(outside) {
            return fail(format!(
                "has token id `{id}`, but `vocab_size` is `{vocab}`\n  hint: set `vocab_size` to the tokenizer's"
            ));
        }
        Ok(())
    }
}

/// Where training gets its batches: a [`Loader`], a [`Prefetch`](super::Prefetch), or any iterator
/// over batches or errors.
pub trait Batches {
    /// The next batch.
    ///
    /// # Errors
    /// If there is none.
    fn next_batch(&mut self) -> Result<Batch, DataError>;

    /// Where this stands after the last batch that it gave, if it can be resumed there.
    fn position(&self) -> Option<Position> {
        None
    }
}

impl<I: Iterator<Item = Result<Batch, DataError>>> Batches for I {
    fn next_batch(&mut self) -> Result<Batch, DataError> {
        self.next().unwrap_or(Err(DataError::Exhausted))
    }
}

fn rows(batch_tokens: usize, seq_len: usize) -> Result<usize, DataError> {
    if batch_tokens == 0 || seq_len == 0 || !batch_tokens.is_multiple_of(seq_len) {
        return Err(DataError::BatchShape { batch_tokens, seq_len });
    }
    Ok(batch_tokens / seq_len)
}

/// What a loader reads and how.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// Glob patterns of the shards.
    pub patterns: Vec<String>,
    /// Tokens in a batch, B·T.
    pub batch_tokens: usize,
    /// Tokens in a row, T.
    pub seq_len: usize,
    /// Tokens that shuffling keeps together; 0 means `seq_len`.
    pub chunk: usize,
    /// Seed of the order.
    pub seed: i64,
    /// Every token must be below this.
    pub vocab_size: usize,
    /// What stands before the tokens of each shard.
    pub layout: Layout,
}

/// An endless source of batches.
pub struct Loader {
    stream: TokenStream,
    batch_tokens: usize,
    seq_len: usize,
}

impl Loader {
    /// Opens the shards.
    ///
    /// # Errors
    /// If a batch is not a whole number of rows, no shard matches, or a shard cannot be used.
    pub fn new(config: &LoaderConfig) -> Result<Self, DataError> {
        Self::over(config, TokenStream::open)
    }

    /// Opens the shards where a loader of them stood.
    ///
    /// # Errors
    /// As [`Loader::new`], and if these cannot be the shards that the loader read.
    pub fn resume(config: &LoaderConfig, position: &Position) -> Result<Self, DataError> {
        Self::over(config, |paths, order| TokenStream::resume(paths, order, position))
    }

    fn over(
        config: &LoaderConfig,
        open: impl FnOnce(&[PathBuf], StreamConfig) -> Result<TokenStream, DataError>,
    ) -> Result<Self, DataError> {
        let &LoaderConfig { batch_tokens, seq_len, chunk, seed, vocab_size, layout, .. } = config;
        rows(batch_tokens, seq_len)?;
        let chunk = if chunk == 0 { seq_len } else { chunk };
        let order = StreamConfig { chunk, seed, vocab_size, layout };
        let stream = open(&expand(&config.patterns)?, order)?;
        Ok(Self { stream, batch_tokens, seq_len })
    }
}

impl Batches for Loader {
    /// The next batch. It takes B·T + 1 tokens: none of them comes again in the batch after.
    ///
    /// # Errors
    /// If a shard cannot be read any more, or has become another one.
    fn next_batch(&mut self) -> Result<Batch, DataError> {
        let tokens = self.stream.read(self.batch_tokens + 1)?;
        Batch::from_tokens(&tokens, self.seq_len)
    }

    fn position(&self) -> Option<Position> {
        Some(self.stream.position())
    }
}

/// The fixed validation set: the first [`VALIDATION_BATCHES`] batches of a fresh loader.
///
/// # Errors
/// As [`Loader::new`] and [`Loader::next_batch`].
pub fn validation_batches(config: &LoaderConfig) -> Result<Vec<Batch>, DataError> {
    let mut loader = Loader::new(config)?;
    (0..VALIDATION_BATCHES).map(|_| loader.next_batch()).collect()
}

/// All tokens of shards, in their order.
///
/// # Errors
/// If a shard cannot be used.
pub fn all_tokens(
    shards: &[PathBuf],
    vocab_size: usize,
    layout: Layout,
) -> Result<Vec<u16>, DataError> {
    let shards = shards.iter().map(|path| Shard::open(path, layout));
    let shards: Vec<_> = shards.collect::<Result<_, _>>()?;
    check_vocabulary(&shards, vocab_size)?;
    let mut tokens = Vec::new();
    for shard in &shards {
        shard.reader()?.read(0..shard.len(), &mut tokens)?;
    }
    Ok(tokens)
}

/// The full validation set: all shards in sorted order, cut to whole rows of `seq_len` tokens
/// and one more token, the last target.
///
/// # Errors
/// If no shard matches, a shard cannot be used, or there is not a single row.
pub fn full_validation(
    patterns: &[String],
    seq_len: usize,
    vocab_size: usize,
    layout: Layout,
) -> Result<Vec<u16>, DataError> {
    let mut tokens = all_tokens(&expand(patterns)?, vocab_size, layout)?;
    let pairs = tokens.len().saturating_sub(1);
    let whole = pairs.checked_div(seq_len).unwrap_or(0) * seq_len;
    if whole == 0 {
        return Err(DataError::ShortValidation {
            pattern: patterns.join(" "),
            tokens: tokens.len(),
            seq_len,
        });
    }
    tokens.truncate(whole + 1);
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Prefetch;
    use crate::data::shard::write_shard;

    /// A folder with two shards of 0..25 and 25..30, and a loader configuration for it.
    fn small() -> (tempfile::TempDir, LoaderConfig) {
        let folder = tempfile::tempdir().unwrap();
        for (name, tokens) in [("val_0.bin", 0..25), ("val_1.bin", 25..30)] {
            write_shard(&folder.path().join(name), &tokens.collect::<Vec<_>>()).unwrap();
        }
        let config = LoaderConfig {
            patterns: vec![format!("{}/val_*.bin", folder.path().display())],
            batch_tokens: 6,
            seq_len: 3,
            chunk: 0,
            seed: 1,
            vocab_size: 30,
            layout: Layout::Header,
        };
        (folder, config)
    }

    #[test]
    fn targets_are_successors_and_prev_is_the_token_before_the_row() {
        let batch = Batch::from_tokens(&[5, 6, 7, 8, 9, 10, 11], 2).unwrap();
        assert_eq!((batch.batch, batch.seq), (3, 2));
        assert_eq!(batch.x, [5, 6, 7, 8, 9, 10]);
        assert_eq!(batch.y, [6, 7, 8, 9, 10, 11]);
        assert_eq!(batch.prev, [-1, 6, 8]);
    }

    #[test]
    fn batches_of_broken_rows_are_refused() {
        let (_folder, config) = small();
        for (batch_tokens, seq_len) in [(0, 3), (6, 0), (7, 3), (2, 3)] {
            let config = LoaderConfig { batch_tokens, seq_len, ..config.clone() };
            let error = Loader::new(&config).err().unwrap();
            assert!(matches!(error, DataError::BatchShape { .. }), "{error}");
        }
    }

    #[test]
    fn small_shards_come_round_again_with_every_token() {
        let (_folder, config) = small();
        let batches = validation_batches(&config).unwrap();
        let tokens = batches.iter().flat_map(|b| b.x.iter().chain(b.y.last()));
        let mut rounds: Vec<_> = tokens.copied().take(60).collect();
        rounds.sort_unstable();
        let twice: Vec<_> = (0..30).flat_map(|token| [token; 2]).collect();
        assert_eq!(rounds, twice);
        assert_eq!(batches.len(), 10);
    }

    #[test]
    fn chunk_zero_means_rows() {
        let (_folder, config) = small();
        let rows = LoaderConfig { chunk: 3, ..config.clone() };
        assert_eq!(validation_batches(&config).unwrap(), validation_batches(&rows).unwrap());
    }

    #[test]
    fn a_loader_goes_on_from_the_position_of_another() {
        let (_folder, config) = small();
        let mut first = Loader::new(&config).unwrap();
        (0..7).for_each(|_| drop(first.next_batch().unwrap()));
        let mut resumed = Loader::resume(&config, &first.position().unwrap()).unwrap();
        let expected = &validation_batches(&config).unwrap()[7..];
        let rest: Vec<_> = (7..10).map(|_| resumed.next_batch().unwrap()).collect();
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_queue_stands_where_its_last_batch_ended() {
        let (_folder, config) = small();
        let mut loader = Loader::new(&config).unwrap();
        let mut queue = Prefetch::start(Loader::new(&config).unwrap());
        for _ in 0..9 {
            assert_eq!(queue.position(), loader.position());
            assert_eq!(queue.next_batch().unwrap(), loader.next_batch().unwrap());
        }
    }

    #[test]
    fn an_iterator_is_a_source_until_it_ends() {
        let batch = Batch::from_tokens(&[1, 2, 3], 2).unwrap();
        let mut source = [Ok(batch.clone())].into_iter();
        assert_eq!(source.next_batch().unwrap(), batch);
        assert!(matches!(source.next_batch(), Err(DataError::Exhausted)));
        assert_eq!(source.position(), None);
    }

    #[test]
    fn a_batch_that_does_not_fit_the_model_says_what_does() {
        let good = Batch::from_tokens(&[1, 2, 3, 4, 5], 2).unwrap();
        assert!(good.check(2, 6).is_ok());
        let error = |batch: Batch| batch.check(2, 6).unwrap_err().to_string();
        let short = error(Batch { x: vec![1; 3], ..good.clone() });
        assert!(short.contains("`3` inputs, `4` targets and `2` tokens before"), "{short}");
        let negative = error(Batch { y: vec![0, 1, -1, 2], ..good.clone() });
        assert!(negative.contains("token id `-1`, but `vocab_size` is `6`"), "{negative}");
        assert!(good.check(2, 5).is_err());
        let long = good.check(4, 6).unwrap_err().to_string();
        assert!(long.contains("`2` rows of `2` tokens") && long.contains("rows of `4`"), "{long}");
        assert!(
            error(Batch { batch: 0, x: vec![], y: vec![], prev: vec![], ..good }).contains("`0`")
        );
    }

    #[test]
    fn the_full_set_is_in_order_and_cut_to_whole_rows() {
        let (_folder, config) = small();
        let all = full_validation(&config.patterns, 4, 30, Layout::Header).unwrap();
        assert_eq!(all, (0..29).collect::<Vec<_>>());
        let row = full_validation(&config.patterns, 29, 30, Layout::Header).unwrap();
        assert_eq!(row.len(), 30);
        let error = full_validation(&config.patterns, 30, 30, Layout::Header).unwrap_err();
        assert!(matches!(error, DataError::ShortValidation { tokens: 30, .. }));
        let error = full_validation(&config.patterns, 4, 29, Layout::Header).unwrap_err();
        assert!(error.to_string().contains("id `29` at position `4`"));
    }
}
