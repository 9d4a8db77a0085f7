//! Bytes to text: U+FFFD for what is not UTF-8, and `\n` for every kind of line end.

/// Decodes a text that comes in blocks.
#[derive(Default)]
pub(super) struct Decoder {
    /// The beginning of a character whose end is in the next block.
    begun: Vec<u8>,
    /// Whether the text ends with a carriage return so far: a line feed after it is part of it.
    after_return: bool,
    /// Bytes that were not UTF-8.
    pub broken: u64,
}

impl Decoder {
    /// Appends the text of a block to `text`.
    pub fn block(&mut self, bytes: &[u8], text: &mut String) {
        let joined;
        let mut bytes = bytes;
        if !self.begun.is_empty() {
            self.begun.extend(bytes);
            joined = std::mem::take(&mut self.begun);
            bytes = &joined;
        }
        let (whole, begun) = bytes.split_at(bytes.len() - unfinished(bytes));
        self.begun = begun.to_vec();
        self.whole(whole, text);
    }

    /// Appends what no block has finished.
    pub fn end(&mut self, text: &mut String) {
        let begun = std::mem::take(&mut self.begun);
        self.whole(&begun, text);
        self.after_return = false;
    }

    fn whole(&mut self, bytes: &[u8], text: &mut String) {
        for chunk in bytes.utf8_chunks() {
            self.lines(chunk.valid(), text);
            if !chunk.invalid().is_empty() {
                self.broken += chunk.invalid().len() as u64;
                self.lines("\u{fffd}", text);
            }
        }
    }

    fn lines(&mut self, part: &str, text: &mut String) {
        if part.is_empty() {
            return;
        }
        let after_return = std::mem::replace(&mut self.after_return, part.ends_with('\r'));
        let mut rest = part.strip_prefix('\n').filter(|_| after_return).unwrap_or(part);
        while let Some(at) = rest.find('\r') {
            text.push_str(&rest[..at]);
            text.push('\n');
            rest = rest[at + 1..].strip_prefix('\n').unwrap_or(&rest[at + 1..]);
        }
        text.push_str(rest);
    }
}

/// Bytes at the end that may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3);
    let Some(back) = last.clone().position(|byte| *byte >= 0xc0) else { return 0 };
    let needed = match bytes[bytes.len() - 1 - back] {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    if back + 1 < needed { back + 1 } else { 0 }
}

/// The text of bytes that are all there, and how many of them were not UTF-8.
pub(super) fn whole(bytes: &[u8]) -> (String, u64) {
    let (mut decoder, mut text) = (Decoder::default(), String::with_capacity(bytes.len()));
    decoder.block(bytes, &mut text);
    decoder.end(&mut text);
    (text, decoder.broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_any_size_give_the_text_of_the_whole() {
        let bytes = b"a\r\nb\rc\r\r\n\xffd \xe8\xaa\x9e\xf0\x9f\x98\x80 \xe8\xaa. \xc3";
        let expected = "a\nb\nc\n\n\u{fffd}d 語😀 \u{fffd}. \u{fffd}";
        assert_eq!(whole(bytes), (expected.to_owned(), 4));
        for size in 1..bytes.len() {
            let (mut decoder, mut text) = (Decoder::default(), String::new());
            bytes.chunks(size).for_each(|block| decoder.block(block, &mut text));
            decoder.end(&mut text);
            assert_eq!((text.as_str(), decoder.broken), (expected, 4), "blocks of {size}");
        }
    }
}
