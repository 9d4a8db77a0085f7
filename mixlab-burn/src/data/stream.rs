//! One endless stream of tokens from many shards.
//!
//! The files are shuffled once. Within a file whole chunks of tokens are shuffled, anew each time
//! the file comes round, so the text inside a chunk stays readable.

use std::ops::Range;
use std::path::PathBuf;

use super::DataError;
use super::shard::Shard;
use crate::random::Generator;

/// Shards longer than this begin at a random place.
const LONG_SHARD: usize = 10_000;

/// How a stream is ordered and checked.
#[derive(Debug, Clone, Copy)]
pub struct StreamConfig {
    /// Tokens that are kept together, > 0.
    pub chunk: usize,
    /// Seed of the order.
    pub seed: i64,
    /// Every token must be below this.
    pub vocab_size: usize,
}

/// The endless stream.
pub struct TokenStream {
    config: StreamConfig,
    generator: Generator,
    /// Shards in the order of reading, and whether their ids have been checked.
    shards: Vec<(Shard, bool)>,
    current: usize,
    /// Which chunk of the current shard comes when.
    order: Vec<usize>,
    /// Next token of the current shard, counted in the order of reading.
    position: usize,
}

impl TokenStream {
    /// Opens the shards (sorted paths) and goes to the first token.
    ///
    /// # Errors
    /// If a shard cannot be used or all are empty.
    ///
    /// # Panics
    /// If `config.chunk` is 0.
    pub fn open(paths: &[PathBuf], config: StreamConfig) -> Result<Self, DataError> {
        assert!(config.chunk > 0, "a chunk has at least one token");
        let shards = paths.iter().map(|path| Ok((Shard::open(path)?, false)));
        let shards = shards.collect::<Result<Vec<_>, DataError>>()?;
        if shards.iter().all(|(shard, _)| shard.is_empty()) {
            return Err(DataError::Empty {
                shards: shards.len(),
                first: paths.first().cloned().unwrap_or_default(),
            });
        }
        let mut stream = Self {
            config,
            generator: Generator::new(config.seed),
            shards,
            current: 0,
            order: Vec::new(),
            position: 0,
        };
        stream.start()?;
        Ok(stream)
    }

    fn start(&mut self) -> Result<(), DataError> {
        let (generator, shards) = (&mut self.generator, &mut self.shards);
        generator.shuffle(shards.len(), |i, j| shards.swap(i, j));
        self.enter(0)?;
        let length = self.shard().len();
        if length > LONG_SHARD {
            self.position = self.generator.intn(length as u64 / 2) as usize;
        }
        Ok(())
    }

    fn shard(&self) -> &Shard {
        &self.shards[self.current].0
    }

