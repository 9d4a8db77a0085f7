//! What a row begins with, and which tokenizer turns text into tokens.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use mixlab_burn::data::demo::{self, DemoError};
use mixlab_burn::data::pattern;
use mixlab_burn::data::text::TextTokenizer;
use mixlab_burn::files::read_small;

use crate::commands::shards::DEMO;
use crate::{Request, cli};

const IDS: &str = "token_ids:";

/// A prompt as it was given.
pub enum Prompt {
    /// One random token.
    Random,
    /// Token ids.
    Ids(Vec<u16>),
    /// Text.
    Text(String),
}

impl Prompt {
    /// Reads what `--prompt` names.
    pub fn read(given: &str, vocab: usize) -> anyhow::Result<Self> {
        if let Some(ids) = given.strip_prefix(IDS) {
            let ids: Result<_, _> = ids.split(',').map(|id| token(id, vocab)).collect();
            return Ok(Self::Ids(ids?));
        }
        let read = match (given, given.strip_prefix('@')) {
            ("", _) => return Ok(Self::Random),
            ("-", _) => {
                text_of(io::stdin()).context("cannot read the prompt from stdin\n  hint: it is text in UTF-8")?
            }
            (_, Some(file)) => File::open(file).and_then(text_of).with_context(|| {
                format!(
                    "cannot read the prompt `{given}`\n  hint: `@` names a file; pipe a text that begins with it to `--prompt -`"
                )
            })?,
            (text, None) => return Ok(Self::Text(text.to_owned())),
        };
        let text = read.strip_suffix('\n').unwrap_or(&read);
        Ok(Self::Text(text.strip_suffix('\r').unwrap_or(text).to_owned()))
    }

    /// Whether the row is shown as text: if it begins with text, or a tokenizer is named.
    pub fn wants_text(&self, options: &cli::Generate) -> bool {
        matches!(self, Self::Text(_)) || options.tokenizer.is_some()
    }
}

fn text_of(from: impl Read) -> io::Result<String> {
    String::from_utf8(read_small(from)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn token(text: &str, vocab: usize) -> Result<u16, Request> {
    let id = text.trim().parse::<u16>().ok().filter(|id| usize::from(*id) < vocab);
    id.ok_or_else(|| {
        let message =
            format!("`--prompt`: `{}` is no token id below `vocab_size` `{vocab}`", text.trim());
        Request(format!("{message}\n  hint: give numbers, as in `{IDS}1,2,3`, or text"))
    })
}

/// The tokenizer that `options` names, or that lies beside what they name.
pub fn tokenizer(options: &cli::Generate, vocab: usize) -> anyhow::Result<TextTokenizer> {
    if let Some(path) = &options.tokenizer {
        return Ok(TextTokenizer::open(path)?);
    }
    let beside = |path: &Path| path.parent().map(|folder| folder.join("tokenizer.json"));
    let is_demo = options.train.iter().any(|train| train == DEMO);
    let mut places = Vec::new();
    if !is_demo {
        let train: Vec<_> =
            options.train.iter().map(|given| pattern::in_folder(given, "train")).collect();
        places.extend(pattern::expand(&train)?.iter().filter_map(|shard| beside(shard)));
    }
    places.extend(beside(&options.safetensors_load));
    places.extend(beside(Path::new(&options.model.config.config)));
    let mut seen = HashSet::new();
    places.retain(|place| seen.insert(place.clone()));
    if let Some(path) = places.iter().find(|path| path.is_file()) {
        return Ok(TextTokenizer::open(path)?);
    }
    if !is_demo {
        return Err(missing(&places).into());
    }
    let demo = demo::prepare(&demo::default_cache_root()?, vocab).map_err(|error| match error {
        // The stories have no tokenizer for this model, which others may have.
        DemoError::SmallVocabulary { .. } => missing(&places).into(),
        other => anyhow::Error::from(other),
    })?;
    eprintln!(
        "note: text by the tokenizer of the built-in stories\n  hint: `--tokenizer FILE`, or `--train GLOB` with the shards, names that of other data"
    );
    Ok(TextTokenizer::open(&demo.tokenizer)?)
}

fn missing(places: &[PathBuf]) -> Request {
    let places: Vec<_> = places.iter().map(|path| format!("`{}`", path.display())).collect();
    Request(format!(
        "there is no tokenizer for text: none of {} exists\n  hint: name it with `--tokenizer FILE`, or give `--prompt {IDS}1,2,3`",
        places.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_ids_text_or_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        std::fs::write(&path, "two\nlines\r\n").unwrap();
        let read = |given: &str| match Prompt::read(given, 64).unwrap() {
            Prompt::Random => "random".to_owned(),
            Prompt::Ids(ids) => format!("{ids:?}"),
            Prompt::Text(text) => text,
        };
        assert_eq!(read(""), "random");
        assert_eq!(read("token_ids: 1 ,63"), "[1, 63]");
        assert_eq!(read("Once "), "Once ");
        assert_eq!(read(&format!("@{}", path.display())), "two\nlines");
        for wrong in ["token_ids:", "token_ids:1,,2", "token_ids:64", "token_ids:-1", "token_ids:x"]
        {
            let error = Prompt::read(wrong, 64).err().unwrap().to_string();
            assert!(error.contains("`vocab_size` `64`") && error.contains("hint: "), "{error}");
        }
        assert!(Prompt::read("@/nowhere", 64).is_err());
    }
}
