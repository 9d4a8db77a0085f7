//! What `prepare` has to say while it works.

use std::path::PathBuf;

/// Takes what `prepare` says. It is called from several threads.
pub type Listener<'a> = &'a (dyn Fn(Event) + Sync);

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The data are not quite what they seem.
    Finding(Finding),
    /// Some time has passed.
    Progress(Progress),
}

/// What is being done, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub activity: Activity,
    /// Bytes of the input that are done with.
    pub done: u64,
    /// Bytes of the input; 0 if nobody knows.
    pub total: u64,
}

/// The parts of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// A pipe is copied to a file.
    Copying,
    /// Words are counted for a new tokenizer.
    Counting,
    /// Pairs of tokens are merged.
    Merging {
        /// Distinct words in which they are.
        words: usize,
    },
    /// Text becomes token ids.
    Encoding {
        /// Ids so far.
        tokens: u64,
    },
    /// Shards are written.
    Writing,
}

/// Files of a folder that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files and folders whose name begins with a dot.
    pub hidden: usize,
    /// Files that editors and downloads leave behind.
    pub temporary: usize,
    /// Links and names that lead to a file which is read already, or nowhere.
    pub links: usize,
    /// Pipes, sockets and devices.
    pub special: usize,
    /// Files whose name is not that of a text.
    pub other: usize,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = [
            (self.hidden, "hidden"),
            (self.temporary, "temporary"),
            (self.links, "already read or broken links"),
            (self.special, "pipes or devices"),
            (self.other, "of other kinds"),
        ];
        let counted = kinds.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = counted.map(|(count, kind)| format!("{count} {kind}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// What a file holds beside its text, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoreThanText {
    /// Values parted by commas, and their quotes.
    Commas,
    /// Values parted by tabs.
    Tabs,
    /// Markup.
    Tags,
}

impl MoreThanText {
    /// By the letters after the last dot of a name.
    pub(super) fn of(ending: &str) -> Option<Self> {
        match ending {
            "csv" => Some(Self::Commas),
            "tsv" | "tab" => Some(Self::Tabs),
            "html" | "htm" | "xhtml" | "xml" | "rtf" => Some(Self::Tags),
            _ => None,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Commas => "commas and quotes",
            Self::Tabs => "tabs",
            Self::Tags => "tags",
        }
    }

    fn way_out(self) -> String {
        let delimiter = match self {
            Self::Tags => return "take the text out of it first".into(),
            Self::Commas => "",
            Self::Tabs => ", delimiter=\"\\t\"",
        };
        format!(
            "make JSON lines of it and name the column with `--text-field`: \
             python3 -c 'import csv, json, sys; csv.field_size_limit(2**31 - 1); \
             [print(json.dumps(row)) for row in csv.DictReader(sys.stdin{delimiter})]' \
             < TABLE > TABLE.jsonl"
        )
    }
}

/// What somebody who trains on these data should know.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Finding {
    /// A pipe or device was given: it can be read only once.
    #[error("`{}` is no regular file; it is copied to a temporary file until its end", path.display())]
    Pipe {
        /// The pipe.
        path: PathBuf,
    },
    /// Files of the input folder were left out.
    #[error("left out of `{}`: {left_out}\n  hint: a file that is given by its name is read in any case", folder.display())]
    LeftOut {
        /// The input folder.
        folder: PathBuf,
        /// Which, by kind.
        left_out: LeftOut,
    },
    /// Bytes that are not UTF-8 became U+FFFD.
    #[error("{bytes} bytes in {files} file(s) are not UTF-8 and became U+FFFD, first in `{}`\n  hint: convert the text to UTF-8, for example with iconv", first.display())]
    NotUtf8 {
        /// How many.
        bytes: u64,
        /// In how many files.
        files: usize,
        /// The first of these.
        first: PathBuf,
    },
    /// Characters of value 0 are part of the text.
    #[error("{bytes} characters in {files} file(s) have the value 0 and become training data, first in `{}`\n  hint: they stand where a file was cut off or set aside before it was written; `tr -d '\\0'` takes them out", first.display())]
    Zeros {
        /// How many.
        bytes: u64,
        /// In how many files.
        files: usize,
        /// The first of these.
        first: PathBuf,
    },
    /// A file is called a text and looks like JSON.
    #[error("`{}` is read as plain text, though it looks like JSON: braces and keys become training data\n  hint: call it `.jsonl` if its field `{text_field}` is the text", path.display())]
    LooksLikeJson {
        /// The file.
        path: PathBuf,
        /// The text field.
        text_field: String,
    },
    /// A file is called a table or a document and is read as it is.
    #[error("`{}` is read as plain text: its {} become training data\n  hint: {}", path.display(), more.what(), more.way_out())]
    MoreThanText {
        /// The file.
        path: PathBuf,
        /// What it holds beside its text.
        more: MoreThanText,
    },
    /// Words were too long for training a tokenizer.
    #[error(
        "{words} words have more than {longest} bytes; the tokenizer was trained on pieces of them\n  hint: text without spaces (one long line of DNA or base64) may need another tokenizer"
    )]
    LongWords {
        /// How many.
        words: u64,
        /// Bytes of the pieces.
        longest: usize,
    },
    /// There were more distinct words than the tokenizer is trained on.
    #[error("the tokenizer was trained on the first {words} distinct words; the text has more")]
    ManyWords {
        /// How many were counted.
        words: usize,
    },
    /// A text was cut where its tokens may depend on both sides.
    #[error(
        "the text was cut at {seams} places where it has no space for long: a token there may differ from that of the whole text"
    )]
    Seams {
        /// How many.
        seams: u64,
    },
    /// The tokenizer would have left out merges by chance.
    #[error("tokenizer `{}` has dropout `{dropout}`, which is left out: the same text gives the same tokens", path.display())]
    Dropout {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// Its dropout.
        dropout: String,
    },
    /// The tokenizer would take any time for long words.
    #[error("tokenizer `{}` takes words of up to `{most}` letters apart; here those of more than `{letters}` are unknown", path.display())]
    LongestWord {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What it says.
        most: String,
        /// Letters of the longest word that is known.
        letters: u64,
    },
    /// Ids that no token has lie below some that one has.
    #[error(
        "the tokenizer has {tokens} tokens, and ids up to {largest}\n  hint: a model for it has `vocab_size` {}", u32::from(*largest) + 1
    )]
    Holes {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// The largest of their ids that a shard can store.
        largest: u16,
    },
    /// Tokens that stand for what the tokenizer does not know.
    #[error("{count} of {tokens} tokens ({:.2} %) are the unknown token `{token}`\n  hint: use a tokenizer that knows this kind of text", 100.0 * *count as f64 / *tokens as f64)]
    Unknown {
        /// The unknown token.
        token: String,
        /// How often it occurs.
        count: u64,
        /// All tokens.
        tokens: u64,
    },
    /// The text spells special tokens, and the tokenizer made them of it.
    #[error(
        "the text became {count} special tokens, as `{token}`: it spells them\n  hint: a model takes them for the marks that they are elsewhere; replace them in the text"
    )]
    SpecialInText {
        /// The most frequent.
        token: String,
        /// How many there are of all kinds.
        count: u64,
    },
    /// The text spells special tokens, which were encoded like any other text.
    #[error(
        "the text spells special tokens {count} times, as `{token}`: they are encoded as ordinary text"
    )]
    SpellsSpecial {
        /// The most frequent.
        token: String,
        /// How many there are of all kinds.
        count: u64,
    },
    /// The tables do not give the bytes of the text.
    #[error("the tables of bytes per token give {tables} bytes, but the text has {bytes} (ratio {:.3}): {reason}; `prepared.json` holds the true numbers", *tables as f64 / *bytes as f64)]
    Bytes {
        /// By the tables.
        tables: u64,
        /// In truth.
        bytes: u64,
        /// Why they may differ.
        reason: &'static str,
    },
}

impl Finding {
    /// Whether it may spoil what is trained, and is not only good to know.
    pub fn is_warning(&self) -> bool {
        use Finding::*;
        !matches!(
            self,
            Pipe { .. }
                | LeftOut { .. }
                | ManyWords { .. }
                | Dropout { .. }
                | LongestWord { .. }
                | Holes { .. }
                | SpellsSpecial { .. }
        )
    }
}
