//! Where the text comes from: a file of any form, a folder of them, or a pipe.

mod decode;
mod field;
mod folder;
mod json;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod unpack;
mod utf16;

use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::event::{Activity, Event, Finding, LeftOut, Listener, MoreThanText, Progress};
use super::{PrepareError, PrepareOptions};
use crate::data::format;
use json::{Looks, Stop};
use open::{Opened, Stream};

/// Bytes of text that are handed on at once.
const BLOCK: usize = 1 << 18;

/// What a name says about a file. Folders are read in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Text,
    Lines,
    Parquet,
    Json,
    Other,
}

impl Name {
    fn of(path: &Path) -> Self {
        match ending(path).as_str() {
            "txt" | "text" => Self::Text,
            "jsonl" | "ndjson" | "jsonlines" | "ldjson" => Self::Lines,
            "parquet" | "pq" => Self::Parquet,
            "json" => Self::Json,
            _ => Self::Other,
        }
    }
}

/// The letters after the last dot of a name, in lower case and without those of a packer.
fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let packers = [".gz", ".zst", ".zstd"];
    let name = packers.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.rsplit_once('.').map_or("", |(_, end)| end).to_owned()
}

/// What a reader of the source is given.
pub(super) enum Item<'a> {
    /// The next part of a text.
    Part(&'a str),
    /// The text ends here.
    End,
    /// A record without text.
    Skipped,
}

/// What was noticed in one pass over the source.
#[derive(Default)]
pub(super) struct Noticed {
    not_utf8: Counted,
    zeros: Counted,
    looks_like_json: Option<PathBuf>,
    more_than_text: Option<(PathBuf, MoreThanText)>,
}

/// Bytes of one kind, and the files that have some.
#[derive(Default)]
struct Counted {
    bytes: u64,
    files: usize,
    first: Option<PathBuf>,
}

impl Counted {
    fn add(&mut self, bytes: u64, path: &Path) {
        if bytes > 0 {
            self.bytes += bytes;
            self.files += 1;
            self.first.get_or_insert_with(|| path.to_owned());
        }
    }

    /// What `finding` says of them, if there are some.
    fn told(self, finding: impl FnOnce(u64, usize, PathBuf) -> Finding) -> Option<Event> {
        self.first.map(|first| Event::Finding(finding(self.bytes, self.files, first)))
    }
}

/// The files with the text. They are read anew in each pass.
pub(super) struct Source {
    inputs: Vec<Input>,
    field: String,
    /// Bytes that this pass has read, as they are on the disk.
    done: Arc<AtomicU64>,
    total: u64,
}

struct Input {
    /// What the user calls it.
    path: PathBuf,
    /// Where its bytes are.
    data: PathBuf,
}

impl Source {
    /// Finds the files. What is no regular file is copied into the folder `spool` first.
    pub fn open(
        options: &PrepareOptions,
        spool: &Path,
        tell: Listener,
    ) -> Result<Self, PrepareError> {
        let input = &options.input;
        let kind = fs::metadata(input).map_err(PrepareError::io(input))?;
        let inputs = if kind.is_dir() {
            in_folder(input, &options.text_field, tell)?
        } else if kind.is_file() {
            vec![Input { path: input.clone(), data: input.clone() }]
        } else {
            vec![Input { path: input.clone(), data: copied(input, spool, tell)? }]
        };
        let size = |input: &Input| fs::metadata(&input.data).map_or(0, |kind| kind.len());
        let total = inputs.iter().map(size).sum();
        let field = options.text_field.clone();
        Ok(Self { inputs, field, done: Arc::default(), total })
    }

