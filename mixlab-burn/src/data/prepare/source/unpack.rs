//! Packed files: what they hold, and what to do about those that cannot be unpacked.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::GzDecoder;

use super::open::Stream;

/// What a file holds that is packed with gzip, in one part or several.
pub(super) fn gzip(packed: Stream) -> Stream {
    Box::new(Gzip { part: Some(GzDecoder::new(BufReader::new(packed))) })
}

/// What a file holds that is packed with zstd.
pub(super) fn zstd(packed: Stream) -> io::Result<Stream> {
    /// Two to this are the bytes that a packer may look back, `--long=31` at most.
    const WINDOW: u32 = 31;
    let mut stream = zstd::Decoder::new(packed)?;
    stream.window_log_max(WINDOW)?;
    Ok(Box::new(Named(stream)))
}

/// A gzip file. After the last part zeros may follow, with which tapes and block devices are filled.
struct Gzip {
    part: Option<GzDecoder<BufReader<Stream>>>,
}

impl Read for Gzip {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = &mut self.part {
            let read = part.read(out).map_err(named)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            let mut rest = self.part.take().expect("it is there").into_inner();
            if pass_zeros(&mut rest)? {
                self.part = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Passes over zeros; whether something follows.
fn pass_zeros(rest: &mut BufReader<Stream>) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let (ends, follows) = (bytes.is_empty(), zeros < bytes.len());
        rest.consume(zeros);
        if ends || follows {
            return Ok(follows);
        }
    }
}

/// A stream whose errors are those of packed data.
struct Named<R>(R);

impl<R: Read> Read for Named<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(named)
    }
}

/// Tells damage from what the system says.
fn named(error: io::Error) -> io::Error {
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::UnexpectedEof | ErrorKind::Interrupted, _) | (_, Some(_)) => error,
        _ => io::Error::new(ErrorKind::InvalidData, error),
    }
}
