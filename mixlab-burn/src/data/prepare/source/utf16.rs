//! UTF-16 as UTF-8, while it is read.

use std::io::{self, Read};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 15;

/// What no UTF-8 has: whoever reads on counts it and puts U+FFFD in its place.
const BROKEN: u8 = 0xff;

/// Reads UTF-16 behind its mark as UTF-8. Half a surrogate pair and half a unit at the end become a
/// byte that is not UTF-8.
pub(super) struct Utf16<R> {
    inner: R,
    little: bool,
    /// Bytes that are read and not yet converted: half a unit or half a pair.
    raw: Vec<u8>,
    text: Vec<u8>,
    /// How much of `text` was handed on.
    given: usize,
}

impl<R: Read> Utf16<R> {
    pub fn new(inner: R, little: bool) -> Self {
        Self { inner, little, raw: Vec::new(), text: Vec::new(), given: 0 }
    }

    /// Converts the next block; at the end of the input `text` is left empty.
    fn convert(&mut self) -> io::Result<()> {
        (self.given, self.text) = (0, Vec::new());
        let old = self.raw.len();
        self.raw.resize(old + BLOCK, 0);
        let read = self.inner.read(&mut self.raw[old..]);
        self.raw.truncate(old + *read.as_ref().unwrap_or(&0));
        let end = read? == 0;
        let unit = |pair: &[u8; 2]| {
            if self.little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) }
        };
        let mut units: Vec<u16> = self.raw.as_chunks().0.iter().map(unit).collect();
        let half_pair = units.pop_if(|last| !end && (0xd800..0xdc00).contains(last));
        let mut used = 2 * units.len();
        for c in char::decode_utf16(units) {
            match c {
                Ok(c) => self.text.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                Err(_) => self.text.push(BROKEN),
            }
        }
        if end && self.raw.len() > used {
            self.text.push(BROKEN);
            used = self.raw.len();
        }
        self.raw.drain(..used);
        if self.text.is_empty() && !end {
            debug_assert!(half_pair.is_some() || self.raw.len() < 2);
            return self.convert();
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() {
            self.convert()?;
        }
        let rest = &self.text[self.given..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            self.0.read(&mut out[..count])
        }
    }

    fn read(bytes: &[u8], little: bool) -> Vec<u8> {
        let mut text = Vec::new();
        Utf16::new(bytes, little).read_to_end(&mut text).unwrap();
        let mut slow = Vec::new();
        Utf16::new(Drops(bytes), little).read_to_end(&mut slow).unwrap();
        assert_eq!(text, slow);
        text
    }

    #[test]
    fn both_byte_orders_give_the_text() {
        let text = "añ 語 😀 end\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&little, true), text.as_bytes());
        assert_eq!(read(&big, false), text.as_bytes());
    }

    #[test]
    fn halves_become_bytes_that_are_counted() {
        assert_eq!(read(&[0x3d, 0xd8, b'a', 0], true), [BROKEN, b'a']);
        assert_eq!(read(&[b'a', 0, 0x3d, 0xd8], true), [b'a', BROKEN]);
        assert_eq!(read(&[b'a', 0, b'b'], true), [b'a', BROKEN]);
        assert!(read(&[], true).is_empty());
    }
}
