//! Records of JSON: an object a line, a list of objects, or objects one after the other.

use std::io::{self, BufRead, Read};

use super::decode;
use super::field::{self, Flaw};

/// No record is longer: a quote that is never closed must not fill the memory.
const LONGEST: usize = 1 << 28;

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One a line.
    Lines,
    /// By their brackets, in a list or one after the other.
    Values,
}

/// Why reading stopped: the file, a record that is none, or whoever takes the texts.
pub(super) enum Stop<E> {
    Io(io::Error),
    Record { line: usize, reason: String },
    Taker(E),
}

impl<E> From<io::Error> for Stop<E> {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether `head` begins as JSON lines do: its first line is an object of its own.
pub(super) fn begins_as_lines(head: &[u8]) -> bool {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace());
    let mut lines = head[start.unwrap_or(head.len())..].splitn(2, |byte| *byte == b'\n');
    let (first, is_cut) = (lines.next().unwrap_or_default(), lines.next().is_none());
    let (first, _) = decode::whole(first);
    match field::text(first.trim(), "") {
        Ok(_) => true,
        // A first line that does not end within the head may be an object that does not either.
        Err(_) => is_cut && head.len() >= crate::data::format::HEAD && first.starts_with("{\""),
    }
}

/// What a file of any name may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// No JSON.
    Other,
    /// Objects, but none with the text field is in sight.
    Objects,
    /// Objects with the text field.
    Corpus,
}

/// What a file looks like that begins with `head`.
pub(super) fn looks(head: &[u8], field: &str) -> Looks {
    let (mut objects, mut corpus) = (false, false);
    let take = |text: Option<&str>| {
        objects = true;
        corpus |= text.is_some();
        if corpus { Err(()) } else { Ok(()) }
    };
    let stop = each(&mut { head }, layout(head, false), field, take);
    let is_cut = stop.is_err() && head.len() >= crate::data::format::HEAD;
    let start = head.trim_ascii_start();
    // A first object that is longer than the head has its text further on.
    let long = is_cut && !objects && (start.starts_with(b"{\"") || start.starts_with(b"[{"));
    match (objects, corpus || long) {
        (_, true) => Looks::Corpus,
        (true, false) => Looks::Objects,
        (false, false) => Looks::Other,
    }
}

/// The layout of a file that is called JSON and begins with `head`. `one_a_line` is for the names
/// that promise lines, unless the first is a bracket alone: then no line of the file is a record.
pub(super) fn layout(head: &[u8], one_a_line: bool) -> Layout {
    let start = head.trim_ascii_start();
    let is_opened =
        start.split(|byte| *byte == b'\n').next().is_some_and(|line| line.trim_ascii() == b"{");
    match start.first() {
        Some(b'[') => Layout::Values,
        _ if one_a_line && !is_opened || begins_as_lines(head) => Layout::Lines,
        _ => Layout::Values,
    }
}

/// Hands the text of each record to `take`, or nothing for a record without it. Returns how many
/// bytes were not UTF-8.
pub(super) fn each<E>(
    file: &mut dyn BufRead,
    layout: Layout,
    field: &str,
    mut take: impl FnMut(Option<&str>) -> Result<(), E>,
) -> Result<u64, Stop<E>> {
    records(file, layout, |line, record| {
        let found = field::text(record, field).map_err(|Flaw { at, reason }| {
            let before = record.bytes().take(at).filter(|byte| *byte == b'\n').count();
            Stop::Record { line: line + before, reason }
        })?;
        take(found.as_deref()).map_err(Stop::Taker)
    })
}

/// The fields of the first record that hold strings.
pub(super) fn first_strings(file: &mut dyn BufRead, layout: Layout) -> Vec<String> {
    let mut found = Vec::new();
    // It stops at the first record, or before if that is none.
    let _ = records(file, layout, |_, record| {
        found = field::strings(record).unwrap_or_default();
        Err(Stop::Taker(()))
    });
    found
}

