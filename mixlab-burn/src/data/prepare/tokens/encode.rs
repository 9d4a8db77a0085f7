//! Texts in, one sequence of token ids out, into a file: a corpus need not fit into memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use memmap2::Mmap;
use rayon::prelude::*;

use super::super::event::{Activity, Listener};
use super::super::source::{Item, Noticed, Source};
use super::cut::{Cutter, Piece};
use super::ids::Encoder;
use super::special::Special;
use super::{PrepareError, Tokens};
use crate::data::bpb::ByteTables;

/// Bytes that are encoded side by side.
const BATCH: usize = 1 << 22;
/// Bytes of text after which the numbers of tokens and bytes are noted.
const NOTE: u64 = 1 << 16;

/// What became of the text.
pub(in super::super) struct Encoded {
    ids: Option<Mmap>,
    /// Texts.
    pub segments: usize,
    /// Records without text.
    pub skipped: usize,
    /// Bytes of the texts.
    pub bytes: u64,
    /// Bytes that the tables give for all tokens.
    pub table_bytes: u64,
    /// How often each id occurs.
    pub counts: Vec<u64>,
    /// How often the text spells each special token.
    pub spelled: Vec<u64>,
    /// Cuts that may have changed a token.
    pub seams: u64,
    /// What was noticed while reading.
    pub noticed: Noticed,
    notes: Vec<Note>,
}

/// So many tokens stand for so many bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    tokens: u64,
    bytes: u64,
    table_bytes: u64,
}

impl Encoded {
    /// All ids, as little-endian bytes.
    pub fn ids(&self) -> &[[u8; 2]] {
        self.ids.as_ref().map_or(&[], |ids| ids.as_chunks().0)
    }

    /// True bytes, and those by the tables, of the first `tokens` tokens. Within 64 kB around the
    /// last of them the true bytes are taken to go along with those by the tables.
    pub fn bytes_of(&self, tokens: u64, tables: &ByteTables) -> (u64, u64) {
        let after = self.notes.partition_point(|note| note.tokens < tokens);
        let Some(end) = self.notes.get(after) else { return (self.bytes, self.table_bytes) };
        let start = after.checked_sub(1).map_or(Note::default(), |before| self.notes[before]);
        let range = start.tokens.saturating_sub(1) as usize..tokens as usize;
        let ids: Vec<_> = self.ids()[range].iter().map(|id| u16::from_le_bytes(*id)).collect();
        let first = if start.tokens == 0 { ids.first().map(|id| (*id, *id)) } else { None };
        let pairs = ids.windows(2).map(|pair| (pair[0], pair[1]));
        let sum = first.into_iter().chain(pairs).filter_map(|(prev, id)| tables.bytes(prev, id));
        let part = sum.map(u64::from).sum::<u64>();
        let (all, whole) = (end.bytes - start.bytes, end.table_bytes - start.table_bytes);
        let share = part as f64 / whole.max(1) as f64;
        let bytes = start.bytes + (all as f64 * share).round() as u64;
        (bytes, start.table_bytes + part)
    }
}

/// Encodes the whole source; the ids are kept in a file in the folder `spool`.
pub(in super::super) fn encode(
    source: &Source,
    tokens: &Tokens,
    tables: &ByteTables,
    spool: &Path,
    tell: Listener,
) -> Result<Encoded, PrepareError> {
    let (encoder, special) = (Encoder::new(tokens), Special::of(tokens));
    let mut writer = Writer::new(spool.join("ids"), tables, special.names.len())?;
    tell(source.progress(Activity::Encoding { tokens: 0 }));
    thread::scope(|scope| {
        let (send, batches) = sync_channel(1);
        let reader = scope.spawn(|| Reader::read(source, &encoder, send));
        let encode = |piece: &Piece| EncodedPiece::of(piece, &encoder, &special, &tokens.path);
        let written = batches.iter().try_for_each(|batch: Vec<Piece>| {
            writer.add(batch.par_iter().map(encode).collect::<Result<_, PrepareError>>()?)?;
            tell(source.progress(Activity::Encoding { tokens: writer.end.tokens }));
            Ok::<_, PrepareError>(())
        });
        // A reader that waits to send sees that nobody listens, and stops.
        drop(batches);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written?;
        writer.finish(read?)
    })
}

/// Reads and cuts while the last batch is encoded.
struct Reader {
    batch: Vec<Piece>,
    batch_bytes: usize,
    segments: usize,
    skipped: usize,
    bytes: u64,
    seams: u64,
    noticed: Noticed,
}

