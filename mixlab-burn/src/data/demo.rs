//! The built-in data set: short stories from a small grammar, so that a first run needs no files.
//!
//! The stories are written by chance, and the chances are known. So the lowest loss that any
//! model can reach is known as well: the entropy of the text.

mod cache;
mod story;
mod teller;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use cache::default_cache_root;
use serde_json::json;

use super::MAX_PREPARED_VOCAB;
use super::pattern;
use super::prepare::{self, PrepareError, PrepareOptions};
use crate::random::Generator;

/// Changes whenever the stories change, so that no old cache is used.
const VERSION: u32 = 1;
/// Bytes of text, at least.
const TEXT_BYTES: usize = 4_000_000;
const SEED: i64 = 42;
/// Bytes of text that the tokenizer is trained on; every word and letter occurs there.
const SAMPLE_BYTES: usize = 400_000;
const META: &str = "meta.json";

/// Why there is no demo data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The vocabulary cannot even hold the letters.
    #[error(
        "the demo stories need a vocabulary of `{minimum}` or more, but `vocab_size` is `{vocab_size}`\n  hint: raise `vocab_size`, or train on your own shards"
    )]
    SmallVocabulary {
        /// The size that was asked for.
        vocab_size: usize,
        /// The smallest that works.
        minimum: usize,
    },
    /// The cache cannot be read or written.
    #[error(
        "cannot use the demo cache `{}`: {source}\n  hint: remove that folder, or choose another cache folder",
        path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system names no folder for caches.
    #[error("there is no cache folder\n  hint: set `XDG_CACHE_HOME` or `HOME`")]
    NoCache,
    /// The stories cannot be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

impl DemoError {
    fn cache(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Cache { path, source }
    }
}

/// Where the demo data lie, and how well they can be predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Demo {
    /// Pattern of the training shards.
    pub train: String,
    /// Pattern of the validation shards.
    pub val: String,
    /// The tokenizer of both.
    pub tokenizer: PathBuf,
    /// The floor of the loss, in nats per token.
    pub entropy_per_token: f64,
}

/// A text and what is known about it.
#[derive(Debug, Clone)]
pub struct Stories {
    /// The stories, an empty line after each.
    pub text: String,
    /// −ln p of the whole text under its grammar, in nats.
    pub entropy: f64,
}

/// Writes stories until there are `bytes` bytes or more.
pub fn stories(bytes: usize, seed: i64) -> Stories {
    let mut teller = teller::Teller::new(Generator::new(seed));
    while teller.text.len() < bytes {
        story::tell(&mut teller);
    }
    Stories { text: teller.text, entropy: teller.nats }
}

/// The demo data for a vocabulary size, made at the first call and kept below `cache_root`.
/// Several processes may call it at once.
///
/// # Errors
/// If the vocabulary is too small or the cache cannot be used.
pub fn prepare(cache_root: &Path, vocab_size: usize) -> Result<Demo, DemoError> {
    prepare_sized(cache_root, vocab_size, TEXT_BYTES)
}

fn prepare_sized(cache_root: &Path, vocab_size: usize, bytes: usize) -> Result<Demo, DemoError> {
    let parent = cache_root.join("mixlab");
    let folder = parent.join(format!("demo-{VERSION}-v{vocab_size}"));
    if !folder.exists() {
        let stories = stories(bytes, SEED);
        check_vocabulary(&stories.text, vocab_size)?;
        build(&stories, &folder, vocab_size)?;
    }
    open(&folder).map_err(DemoError::cache(&folder))
}

fn open(folder: &Path) -> io::Result<Demo> {
    let meta: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(META))?)?;
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let entropy = meta["entropy_per_token"].as_f64();
    let name = folder.to_str();
    let name = name.ok_or_else(|| invalid("its name is not valid UTF-8"))?;
    let name = pattern::literal(name);
    Ok(Demo {
        train: format!("{name}/train_*.bin"),
        val: format!("{name}/val_*.bin"),
        tokenizer: folder.join("tokenizer.json"),
        entropy_per_token: entropy
            .ok_or_else(|| invalid("meta.json has no number `entropy_per_token`"))?,
    })
}

/// Makes everything under another name first: a folder that exists is complete.
fn build(stories: &Stories, folder: &Path, vocab_size: usize) -> Result<(), DemoError> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(DemoError::cache(parent))?;
    let temporary = tempfile::Builder::new().prefix(".demo-").tempdir_in(parent);
    let temporary = temporary.map_err(DemoError::cache(parent))?;
    write(stories, temporary.path(), vocab_size)?;
    match fs::rename(temporary.path(), folder) {
        Ok(()) => {
            // Nothing is left under the temporary name that could be removed.
            let _ = temporary.keep();
            Ok(())
        }
        // Another process was faster; its data are the same.
        Err(_) if folder.exists() => Ok(()),
        Err(error) => Err(DemoError::cache(folder)(error)),
    }
}

fn check_vocabulary(text: &str, vocab_size: usize) -> Result<(), DemoError> {
    let mut seen = [false; 256];
    text.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    let minimum = 1 + seen.iter().filter(|seen| **seen).count();
    if vocab_size < minimum {
        return Err(DemoError::SmallVocabulary { vocab_size, minimum });
    }
    Ok(())
}