    /// The files as the user calls them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().map(|input| input.path.as_path())
    }

    /// How far the present pass is.
    pub fn progress(&self, activity: Activity) -> Event {
        let done = self.done.load(Ordering::Relaxed);
        Event::Progress(Progress { activity, done, total: self.total })
    }

    /// Reads everything once, in order, and hands it to `take`.
    pub fn each(
        &self,
        mut take: impl FnMut(Item) -> Result<(), PrepareError>,
    ) -> Result<Noticed, PrepareError> {
        self.done.store(0, Ordering::Relaxed);
        let mut noticed = Noticed::default();
        for input in &self.inputs {
            let mut zeros = 0;
            let mut counted = |item: Item<'_>| {
                if let Item::Part(text) = &item {
                    zeros += text.bytes().filter(|byte| *byte == 0).count() as u64;
                }
                take(item)
            };
            let broken = self.read(input, &mut noticed, &mut counted)?;
            noticed.not_utf8.add(broken, &input.path);
            noticed.zeros.add(zeros, &input.path);
        }
        Ok(noticed)
    }

    /// The fields that hold strings in the first record that has some.
    pub fn fields(&self) -> Vec<String> {
        let fields = |input: &Input| {
            let opened = open::open(&input.path, &input.data, &self.done);
            let Ok(Opened::Text { head, mut all }) = opened else { return Vec::new() };
            let layout = json::layout(&head, Name::of(&input.path) == Name::Lines);
            json::first_strings(&mut all, layout)
        };
        let mut found = self.inputs.iter().map(fields);
        found.find(|fields| !fields.is_empty()).unwrap_or_default()
    }

    fn read(
        &self,
        input: &Input,
        noticed: &mut Noticed,
        take: &mut dyn FnMut(Item) -> Result<(), PrepareError>,
    ) -> Result<u64, PrepareError> {
        let path = &input.path;
        let (head, mut all) = match open::open(path, &input.data, &self.done)? {
            Opened::Text { head, all } => (head, all),
            Opened::Parquet => return self.read_parquet(input, &mut record(take)),
        };
        let layout = match Name::of(path) {
            Name::Lines => Some(json::layout(&head, true)),
            Name::Json => Some(json::layout(&head, false)),
            Name::Parquet => {
                let (what, hint) = ("no Parquet file", "call it what it is");
                return Err(PrepareError::NotText { path: path.clone(), what, hint });
            }
            name => match json::looks(&head, &self.field) {
                Looks::Corpus if name == Name::Other => Some(json::layout(&head, false)),
                Looks::Other => None,
                _ => {
                    noticed.looks_like_json.get_or_insert_with(|| path.clone());
                    None
                }
            },
        };
        match layout {
            None => {
                if let Some(more) = MoreThanText::of(&ending(path)) {
                    noticed.more_than_text.get_or_insert_with(|| (path.clone(), more));
                }
                text(&mut all, take, path)
            }
            Some(layout) => {
                let read = json::each(&mut all, layout, &self.field, record(take));
                read.map_err(|stop| match stop {
                    Stop::Io(error) => PrepareError::io(path)(error),
                    Stop::Taker(error) => error,
                    Stop::Record { line, reason } => {
                        PrepareError::Json { path: path.clone(), line, reason }
                    }
                })
            }
        }
    }

    #[cfg(feature = "parquet")]
    fn read_parquet(&self, input: &Input, take: &mut Record) -> Result<u64, PrepareError> {
        let read = parquet::each(&input.path, &input.data, &self.field, take)?;
        let size = fs::metadata(&input.data).map_or(0, |kind| kind.len());
        self.done.fetch_add(size, Ordering::Relaxed);
        Ok(read)
    }

    #[cfg(not(feature = "parquet"))]
    fn read_parquet(&self, input: &Input, _: &mut Record) -> Result<u64, PrepareError> {
        let what = "a Parquet file, which this build does not read";
        let hint = "build with the cargo feature `parquet`";
        Err(PrepareError::NotText { path: input.path.clone(), what, hint })
    }
}

type Record<'a> = dyn FnMut(Option<&str>) -> Result<(), PrepareError> + 'a;

/// Takes a record as a text of its own.
fn record<'a>(
    take: &'a mut dyn FnMut(Item) -> Result<(), PrepareError>,
) -> impl FnMut(Option<&str>) -> Result<(), PrepareError> + 'a {
    move |text| {
        let Some(text) = text else { return take(Item::Skipped) };
        take(Item::Part(text))?;
        take(Item::End)
    }
}

