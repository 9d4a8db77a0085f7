//! From text to shards, with a tokenizer that is trained on the text or supplied.
//!
//! Text becomes one sequence of token ids. Its tail is for validation. The training part is cut
//! into shards, and within each shard blocks of 2048 tokens are shuffled.

mod error;
mod event;
mod findings;
mod guard;
mod options;
mod output;
mod shuffle;
mod source;
mod stage;
mod tokens;

use std::io::Write;
use std::path::PathBuf;

pub use error::PrepareError;
pub use event::{Activity, Event, Finding, LeftOut, Listener, MoreThanText, Progress};
pub(super) use guard::guarded;
pub use options::PrepareOptions;
pub use output::{ShardReport, Split};
use source::Source;
pub use stage::BESIDE;
use stage::Stage;
use tokens::Encoded;
pub(super) use tokens::{Tokens, load};

use super::bpb::ByteTables;
use super::prepared::{Part, Prepared};
use crate::files::replace_file;

/// What was prepared.
#[derive(Debug, Clone)]
pub struct PrepareReport {
    /// Text files and records that were read.
    pub segments: usize,
    /// Records without the text field, or with null there.
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

/// Prepares text: shards, tokenizer (if trained), tables of bytes per token and `prepared.json`.
/// `tell` hears what is found and how far the work is.
///
/// The output folder is replaced as a whole, or, if anything fails, stays as it was. Memory does not
/// grow with the text.
///
/// # Errors
/// If an option cannot work, the input cannot be read or has no tokens, or the output cannot be
/// written.
pub fn prepare(options: &PrepareOptions, tell: Listener) -> Result<PrepareReport, PrepareError> {
    options.check()?;
    std::fs::metadata(&options.input).map_err(PrepareError::io(&options.input))?;
    let mut stage = Stage::new(&options.output)?;
    let source = Source::open(options, &stage.spool(), tell)?;
    stage.keep(source.paths(), options.tokenizer.as_deref())?;
    let tokens = match &options.tokenizer {
        Some(path) => tokens::load(path, tell)?,
        None => tokens::train(&source, options, tell)?,
    };
    let tables = ByteTables::of_tokenizer(&tokens.tokenizer, options.vocab_size);
    let text = tokens::encode(&source, &tokens, &tables, &stage.spool(), tell)?;
    if text.ids().is_empty() {
        return Err(PrepareError::NoTokens {
            input: options.input.clone(),
            skipped: text.skipped,
            text_field: options.text_field.clone(),
            fields: source.fields(),
        });
    }
    tell(source.progress(Activity::Writing));
    let split = output::write(text.ids(), stage.path(), options)?;
    tables.write(stage.path())?;
    let vocab_size = tokens.tokenizer.get_vocab_size(true);
    prepared(&text, &split, &tables, vocab_size).write(stage.path())?;
    if options.tokenizer.is_none() {
        save(&tokens, &stage)?;
    }
    let (segments, skipped, bytes) = (text.segments, text.skipped, text.bytes);
    findings::tell(text, &tokens, &options.text_field, tell);
    stage.commit()?;
    let (tokenizer, trained) = (tokens.path, options.tokenizer.is_none());
    Ok(PrepareReport { segments, skipped, bytes, tokenizer, trained, vocab_size, split })
}

fn prepared(text: &Encoded, split: &Split, tables: &ByteTables, vocab_size: usize) -> Prepared {
    let tokens = [split.train_tokens(), split.val_tokens()].map(|tokens| tokens as u64);
    let (bytes, table_bytes) = text.bytes_of(tokens[0], tables);
    let train = Part { tokens: tokens[0], bytes, table_bytes };
    let (bytes, table_bytes) = (text.bytes - bytes, text.table_bytes - table_bytes);
    let val = Part { tokens: tokens[1], bytes, table_bytes };
    Prepared { vocab_size: vocab_size as u64, train, val }
}

fn save(tokens: &Tokens, stage: &Stage) -> Result<(), PrepareError> {
    let path = stage.path().join(stage::TOKENIZER);
    let json = tokens.tokenizer.to_string(true);
    let json = json.map_err(|error| PrepareError::Training(error.to_string()))?;
    replace_file(&path, |file| file.write_all(json.as_bytes())).map_err(PrepareError::io(&path))
}

#[cfg(test)]
mod tests;
