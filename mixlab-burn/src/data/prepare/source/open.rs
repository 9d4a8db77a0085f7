//! A file as a stream of text: unpacked, in UTF-8, without its mark.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PrepareError;
use super::unpack::{gzip, zstd};
use super::utf16::Utf16;
use crate::data::format::{self, Format, HEAD};

/// Layers of packing and encoding that are taken off, the text itself among them.
const LAYERS: usize = 4;

/// An open file.
pub(super) enum Opened {
    /// Bytes of a text: the first of them apart, to be looked at, and all.
    Text { head: Vec<u8>, all: BufReader<Stream> },
    /// A Parquet file.
    Parquet,
}

pub(super) type Stream = Box<dyn Read + Send>;

/// Counts the bytes that come from the disk.
struct Counted {
    inner: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens the file at `data`, which messages call `path`. Bytes that are read are added to `count`.
pub(super) fn open(
    path: &Path,
    data: &Path,
    count: &Arc<AtomicU64>,
) -> Result<Opened, PrepareError> {
    let failed = || PrepareError::io(path);
    let refused = |what, hint| Err(PrepareError::NotText { path: path.to_owned(), what, hint });
    let inner = File::open(data).map_err(failed())?;
    let mut stream: Stream = Box::new(Counted { inner, count: count.clone() });
    for layer in 0..LAYERS {
        let mut head = read_head(&mut stream).map_err(failed())?;
        let mut all: Stream = Box::new(Cursor::new(head.clone()).chain(stream));
        stream = match format::of(&head) {
            Format::Gzip => gzip(all),
            Format::Zstd => zstd(all).map_err(failed())?,
            Format::Utf16 { little } => {
                skip(&mut all, 2).map_err(failed())?;
                Box::new(Utf16::new(all, little))
            }
            Format::Parquet if layer == 0 => return Ok(Opened::Parquet),
            Format::Parquet => return refused("a packed Parquet file", "unpack it first"),
            Format::Text { mark } => {
                skip(&mut all, mark).map_err(failed())?;
                head.drain(..mark);
                return Ok(Opened::Text { head, all: BufReader::with_capacity(HEAD, all) });
            }
            Format::Foreign { what, hint } => return refused(what, hint),
        };
    }
    refused("packed several times over", "unpack it first")
}

fn read_head(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    stream.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn skip(stream: &mut Stream, bytes: usize) -> io::Result<()> {
    stream.read_exact(&mut vec![0; bytes])
}