impl Reader {
    fn read(
        source: &Source,
        encoder: &Encoder,
        send: SyncSender<Vec<Piece>>,
    ) -> Result<Self, PrepareError> {
        let may_part = |text: &str, end: usize, next: usize| encoder.may_part(text, end, next);
        let mut cutter = Cutter::new(&may_part);
        let mut reader = Self {
            batch: Vec::new(),
            batch_bytes: 0,
            segments: 0,
            skipped: 0,
            bytes: 0,
            seams: 0,
            noticed: Noticed::default(),
        };
        let noticed = source.each(|item| {
            let pieces = match item {
                Item::Part(part) => cutter.add(part),
                Item::End => {
                    reader.segments += 1;
                    cutter.end()
                }
                Item::Skipped => {
                    reader.skipped += 1;
                    return Ok(());
                }
            };
            reader.add(pieces, &send)
        })?;
        reader.send(&send)?;
        Ok(Self { noticed, seams: cutter.seams, ..reader })
    }

    fn add(
        &mut self,
        pieces: Vec<Piece>,
        send: &SyncSender<Vec<Piece>>,
    ) -> Result<(), PrepareError> {
        let bytes: usize = pieces.iter().map(|piece| piece.bytes).sum();
        self.bytes += bytes as u64;
        self.batch_bytes += bytes;
        self.batch.extend(pieces);
        if self.batch_bytes < BATCH { Ok(()) } else { self.send(send) }
    }

    fn send(&mut self, send: &SyncSender<Vec<Piece>>) -> Result<(), PrepareError> {
        self.batch_bytes = 0;
        let sent = send.send(std::mem::take(&mut self.batch));
        // Who has stopped listening says why.
        sent.map_err(|_| PrepareError::Stopped)
    }
}

/// The ids of a piece.
struct EncodedPiece {
    ids: Vec<u16>,
    bytes: u64,
    /// How often it spells each special token.
    spelled: Vec<u64>,
}

impl EncodedPiece {
    fn of(
        piece: &Piece,
        encoder: &Encoder,
        special: &Special,
        tokenizer: &Path,
    ) -> Result<Self, PrepareError> {
        let wide = encoder.ids(&piece.text).map_err(|error| PrepareError::TokenizerFile {
            path: tokenizer.to_owned(),
            reason: error.to_string(),
        })?;
        let too_wide = |id| PrepareError::WideId { path: tokenizer.to_owned(), id };
        let narrow = |id: u32| u16::try_from(id).map_err(|_| too_wide(id));
        let ids = wide.into_iter().map(narrow).collect::<Result<_, _>>()?;
        let spelled = special.spelled(piece.text.as_bytes());
        Ok(Self { ids, bytes: piece.bytes as u64, spelled })
    }
}

/// Writes the ids one after the other and keeps account.
struct Writer<'a> {
    path: PathBuf,
    file: BufWriter<File>,
    tables: &'a ByteTables,
    prev: Option<u16>,
    end: Note,
    notes: Vec<Note>,
    counts: Vec<u64>,
    spelled: Vec<u64>,
}

impl<'a> Writer<'a> {
    fn new(path: PathBuf, tables: &'a ByteTables, special: usize) -> Result<Self, PrepareError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(PrepareError::io(&path))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            tables,
            prev: None,
            end: Note::default(),
            notes: Vec::new(),
            counts: vec![0; 1 << 16],
            spelled: vec![0; special],
        })
    }

    fn add(&mut self, pieces: Vec<EncodedPiece>) -> Result<(), PrepareError> {
        for piece in pieces {
            self.write(&piece.ids).map_err(PrepareError::io(&self.path))?;
            self.end.bytes += piece.bytes;
            self.spelled.iter_mut().zip(piece.spelled).for_each(|(all, here)| *all += here);
            if self.end.bytes >= self.notes.last().map_or(0, |note| note.bytes) + NOTE {
                self.notes.push(self.end);
            }
        }
        Ok(())
    }

    fn write(&mut self, ids: &[u16]) -> io::Result<()> {
        for &id in ids {
            let bytes = self.tables.bytes(self.prev.unwrap_or(id), id);
            self.end.table_bytes += u64::from(bytes.unwrap_or(0));
            self.counts[usize::from(id)] += 1;
            self.prev = Some(id);
            self.file.write_all(&id.to_le_bytes())?;
        }
        self.end.tokens += ids.len() as u64;
        Ok(())
    }

    fn finish(mut self, read: Reader) -> Result<Encoded, PrepareError> {
        let map = |file: &mut BufWriter<File>| {
            file.flush()?;
            // SAFETY: the file lies in a folder of this run alone, and nothing writes to it any more.
            let map = || unsafe { Mmap::map(file.get_ref()) };
            (self.end.tokens > 0).then(map).transpose()
        };
        let ids = map(&mut self.file).map_err(PrepareError::io(&self.path))?;
        self.notes.push(self.end);
        Ok(Encoded {
            ids,
            segments: read.segments,
            skipped: read.skipped,
            bytes: read.bytes,
            table_bytes: self.end.table_bytes,
            counts: self.counts,
            spelled: self.spelled,
            seams: read.seams,
            noticed: read.noticed,
            notes: self.notes,
        })
    }
}

#[cfg(test)]
mod tests;
