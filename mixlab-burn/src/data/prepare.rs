//! From text to shards, with a tokenizer that is trained on the text or supplied.
//!
//! Text becomes one sequence of token ids. Its tail is for validation. The training part is cut
//! into shards, and within each shard blocks of 2048 tokens are shuffled.

mod error;
mod options;
mod output;
mod shuffle;
mod source;
mod tokens;

use std::io::Write;
use std::path::PathBuf;

use tokenizers::Tokenizer;

pub use error::PrepareError;
pub use options::PrepareOptions;
pub use output::{ShardReport, Split};
use source::Source;

use super::bpb::ByteTables;
use crate::files::replace_file;

/// What was prepared.
#[derive(Debug, Clone)]
pub struct PrepareReport {
    /// Text files and JSONL objects that were read.
    pub segments: usize,
    /// JSONL objects without the text field.
    pub skipped: usize,
    /// UTF-8 bytes of the text.
    pub bytes: u64,
    /// The tokenizer that was written or supplied.
    pub tokenizer: PathBuf,
    /// Whether the tokenizer was trained here.
    pub trained: bool,
    /// Entries of the tokenizer; may be less or more than asked for.
    pub vocab_size: usize,
    /// The shards.
    pub split: Split,
}

impl PrepareReport {
    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.split.train_tokens() + self.split.val_tokens()
    }
}

/// Prepares text: shards, tokenizer (if trained) and tables of bytes per token.
///
/// # Errors
/// If an option cannot work, the input cannot be read or has no tokens, or the output cannot be
/// written.
pub fn prepare(options: &PrepareOptions) -> Result<PrepareReport, PrepareError> {
    options.check()?;
    let source = Source::open(&options.input, &options.text_field)?;
    let output = &options.output;
    std::fs::create_dir_all(output).map_err(PrepareError::io(output))?;
    let (tokenizer, path) = obtain_tokenizer(options, &source)?;
    let text = encode(&source, &tokenizer)?;
    if text.ids.is_empty() {
        return Err(PrepareError::NoTokens {
            input: options.input.clone(),
            skipped: text.skipped,
            text_field: options.text_field.clone(),
        });
    }
    let split = output::write(&text.ids, options)?;
    ByteTables::of_tokenizer(&tokenizer, options.vocab_size).write(output)?;
    Ok(PrepareReport {
        segments: text.segments,
        skipped: text.skipped,
        bytes: text.bytes,
        tokenizer: path,
        trained: options.tokenizer.is_none(),
        vocab_size: tokenizer.get_vocab_size(true),
        split,
    })
}

fn obtain_tokenizer(
    options: &PrepareOptions,
    source: &Source,
) -> Result<(Tokenizer, PathBuf), PrepareError> {
    if let Some(path) = &options.tokenizer {
        return Ok((tokens::load(path)?, path.clone()));
    }
    let mut failed = None;
    let texts = source.segments().map_while(|segment| {
        let read = segment.map_err(|error| failed = Some(error));
        read.ok()
    });
    let tokenizer = tokens::train(texts.flatten(), options)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let path = options.output.join("tokenizer.json");
    let json = tokenizer.to_string(true).map_err(PrepareError::Tokenizer)?;
    replace_file(&path, |file| file.write_all(json.as_bytes())).map_err(PrepareError::io(&path))?;
    Ok((tokenizer, path))
}

#[derive(Default)]
struct Encoded {
    ids: Vec<u16>,
    segments: usize,
    skipped: usize,
    bytes: u64,
}