/// Hands each record and its line to `take`. Returns how many bytes were not UTF-8.
fn records<E>(
    file: &mut dyn BufRead,
    layout: Layout,
    mut take: impl FnMut(usize, &str) -> Result<(), Stop<E>>,
) -> Result<u64, Stop<E>> {
    let mut broken = 0;
    let mut record = |line: usize, bytes: &[u8]| {
        let (text, invalid) = decode::whole(bytes);
        broken += invalid;
        // A lone carriage return ends a line too, and is a line feed here.
        let parts: &mut dyn Iterator<Item = &str> = match layout {
            Layout::Lines => &mut text.split('\n'),
            Layout::Values => &mut std::iter::once(text.as_str()),
        };
        // Files with a mark that were joined have it in the middle.
        let parts = parts.map(|part| part.trim_start_matches('\u{feff}'));
        parts.filter(|part| !part.trim().is_empty()).try_for_each(|part| take(line, part))
    };
    match layout {
        Layout::Lines => lines(file, &mut record)?,
        Layout::Values => Values::new(file).each(&mut record)?,
    }
    Ok(broken)
}

type Record<'a, E> = dyn FnMut(usize, &[u8]) -> Result<(), Stop<E>> + 'a;

fn too_long<E>(line: usize) -> Stop<E> {
    let reason = format!("a record has more than {} MiB", LONGEST >> 20);
    Stop::Record { line, reason }
}

fn lines<E>(file: &mut dyn BufRead, record: &mut Record<E>) -> Result<(), Stop<E>> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if file.take(LONGEST as u64 + 1).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() > LONGEST {
            return Err(too_long(line));
        }
        record(line, &bytes)?;
    }
    Ok(())
}

/// Cuts a stream into values by their brackets and quotes.
struct Values<'a> {
    file: &'a mut dyn BufRead,
    line: usize,
}

