//! One endless stream of tokens from many shards.
//!
//! The files are shuffled once. Within a file whole chunks of tokens are shuffled, anew each time
//! the file comes round, so the text inside a chunk stays readable.
//!
//! Where a stream stands is little, however long it has run: the shard, the place in it, and the
//! generator before the order of the shard's chunks was drawn.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::shard::{Layout, Reader, Shard, check_vocabulary};
use super::{DataError, Position};
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
    /// What stands before the tokens of each shard.
    pub layout: Layout,
}

/// The endless stream.
pub struct TokenStream {
    config: StreamConfig,
    generator: Generator,
    /// Shards in the order of reading.
    shards: Vec<Shard>,
    /// The current one.
    reader: Option<Reader>,
    /// Shards begun before the current one.
    visit: usize,
    /// The generator as it was when the current shard was begun.
    begun: Arc<Generator>,
    /// Which chunk of the current shard comes when.
    order: Vec<usize>,
    /// Next token of the current shard, counted in the order of reading.
    position: usize,
}

impl TokenStream {
    /// Opens the shards (sorted paths), reads all of them once to check their ids, and goes to the
    /// first token.
    ///
    /// # Errors
    /// If a shard cannot be used, has an id outside the vocabulary, or all are empty.
    ///
    /// # Panics
    /// If `config.chunk` is 0.
    pub fn open(paths: &[PathBuf], config: StreamConfig) -> Result<Self, DataError> {
        let mut stream = Self::shuffled(paths, config)?;
        stream.enter(0)?;
        stream.position = stream.random_place();
        Ok(stream)
    }

    /// Opens and checks the shards and goes to where a stream over them stood, in the time that it
    /// takes to begin one shard.
    ///
    /// # Errors
    /// As [`Self::open`], and if these cannot be the shards that the stream read.
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn resume(
        paths: &[PathBuf],
        config: StreamConfig,
        position: &Position,
    ) -> Result<Self, DataError> {
        let mut stream = Self::shuffled(paths, config)?;
        stream.generator = Generator::clone(&position.generator);
        stream.enter(position.visit)?;
        if position.visit == 0 {
            stream.random_place();
        }
        stream.position = position.token;
        let (now, then) = (stream.position(), position);
        if (now.shards, now.shard_tokens) != (then.shards, then.shard_tokens)
            || then.token > then.shard_tokens
        {
            return Err(DataError::OtherShards { then: then.clone(), now });
        }
        Ok(stream)
    }

    /// Where the stream stands.
    pub fn position(&self) -> Position {
        Position {
            generator: self.begun.clone(),
            visit: self.visit,
            token: self.position,
            shards: self.shards.len(),
            shard_tokens: self.shard().len(),
        }
    }

    /// The shards in their order of reading; none is begun.
    fn shuffled(paths: &[PathBuf], config: StreamConfig) -> Result<Self, DataError> {
        assert!(config.chunk > 0, "a chunk has at least one token");
        let shards = paths.iter().map(|path| Shard::open(path, config.layout));
        let mut shards = shards.collect::<Result<Vec<_>, _>>()?;
        if shards.iter().all(Shard::is_empty) {
            return Err(DataError::Empty {
                shards: shards.len(),
                first: paths.first().cloned().unwrap_or_default(),
            });
        }
        check_vocabulary(&shards, config.vocab_size)?;
        let mut generator = Generator::new(config.seed);
        generator.shuffle(shards.len(), |i, j| shards.swap(i, j));
        let begun = Arc::new(generator.clone());
        let (reader, order) = (None, Vec::new());
        Ok(Self { config, generator, shards, reader, visit: 0, begun, order, position: 0 })
    }

    /// Draws where in the first shard the stream starts.
    fn random_place(&mut self) -> usize {
        let length = self.shard().len();
        if length > LONG_SHARD { self.generator.intn(length as u64 / 2) as usize } else { 0 }
    }

    fn shard(&self) -> &Shard {
        &self.shards[self.visit % self.shards.len()]
    }

    /// Goes to the beginning of the shard of this visit and draws a new order of its chunks.
    fn enter(&mut self, visit: usize) -> Result<(), DataError> {
        let shard = &self.shards[visit % self.shards.len()];
        self.reader = Some(shard.reader()?);
        let begun = Arc::new(self.generator.clone());
        let mut order: Vec<_> = (0..shard.len() / self.config.chunk).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.generator.intn(i as u64 + 1) as usize);
        }
        (self.visit, self.begun, self.order, self.position) = (visit, begun, order, 0);
        Ok(())
    }

    /// The next tokens that lie side by side in the current shard: at most `most`, at least one.
    fn next_run(&mut self, most: usize) -> Result<Range<usize>, DataError> {
        while self.position == self.shard().len() {
            self.enter(self.visit + 1)?;
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
    /// If a shard cannot be read any more, or has become another one.
    pub fn read(&mut self, count: usize) -> Result<Vec<u16>, DataError> {
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let run = self.next_run(count - tokens.len())?;
            let reader = self.reader.as_mut().expect("a shard has been begun");
            reader.read(run, &mut tokens)?;
        }
        Ok(tokens)
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
        // Stays: the stream opens each shard when it comes to it.
        let folder = tempfile::tempdir().unwrap().keep();
        let config = StreamConfig { chunk, seed: 42, vocab_size: 60_000, layout: Layout::Header };
        TokenStream::open(&write(&folder, shards), config)
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
    fn a_stream_goes_on_from_its_position() {
        let folder = tempfile::tempdir().unwrap();
        let paths = write(folder.path(), &three_files());
        let config =
            StreamConfig { chunk: 128, seed: 42, vocab_size: 60_000, layout: Layout::Header };
        let mut stream = TokenStream::open(&paths, config).unwrap();
        // At the start, within the first shard, and in later rounds.
        for count in [0, 700, 50_000, 3] {
            stream.read(count).unwrap();
            let mut resumed = TokenStream::resume(&paths, config, &stream.position()).unwrap();
            assert_eq!(resumed.position(), stream.position());
            let ahead = resumed.read(40_000).unwrap();
            assert_eq!(stream.read(40_000).unwrap(), ahead);
        }
    }

    #[test]
    fn a_position_in_other_shards_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let paths = write(folder.path(), &[vec![1; 40], vec![2; 40], vec![3; 50]]);
        let config = StreamConfig { chunk: 4, seed: 1, vocab_size: 10, layout: Layout::Header };
        let mut stream = TokenStream::open(&paths, config).unwrap();
        stream.read(35).unwrap();
        let position = stream.position();
        assert!(TokenStream::resume(&paths, config, &position).is_ok());
        let error = |paths: &[PathBuf]| {
            let resumed = TokenStream::resume(paths, config, &position);
            resumed.err().expect("other shards").to_string()
        };
        let fewer = error(&paths[..2]);
        assert!(fewer.contains("of `3`") && fewer.contains("hint: "), "{fewer}");
        let shorter = write(folder.path(), &[vec![1; 30], vec![2; 30], vec![3; 30]]);
        let shorter = error(&shorter);
        assert!(shorter.contains("`35`") && shorter.contains("`30`"), "{shorter}");
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
    fn an_id_outside_the_vocabulary_is_found_before_the_first_token_is_read() {
        let error = open(&[vec![1; 50], vec![2; 50], vec![60_000]], 4).err().unwrap();
        assert!(error.to_string().contains("`vocab_size` is `60000`"));
    }
}