fn encode(source: &Source, tokenizer: &Tokenizer) -> Result<Encoded, PrepareError> {
    let mut encoder = tokens::Encoder::new(tokenizer);
    let mut text = Encoded::default();
    for segment in source.segments() {
        let Some(segment) = segment? else {
            text.skipped += 1;
            continue;
        };
        text.segments += 1;
        text.bytes += segment.len() as u64;
        encoder.add(segment)?;
    }
    text.ids = encoder.finish()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::Shard;
    use std::fs;

    const TEXT: &str = "The cat sat on the mat.\nThe dog sat on the cat.\n";

    /// A text file of `text`, and options to prepare it in the same folder.
    fn options(text: &str) -> (tempfile::TempDir, PrepareOptions) {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input.txt");
        fs::write(&input, text).unwrap();
        let output = folder.path().join("out/deep");
        let options = PrepareOptions { vocab_size: 24, ..PrepareOptions::new(input, output) };
        (folder, options)
    }

    fn ids(shards: &[ShardReport]) -> Vec<u16> {
        let read = |report: &ShardReport| {
            let shard = Shard::open(&report.path).unwrap();
            shard.tokens(0..shard.len()).collect::<Vec<_>>()
        };
        shards.iter().flat_map(read).collect()
    }

    #[test]
    fn shards_hold_the_ids_of_the_whole_text_in_order() {
        let (_folder, options) = options(&TEXT.repeat(20));
        let report = prepare(&options).unwrap();
        let tokenizer = Tokenizer::from_file(&report.tokenizer).unwrap();
        let expected = tokenizer.encode_fast(TEXT.repeat(20), false).unwrap();
        let found = [ids(&report.split.train), ids(&report.split.val)].concat();
        assert!(found.iter().map(|id| u32::from(*id)).eq(expected.get_ids().iter().copied()));
        assert_eq!(report.tokens(), found.len());
        assert_eq!(report.split.val_tokens(), found.len() / 10);
        assert_eq!((report.segments, report.bytes), (1, 960));
        assert_eq!((report.trained, report.vocab_size), (true, 24));
    }

    #[test]
    fn the_bytes_of_all_tokens_are_the_bytes_of_the_text() {
        let (_folder, options) = options(&TEXT.repeat(20));
        let report = prepare(&options).unwrap();
        let tables = ByteTables::read(&options.output, 24).unwrap();
        let found = [ids(&report.split.train), ids(&report.split.val)].concat();
        let first = tables.bytes(found[0], found[0]).unwrap();
        let rest = found.windows(2).map(|pair| tables.bytes(pair[0], pair[1]).unwrap());
        assert_eq!(u64::from(first + rest.sum::<u32>()), report.bytes);
    }

    #[test]
    fn a_supplied_tokenizer_is_used_and_not_copied() {
        let (_folder, options) = options(TEXT);
        let trained = prepare(&options).unwrap();
        let again = PrepareOptions {
            output: options.output.join("again"),
            tokenizer: Some(trained.tokenizer.clone()),
            ..options
        };
        let report = prepare(&again).unwrap();
        assert_eq!(ids(&report.split.train), ids(&trained.split.train));
        assert!(!report.trained && !again.output.join("tokenizer.json").exists());
        assert!(ByteTables::read(&again.output, 24).is_ok());
    }

    #[test]
    fn options_that_cannot_work_are_refused_before_anything_is_written() {
        let (_folder, good) = options(TEXT);
        let refused = |change: &dyn Fn(&mut PrepareOptions)| {
            let mut options = good.clone();
            change(&mut options);
            let error = prepare(&options).unwrap_err();
            assert!(!good.output.exists());
            error.to_string()
        };
        assert!(refused(&|o| o.vocab_size = 65_536).contains("`--vocab-size` is `65536`"));
        assert!(refused(&|o| o.vocab_size = 0).contains("--vocab-size"));
        assert!(refused(&|o| o.val_split = 1.0).contains("`--val-split` is `1`"));
        assert!(refused(&|o| o.val_split = f64::NAN).contains("`--val-split` is `NaN`"));
        assert!(refused(&|o| o.tokens_per_shard = 0).contains("--tokens-per-shard"));
    }

    #[test]
    fn text_without_tokens_is_an_error() {
        let (folder, good) = options("");
        assert!(matches!(prepare(&good), Err(PrepareError::NoTokens { .. })));
        let input = folder.path().join("x.jsonl");
        fs::write(&input, "{\"content\": \"a\"}\n").unwrap();
        let error = prepare(&PrepareOptions { input, ..good }).unwrap_err().to_string();
        assert!(error.contains("`1` JSONL objects lack the field `text`"), "{error}");
    }

    #[test]
    fn a_bad_line_stops_training_with_its_place() {
        let (folder, good) = options("");
        let input = folder.path().join("x.jsonl");
        fs::write(&input, "{\"text\": \"a\"}\n{\"text\"\n").unwrap();
        let error = prepare(&PrepareOptions { input, ..good }).unwrap_err();
        assert!(matches!(error, PrepareError::Json { line: 2, .. }));
    }
}