impl<'a> Values<'a> {
    fn new(file: &'a mut dyn BufRead) -> Self {
        Self { file, line: 1 }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.file.fill_buf()?.first().copied())
    }

    fn skip(&mut self) {
        self.file.consume(1);
    }

    fn blanks(&mut self) -> io::Result<()> {
        while let Some(byte) = self.peek()?.filter(u8::is_ascii_whitespace) {
            self.line += usize::from(byte == b'\n');
            self.skip();
        }
        Ok(())
    }

    fn flaw<T, E>(&self, reason: &str) -> Result<T, Stop<E>> {
        Err(Stop::Record { line: self.line, reason: reason.to_owned() })
    }

    fn each<E>(mut self, record: &mut Record<E>) -> Result<(), Stop<E>> {
        self.blanks()?;
        let in_list = self.peek()? == Some(b'[');
        if in_list {
            self.skip();
        }
        let mut value = Vec::new();
        loop {
            self.blanks()?;
            match self.peek()? {
                None if in_list => return self.flaw("the list has no end"),
                None => return Ok(()),
                Some(b']') if in_list => break,
                Some(b',') if in_list => self.skip(),
                Some(_) => {
                    let line = self.line;
                    value.clear();
                    self.value(&mut value)?;
                    record(line, &value)?;
                }
            }
        }
        self.skip();
        self.blanks()?;
        match self.peek()? {
            None => Ok(()),
            Some(_) => self.flaw("the list ends, and something follows it"),
        }
    }

    /// Collects the bytes of a value through its last bracket, or of a word or string.
    fn value<E>(&mut self, value: &mut Vec<u8>) -> Result<(), Stop<E>> {
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        let line = self.line;
        while let Some(byte) = self.peek()? {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' | b']' if depth == 0 => break,
                byte if depth == 0 && byte.is_ascii_whitespace() => break,
                _ => {}
            }
            self.line += usize::from(byte == b'\n');
            value.push(byte);
            self.skip();
            if value.len() > LONGEST {
                return Err(too_long(line));
            }
            if depth == 0 && matches!(byte, b'}' | b']') && !quoted {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, layout: Layout) -> Result<Vec<Option<String>>, String> {
        let mut texts = Vec::new();
        let take = |text: Option<&str>| -> Result<(), ()> {
            texts.push(text.map(str::to_owned));
            Ok(())
        };
        match each(&mut json.as_bytes(), layout, "text", take) {
            Ok(_) => Ok(texts),
            Err(Stop::Record { line, reason }) => Err(format!("{line}: {reason}")),
            Err(_) => Err("no record".to_owned()),
        }
    }

    fn some(texts: &[&str]) -> Result<Vec<Option<String>>, String> {
        Ok(texts.iter().map(|text| Some((*text).to_owned())).collect())
    }

    #[test]
    fn lists_and_objects_in_a_row_are_read() {
        let list = "[\n {\"text\": \"a]\\\"}\", \"n\": [1, {}]},\n {\"text\":\n\"b\"} ] \n";
        assert_eq!(read(list, Layout::Values), some(&["a]\"}", "b"]));
        assert_eq!(read("[]", Layout::Values), some(&[]));
        assert_eq!(
            read("{\n\"text\": \"a\"\n}\n{\"text\": \"b\"}{\"text\":\"c\"}", Layout::Values),
            some(&["a", "b", "c"])
        );
        assert_eq!(read("", Layout::Values), some(&[]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let wrong = |json: &str| read(json, Layout::Values).unwrap_err();
        assert!(wrong("[{\"text\": \"a\"},\n{\"text\": 5}]").starts_with("2: `text` is a number"));
        assert!(wrong("[{\"text\": \"a\"}\n").starts_with("2: the list has no end"));
        assert!(wrong("[]\n\nx").starts_with("3: the list ends"));
        assert!(wrong("[1]").starts_with("1: expected an object, found a number"));
        assert!(wrong("{\"a\": 1,\n\n\"text\": []}").starts_with("3: `text` is a list"));
        let lines = "{\"text\": \"a\"}\n\n{\"text\n{\"text\": \"c\"}\n";
        assert!(read(lines, Layout::Lines).unwrap_err().starts_with("3: a string has no end"));
    }

    #[test]
    fn the_first_record_tells_its_fields() {
        let first = |json: &str, layout| first_strings(&mut json.as_bytes(), layout);
        let lines = "\n\u{feff}{\"a\": \"x\", \"n\": 1}\n{\"b\": \"y\"}\n";
        assert_eq!(first(lines, Layout::Lines), ["a"]);
        assert_eq!(first("[{\"a\":\n{\"b\": \"\"}}, 5]", Layout::Values), ["a.b"]);
        assert_eq!(first("", Layout::Lines), Vec::<String>::new());
        assert_eq!(first("5", Layout::Values), Vec::<String>::new());
    }

    #[test]
    fn a_corpus_is_recognised_without_its_name() {
        let looks = |head: &str| looks(head.as_bytes(), "text");
        for corpus in ["{\"text\": \"a\"}\n{\"te", "[{\"text\": \"a\"}, {", "{\n\"text\":\"a\"}"] {
            assert_eq!(looks(corpus), Looks::Corpus, "{corpus}");
        }
        assert_eq!(looks("{\"name\": \"x\", \"version\": 1}"), Looks::Objects);
        assert_eq!(looks(&format!("{{\"text\": \"{}", "long ".repeat(1 << 14))), Looks::Corpus);
        for text in ["", "plain", "[1] A footnote.", "{curly}", "[", "{\"open", "{ x }\n"] {
            assert_eq!(looks(text), Looks::Other, "{text}");
        }
    }

    #[test]
    fn the_layout_is_seen_in_the_first_bytes() {
        let pretty = b"{\n  \"text\": \"a\"\n}\n";
        assert_eq!(layout(b"\n [ {", true), Layout::Values);
        assert_eq!(layout(b"{\"text\": \"a\"}\n{", false), Layout::Lines);
        assert_eq!(layout(pretty, false), Layout::Values);
        assert_eq!(layout(pretty, true), Layout::Values);
        assert_eq!(layout(b"{\"text\":\n", true), Layout::Lines);
        assert!(begins_as_lines(b"\r\n{\"a\": NaN}\r\n{"));
        assert!(!begins_as_lines(b"{curly} braces in a text\n"));
        assert!(!begins_as_lines(b"plain text"));
    }
}