    /// Goes to the beginning of a shard and draws a new order of its chunks.
    fn enter(&mut self, index: usize) -> Result<(), DataError> {
        let (shard, checked) = &mut self.shards[index];
        if !*checked {
            shard.check_vocabulary(self.config.vocab_size)?;
            *checked = true;
        }
        let mut order: Vec<_> = (0..shard.len() / self.config.chunk).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.generator.intn(i as u64 + 1) as usize);
        }
        self.current = index;
        self.order = order;
        self.position = 0;
        Ok(())
    }

    /// The next tokens that lie side by side in the current shard: at most `most`, at least one.
    fn next_run(&mut self, most: usize) -> Result<Range<usize>, DataError> {
        while self.position == self.shard().len() {
            self.enter((self.current + 1) % self.shards.len())?;
        }
        let chunk = self.config.chunk;
        let run = match self.order.get(self.position / chunk) {
            Some(shuffled) => {
                let offset = self.position % chunk;
                shuffled * chunk + offset..(shuffled + 1) * chunk
            }
            None => self.position..self.shard().len(),
        };
        let length = run.len().min(most);
        self.position += length;
        Ok(run.start..run.start + length)
    }

    /// The next `count` tokens.
    ///
    /// # Errors
    /// If a shard that is reached for the first time has an id outside the vocabulary.
    pub fn read(&mut self, count: usize) -> Result<Vec<u16>, DataError> {
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let run = self.next_run(count - tokens.len())?;
            tokens.extend(self.shard().tokens(run));
        }
        Ok(tokens)
    }

    /// Leaves out the next `count` tokens without reading them.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn skip(&mut self, mut count: usize) -> Result<(), DataError> {
        while count > 0 {
            count -= self.next_run(count)?.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::write_shard;
    use std::path::Path;

    fn write(folder: &Path, shards: &[Vec<u16>]) -> Vec<PathBuf> {
        let files = shards.iter().enumerate().map(|(i, tokens)| {
            let path = folder.join(format!("train_{i:05}.bin"));
            write_shard(&path, tokens).unwrap();
            path
        });
        files.collect()
    }

    fn open(shards: &[Vec<u16>], chunk: usize) -> Result<TokenStream, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let config = StreamConfig { chunk, seed: 42, vocab_size: 60_000 };
        TokenStream::open(&write(folder.path(), shards), config)
    }

    /// Three files of 12000 tokens; token i of file f is 20000 f + i.
    fn three_files() -> Vec<Vec<u16>> {
        let file = |f: u16| (0..12_000).map(|i| 20_000 * f + i).collect();
        (0..3).map(file).collect()
    }

    #[test]
    fn the_stream_is_that_of_the_original() {
        let mut stream = open(&three_files(), 128).unwrap();
        let mut batch = || stream.read(1025).unwrap();
        let pick =
            |t: &[u16], places: &[usize]| -> Vec<u16> { places.iter().map(|i| t[*i]).collect() };
        let first = batch();
        let expected = [42_135, 49_686, 49_687, 50_966, 50_967];
        assert_eq!(pick(&first, &[0, 127, 128, 1023, 1024]), expected);
        assert_eq!(pick(&batch(), &[0, 127]), [50_968, 44_695]);
        assert_eq!(pick(&batch(), &[0, 127]), [40_729, 47_512]);
        let tenth = (3..=10).map(|_| batch()).last().unwrap();
        assert_eq!(pick(&tenth, &[0, 127, 1024]), [6_273, 10_880, 8_577]);
        let last = (11..=39).map(|_| batch()).last().unwrap();
        assert_eq!(pick(&last, &[0, 127, 1024]), [47_006, 42_909, 47_902]);
    }

    #[test]
    fn a_round_gives_every_token_once_and_keeps_chunks_whole() {
        let mut stream = open(&[(0..1003).collect()], 100).unwrap();
        let rounds = [(); 2].map(|()| stream.read(1003).unwrap());
        assert_ne!(rounds[0], rounds[1]);
        for round in rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..1003).collect::<Vec<_>>());
            for chunk in round.chunks(100) {
                let whole: Vec<_> = (chunk[0]..).take(chunk.len()).collect();
                assert_eq!(chunk, whole);
            }
            assert_eq!(round[1000..], [1000, 1001, 1002]);
        }
    }

    #[test]
    fn skipping_ends_where_reading_ends() {
        let mut read = open(&three_files(), 128).unwrap();
        let mut skipped = open(&three_files(), 128).unwrap();
        read.read(50_000).unwrap();
        skipped.skip(50_000).unwrap();
        assert_eq!(read.read(2_000).unwrap(), skipped.read(2_000).unwrap());
    }

    #[test]
    fn a_chunk_longer_than_the_shard_leaves_it_in_order() {
        let mut stream = open(&[vec![3, 1, 2]], 100).unwrap();
        assert_eq!(stream.read(7).unwrap(), [3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn empty_shards_are_passed_over() {
        let mut stream = open(&[vec![], vec![5], vec![]], 4).unwrap();
        assert_eq!(stream.read(3).unwrap(), [5, 5, 5]);
    }

    #[test]
    fn only_empty_shards_are_an_error() {
        let error = open(&[vec![], vec![]], 4).err().unwrap();
        assert!(matches!(error, DataError::Empty { shards: 2, .. }));
    }

    #[test]
    fn an_id_outside_the_vocabulary_stops_the_stream_before_it_is_read() {
        let mut stream = open(&[vec![1; 50], vec![60_000]], 4);
        let error = match &mut stream {
            Ok(stream) => stream.read(51).unwrap_err(),
            Err(_) => stream.err().unwrap(),
        };
        assert!(error.to_string().contains("`vocab_size` is `60000`"));
    }
}