fn write(stories: &Stories, folder: &Path, vocab_size: usize) -> Result<(), DemoError> {
    let input = folder.join("stories.txt");
    fs::write(&input, &stories.text).map_err(DemoError::cache(&input))?;
    let options = PrepareOptions {
        vocab_size: vocab_size.min(MAX_PREPARED_VOCAB),
        val_split: 0.05,
        train_bytes: SAMPLE_BYTES,
        ..PrepareOptions::new(input, folder)
    };
    let report = prepare::prepare(&options, &|_| ())?;
    let meta = json!({
        "version": VERSION,
        "vocab_size": report.vocab_size,
        "bytes": report.bytes,
        "tokens": report.tokens(),
        "entropy_per_token": stories.entropy / report.tokens() as f64,
    });
    let path = folder.join(META);
    fs::write(&path, format!("{meta:#}\n")).map_err(DemoError::cache(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::full_validation;
    use crate::data::bpb::ByteTables;
    use crate::data::shard::Layout;
    use std::collections::HashSet;

    /// Little text: enough for every word, and quick.
    const SMALL: usize = SAMPLE_BYTES / 2;

    #[test]
    fn stories_are_the_same_everywhere() {
        let written = stories(1_000, 42);
        assert_eq!(written.text, stories(1_000, 42).text);
        assert_ne!(written.text, stories(1_000, 43).text);
        let first = "Before sunrise, Yara the teacher had lost a golden boot.";
        assert!(written.text.starts_with(first), "{}", written.text);
        assert_eq!(format!("{:.6}", written.entropy), "186.280796");
    }

    #[test]
    fn the_sample_has_every_word_of_the_text_and_they_are_a_few_hundred() {
        let text = stories(TEXT_BYTES, SEED).text;
        let words = |text: &str| -> HashSet<String> {
            let parts = text.split(|c: char| !c.is_ascii_alphabetic());
            parts.map(str::to_owned).collect()
        };
        let all = words(&text);
        assert!(all == words(&stories(SAMPLE_BYTES, SEED).text));
        assert!((250..500).contains(&all.len()), "{}", all.len());
        let known = |c: char| c.is_ascii_alphabetic() || " \n.,\"".contains(c);
        assert!(text.chars().all(known));
    }

    #[test]
    fn the_first_call_makes_the_data_and_later_calls_find_them() {
        let cache = tempfile::tempdir().unwrap();
        let first = prepare(cache.path(), 512).unwrap();
        let folder = cache.path().join(format!("mixlab/demo-{VERSION}-v512"));
        let changed = |name| fs::metadata(folder.join(name)).unwrap().modified().unwrap();
        let before = changed(META);
        assert_eq!(prepare(cache.path(), 512).unwrap(), first);
        assert_eq!(changed(META), before);
        let left = fs::read_dir(cache.path().join("mixlab")).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn the_entropy_is_that_of_the_tokens_and_no_byte_is_lost() {
        let cache = tempfile::tempdir().unwrap();
        let demo = prepare_sized(cache.path(), 600, SMALL).unwrap();
        let folder = cache.path().join(format!("mixlab/demo-{VERSION}-v600"));
        let all = [demo.val, demo.train].map(|pattern| {
            let pattern = std::slice::from_ref(&pattern);
            full_validation(pattern, 1, 600, Layout::Header).unwrap()
        });
        let tables = ByteTables::read(&folder, 600).unwrap();
        let bytes = |id: &u16| tables.bytes(*id, *id).unwrap() as usize;
        let stories = stories(SMALL, SEED);
        let tokens = all.concat();
        assert_eq!(tokens.iter().map(bytes).sum::<usize>(), stories.text.len());
        let entropy = demo.entropy_per_token * tokens.len() as f64;
        assert!((entropy / stories.entropy - 1.0).abs() < 1e-12);
    }

    #[test]
    fn processes_that_start_together_end_with_the_same_data() {
        let cache = tempfile::tempdir().unwrap();
        let root = cache.path();
        let demos = std::thread::scope(|scope| {
            let calls = [(); 3].map(|()| scope.spawn(|| prepare_sized(root, 64, SMALL).unwrap()));
            calls.map(|call| call.join().unwrap())
        });
        assert!(demos.iter().all(|demo| *demo == demos[0]));
        assert_eq!(fs::read_dir(root.join("mixlab")).unwrap().count(), 1);
    }

    #[test]
    fn a_vocabulary_below_the_letters_is_refused_with_the_minimum() {
        let cache = tempfile::tempdir().unwrap();
        let prepare = |vocab_size| prepare_sized(cache.path(), vocab_size, SMALL);
        let Err(DemoError::SmallVocabulary { minimum, .. }) = prepare(10) else {
            panic!("accepted");
        };
        let below = prepare(minimum - 1);
        assert!(matches!(below, Err(DemoError::SmallVocabulary { .. })));
        let demo = prepare(minimum).unwrap();
        assert!(full_validation(&[demo.val], 8, minimum, Layout::Header).is_ok());
    }

    #[test]
    fn a_damaged_cache_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let name = format!("demo-{VERSION}-v99");
        let folder = cache.path().join("mixlab").join(&name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(META), "{}").unwrap();
        let error = prepare(cache.path(), 99).unwrap_err().to_string();
        assert!(error.contains("entropy_per_token") && error.contains(&name));
    }
}
