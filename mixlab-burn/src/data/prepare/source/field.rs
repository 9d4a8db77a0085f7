//! One field of a JSON object, whatever the others hold.
//!
//! Corpora come from many programs. Python writes `NaN`, a length limit cuts an emoji in two, a
//! checksum has 400 digits: none of it matters to the text. So only the field that was asked for is
//! read strictly; all others are passed over by their quotes and brackets.

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub at: usize,
    pub reason: String,
}

/// The text of `field` in the object `record`; nothing if the field is missing or null. `a.b` is
/// the field `b` of the object `a`, unless there is a field of that whole name.
pub(super) fn text(record: &str, field: &str) -> Result<Option<String>, Flaw> {
    let mut scan = Scan { bytes: record.as_bytes(), at: 0 };
    scan.blanks();
    if scan.peek() != Some(b'{') {
        return scan.flaw(format!("expected an object, found {}", scan.kind()));
    }
    let found = scan.object(field)?;
    scan.blanks();
    match scan.peek() {
        None => Ok(found),
        Some(_) => scan.flaw(format!("expected one object, found {} after it", scan.kind())),
    }
}

/// The fields of the object `record` that hold strings, by the names that [`text`] takes.
pub(super) fn strings(record: &str) -> Result<Vec<String>, Flaw> {
    let mut scan = Scan { bytes: record.as_bytes(), at: 0 };
    let mut found = Vec::new();
    scan.blanks();
    scan.strings(&[], &mut found).map(|()| found)
}