/// Reads a whole file as one text.
fn text(
    all: &mut io::BufReader<Stream>,
    take: &mut dyn FnMut(Item) -> Result<(), PrepareError>,
    path: &Path,
) -> Result<u64, PrepareError> {
    let (mut decoder, mut text) = (decode::Decoder::default(), String::new());
    loop {
        let block = all.fill_buf().map_err(PrepareError::io(path))?;
        let size = block.len();
        match size {
            0 => decoder.end(&mut text),
            _ => decoder.block(block, &mut text),
        }
        all.consume(size);
        if text.len() >= BLOCK || size == 0 {
            take(Item::Part(&text))?;
            text.clear();
        }
        if size == 0 {
            break;
        }
    }
    take(Item::End)?;
    Ok(decoder.broken)
}

impl Noticed {
    /// Says what was noticed.
    pub fn tell(self, field: &str, tell: Listener) {
        let not_utf8 = |bytes, files, first| Finding::NotUtf8 { bytes, files, first };
        let zeros = |bytes, files, first| Finding::Zeros { bytes, files, first };
        let counted = [self.not_utf8.told(not_utf8), self.zeros.told(zeros)];
        counted.into_iter().flatten().for_each(tell);
        if let Some(path) = self.looks_like_json {
            let text_field = field.to_owned();
            tell(Event::Finding(Finding::LooksLikeJson { path, text_field }));
        }
        if let Some((path, more)) = self.more_than_text {
            tell(Event::Finding(Finding::MoreThanText { path, more }));
        }
    }
}

fn in_folder(input: &Path, field: &str, tell: Listener) -> Result<Vec<Input>, PrepareError> {
    let mut found = folder::search(input)?;
    for path in found.perhaps {
        if has_texts(&path, field) { found.files.push(path) } else { found.left_out.other += 1 }
    }
    let (folder, left_out) = (input.to_owned(), found.left_out);
    if found.files.is_empty() {
        return Err(PrepareError::NoText { folder, left_out });
    }
    if left_out != LeftOut::default() {
        tell(Event::Finding(Finding::LeftOut { folder, left_out }));
    }
    let input = |path: PathBuf| Input { data: path.clone(), path };
    Ok(found.files.into_iter().map(input).collect())
}

/// Whether a file called `.json` is a corpus. In a folder many are not.
fn has_texts(path: &Path, field: &str) -> bool {
    match open::open(path, path, &Arc::default()) {
        Ok(Opened::Text { head, .. }) => json::looks(&head, field) == Looks::Corpus,
        Ok(Opened::Parquet) => true,
        Err(_) => false,
    }
}

/// Copies what can be read only once. Its first bytes are looked at before: a device may be endless.
fn copied(path: &Path, spool: &Path, tell: Listener) -> Result<PathBuf, PrepareError> {
    tell(Event::Finding(Finding::Pipe { path: path.to_owned() }));
    let failed = || PrepareError::io(path);
    let mut from = File::open(path).map_err(failed())?;
    let mut head = Vec::new();
    from.by_ref().take(format::HEAD as u64).read_to_end(&mut head).map_err(failed())?;
    if let format::Format::Foreign { what, hint } = format::of(&head) {
        return Err(PrepareError::NotText { path: path.to_owned(), what, hint });
    }
    let copy = spool.join("input");
    let mut to = File::create_new(&copy).map_err(PrepareError::io(&copy))?;
    io::copy(&mut head.as_slice(), &mut to).map_err(PrepareError::io(&copy))?;
    let mut done = head.len() as u64;
    loop {
        let activity = Activity::Copying;
        tell(Event::Progress(Progress { activity, done, total: 0 }));
        let part = io::copy(&mut from.by_ref().take(BLOCK as u64), &mut to);
        match part.map_err(failed())? {
            0 => return Ok(copy),
            copied => done += copied,
        }
    }
}

#[cfg(test)]
mod tests;