/// Objects in objects in which [`strings`] looks.
const DEEPEST: usize = 4;

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn flaw<T>(&self, reason: impl Into<String>) -> Result<T, Flaw> {
        Err(Flaw { at: self.at, reason: reason.into() })
    }

    /// What begins here, in words.
    fn kind(&self) -> &'static str {
        match self.peek() {
            None => "the end",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => "a number",
            Some(_) => "something that is no JSON",
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Flaw> {
        self.blanks();
        if self.peek() != Some(byte) {
            return self.flaw(format!("expected {what}, found {}", self.kind()));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object from its `{` through its `}`.
    fn object(&mut self, field: &str) -> Result<Option<String>, Flaw> {
        let (mut found, mut nested) = (None, None);
        self.members(|scan, key| {
            let inside = field.strip_prefix(key).and_then(|rest| rest.strip_prefix('.'));
            match inside {
                _ if key == field => found = scan.value(field)?,
                Some(rest) if scan.peek() == Some(b'{') => nested = scan.object(rest)?,
                _ => scan.pass()?,
            }
            Ok(())
        })?;
        Ok(found.or(nested))
    }

    /// Adds the fields of an object that hold strings to `found`; `path` leads to the object.
    fn strings(&mut self, path: &[&str], found: &mut Vec<String>) -> Result<(), Flaw> {
        self.members(|scan, key| {
            let path = [path, &[key]].concat();
            match scan.peek() {
                Some(b'"') => found.push(path.join(".")),
                Some(b'{') if path.len() < DEEPEST => return scan.strings(&path, found),
                _ => {}
            }
            scan.pass()
        })
    }

    /// Reads an object from its `{` through its `}`; `value` reads the value of a key.
    fn members(
        &mut self,
        mut value: impl FnMut(&mut Self, &str) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            let key = self.key()?;
            self.expect(b':', "`:`")?;
            self.blanks();
            value(self, &key)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.flaw(format!("expected `,` or `}}`, found {}", self.kind())),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A key. One that is no valid string is the name of no field.
    fn key(&mut self) -> Result<String, Flaw> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return self.flaw(format!("expected a key in quotes, found {}", self.kind()));
        }
        self.pass_string()?;
        let inner = &self.bytes[start + 1..self.at - 1];
        let end = self.at;
        self.at = start;
        let key = if inner.contains(&b'\\') {
            self.string().unwrap_or_default()
        } else {
            String::from_utf8_lossy(inner).into_owned()
        };
        self.at = end;
        Ok(key)
    }

    fn value(&mut self, field: &str) -> Result<Option<String>, Flaw> {
        match self.peek() {
            Some(b'"') => self.string().map(Some),
            Some(b'n') if self.bytes[self.at..].starts_with(b"null") => {
                self.at += 4;
                Ok(None)
            }
            _ => self.flaw(format!("`{field}` is {}, expected a string", self.kind())),
        }
    }

    /// Passes over any value.
    fn pass(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None if depth > 0 => {
                    self.at = start;
                    return self.flaw(format!("{} has no end", self.kind()));
                }
                Some(b'"') => self.pass_string()?,
                Some(b'{' | b'[') => (depth, self.at) = (depth + 1, self.at + 1),
                Some(b'}' | b']') if depth > 0 => (depth, self.at) = (depth - 1, self.at + 1),
                Some(b',' | b':') if depth > 0 => self.at += 1,
                _ => self.pass_word(),
            }
            if depth == 0 {
                break;
            }
            self.blanks();
        }
        if self.at == start {
            return self.flaw(format!("expected a value, found {}", self.kind()));
        }
        Ok(())
    }

    /// Passes over a number, `true`, `NaN`, or whatever stands where one should.
    fn pass_word(&mut self) {
        let ends = |byte: u8| b",:}]{[\" \t\n\r".contains(&byte);
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    fn pass_string(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => {
                    self.at = start;
                    return self.flaw("a string has no end");
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string strictly, but for halves of surrogate pairs: they become U+FFFD.
    fn string(&mut self) -> Result<String, Flaw> {
        let start = self.at;
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let plain = self.at;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            text.extend(&self.bytes[plain..self.at]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let c = self.escape()?;
                    text.extend(c.encode_utf8(&mut [0; 4]).bytes());
                }
                Some(byte) => {
                    let reason = format!("a string has the control character {byte:#04x}");
                    return self.flaw(format!("{reason}, which JSON writes as an escape"));
                }
                None => {
                    self.at = start;
                    return self.flaw("a string has no end");
                }
            }
        }
        self.at += 1;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn escape(&mut self) -> Result<char, Flaw> {
        let plain = match self.bytes.get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unit_escape(),
            _ => return self.flaw("a string has an escape that JSON does not know"),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unit_escape(&mut self) -> Result<char, Flaw> {
        let Some(first) = self.unit(self.at) else {
            return self.flaw("`\\u` needs four hexadecimal digits");
        };
        self.at += 6;
        let pair = self.unit(self.at).map_or([first, 0], |second| [first, second]);
        let decoded = char::decode_utf16(pair).next().and_then(Result::ok);
        if decoded.is_some_and(|c| c.len_utf16() == 2) {
            self.at += 6;
        }
        Ok(decoded.unwrap_or('\u{fffd}'))
    }

    /// The unit that is written as `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
        digits.map(|digit| digit.map(|d| d as u16)).try_fold(0, |unit, d| Some(16 * unit + d?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(record: &str) -> Option<String> {
        text(record, "text").unwrap()
    }

    fn reason(record: &str) -> String {
        text(record, "text").unwrap_err().reason
    }

    #[test]
    fn other_fields_may_hold_anything() {
        let digits = "1".repeat(400);
        let deep = format!("{}{}", "[{\"a\":".repeat(9000), "}]".repeat(9000));
        let others = [
            "NaN",
            "-Infinity",
            "\"\\ud83d\"",
            "\"\\x\"",
            "\"tab\there\"",
            &digits,
            &deep,
            "1e999999",
            "{\"text\": \"inner\"}",
            "[1, [2, \"]\"], {}]",
            "undefined",
            "01",
            "\"\\\"\"",
            "[]",
            "[1,\u{c}2]",
        ];
        for other in others {
            let record = format!("{{\"a\": {other}, \"text\": \"yes\", \"b\":{other}}}");
            assert_eq!(
                found(&record).as_deref(),
                Some("yes"),
                "{}",
                &record[..record.len().min(80)]
            );
        }
    }

    #[test]
    fn the_text_is_read_as_json_has_it() {
        let record = r#" {"text" : "a\n\t\"\\\/\u00e4\ud83d\ude00é", "x":1} "#;
        assert_eq!(found(record).unwrap(), "a\n\t\"\\/ä😀é");
        assert_eq!(found(r#"{"te\u0078t": "key"}"#).unwrap(), "key");
        assert_eq!(found(r#"{"text": "first", "text": "last"}"#).unwrap(), "last");
        assert_eq!(found(r#"{"text": ""}"#).unwrap(), "");
    }

    #[test]
    fn halves_of_pairs_become_replacement_characters() {
        assert_eq!(found(r#"{"text": "a\ud83d"}"#).unwrap(), "a\u{fffd}");
        assert_eq!(found(r#"{"text": "\ude00b"}"#).unwrap(), "\u{fffd}b");
        assert_eq!(found(r#"{"text": "\ud83d\u0041"}"#).unwrap(), "\u{fffd}A");
        assert_eq!(found(r#"{"text": "\ud83d\ud83d\ude00"}"#).unwrap(), "\u{fffd}😀");
    }

    #[test]
    fn missing_and_null_are_no_text() {
        for record in ["{}", r#"{"a": 1}"#, r#"{"text": null}"#, r#"{"a": {"text": "no"}}"#] {
            assert_eq!(found(record), None);
        }
    }

    #[test]
    fn a_path_reaches_inside() {
        let inside = |record: &str| text(record, "a.b.c").unwrap();
        assert_eq!(inside(r#"{"x": 1, "a": {"b": {"c": "deep"}, "c": "no"}}"#).unwrap(), "deep");
        assert_eq!(inside(r#"{"a": {"b": {"c": "deep"}}, "a.b.c": "whole"}"#).unwrap(), "whole");
        assert_eq!(inside(r#"{"a.b": {"c": "half"}}"#).unwrap(), "half");
        assert_eq!(inside(r#"{"a": {"b": {"c": null}}}"#), None);
        assert_eq!(inside(r#"{"a": "no object"}"#), None);
        assert_eq!(inside(r#"{"a": {"b": 3}}"#), None);
    }

    #[test]
    fn fields_that_hold_strings_are_listed_by_the_names_that_reach_them() {
        let record = r#"{"n": 1, "a": "x", "b": {"c": "y", "d": [], "e.f": "z"}, "l": ["no"]}"#;
        let names = strings(record).unwrap();
        assert_eq!(names, ["a", "b.c", "b.e.f"]);
        assert!(names.iter().all(|name| text(record, name).unwrap().is_some()));
        let deep = format!("{}\"s\"{}", "{\"a\":".repeat(9000), "}".repeat(9000));
        assert_eq!(strings(&deep).unwrap(), Vec::<String>::new());
        assert_eq!(strings("{}").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_object_is_told() {
        assert!(reason("[1]").contains("expected an object, found a list"));
        assert!(reason(r#"{"text": 5}"#).contains("`text` is a number, expected a string"));
        assert!(reason(r#"{"text": ["a"]}"#).contains("`text` is a list"));
        assert!(reason(r#"{"text": "#).contains("`text` is the end"));
        assert!(reason(r#"{"text": "a"#).contains("a string has no end"));
        assert!(reason(r#"{"x": {"text": "a"}"#).contains("expected `,` or `}`, found the end"));
        assert!(reason(r#"{"x": [1, 2"#).contains("a list has no end"));
        assert!(reason(r#"{"x":}"#).contains("expected a value"));
        assert!(reason(r#"{"x" 1}"#).contains("expected `:`"));
        assert!(reason(r#"{text: "a"}"#).contains("expected a key in quotes"));
        assert!(
            reason(r#"{"text": "a"} {"#).contains("expected one object, found an object after")
        );
        assert!(reason("{\"text\": \"a\tb\"}").contains("control character 0x09"));
        assert!(reason(r#"{"text": "\x41"}"#).contains("an escape that JSON does not know"));
        assert!(reason(r#"{"text": "\u12"}"#).contains("four hexadecimal digits"));
    }
}
