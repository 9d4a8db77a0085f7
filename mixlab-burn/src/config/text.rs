//! JSON text with `//` comments → a tree of [`Node`]s that know their place.
//!
//! `serde_json` does the parsing, one level at a time: each level borrows its
//! members as [`RawValue`], whose address within the text is its position and
//! whose text is what the user wrote (so that `4` and `4.0` stay different).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::node::{Node, Origin, Value};

/// Deepest nesting that is read; a config needs six levels.
const MAX_DEPTH: usize = 64;

const AN_OBJECT: &str = "a config is one JSON object, `{ … }`";
const NUMBERS: &str = "numbers are written like `12`, `-3`, `0.5` or `1e-4`: without `+`, with a digit before the point, and with no `0` in front";
const WORDS: &str = "outside of quotes there are only numbers, `true`, `false` and `null`, in small letters; JSON has no NaN and no Infinity";

/// What JSON counts as space, which is less than what Unicode does.
const JSON_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Why a text is no JSON object, and where.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// Byte offset into the original text.
    pub offset: usize,
    pub message: String,
    pub hint: &'static str,
}

impl SyntaxError {
    fn new(offset: usize, message: impl Into<String>, hint: &'static str) -> Self {
        Self { offset, message: message.into(), hint }
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

/// Reads a whole config file.
pub(super) fn parse_file(text: &str) -> Result<Node, SyntaxError> {
    if text.starts_with('\u{feff}') {
        return Err(SyntaxError::new(
            0,
            "the text begins with a byte-order mark",
            "save it as UTF-8 without one",
        ));
    }
    let clean = blank_comments(text);
    if clean.trim_matches(JSON_SPACE).is_empty() {
        let empty = text.trim_matches(JSON_SPACE).is_empty();
        let message = if empty { "the text is empty" } else { "there is nothing but comments" };
        return Err(SyntaxError::new(0, message, AN_OBJECT));
    }
    let node = parse_located(&clean)?;
    match node.value {
        Value::Object(_) => Ok(node),
        _ => Err(SyntaxError::new(
            clean.len() - clean.trim_start_matches(JSON_SPACE).len(),
            format!("expected an object at the top level, found {}", node.describe()),
            AN_OBJECT,
        )),
    }
}

/// Reads one JSON value without comments, as `--set` takes it; `None` if the
/// text is not JSON.
pub(super) fn parse_value(text: &str, origin: Origin) -> Option<Node> {
    let mut node = parse_located(text).ok()?;
    node.set_origin(origin);
    Some(node)
}

/// Replaces each comment by as many spaces as it has bytes, so that positions
/// stay those of the original text.
fn blank_comments(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let (mut in_string, mut escaped, mut in_comment) = (false, false, false);
    for (offset, c) in text.char_indices() {
        if in_comment {
            in_comment = c != '\n';
        } else if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            in_string = c == '"';
            in_comment = text[offset..].starts_with("//");
        }
        if in_comment {
            clean.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            clean.push(c);
        }
    }
    clean
}

fn parse_located(text: &str) -> Result<Node, SyntaxError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let raw = match values.next() {
        Some(Ok(raw)) => raw,
        Some(Err(error)) => return Err(syntax_error(text, text, &error)),
        None => return Err(SyntaxError::new(0, "the text is empty", AN_OBJECT)),
    };
    let end = values.byte_offset();
    let rest = text[end..].trim_start_matches(JSON_SPACE);
    if !rest.is_empty() {
        let word: String = rest.chars().take_while(|c| *c != '\n').take(24).collect();
        return Err(SyntaxError::new(
            text.len() - rest.len(),
            format!("unexpected text after the end of the config: `{}`", word.trim_end()),
            "remove it, or check for a brace that closes too early",
        ));
    }
    let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
    build(Located { text, newlines: &newlines.collect::<Vec<_>>() }, raw, 0)
}

/// The whole text, of which every raw value is a part.
#[derive(Clone, Copy)]
struct Located<'a> {
    text: &'a str,
    newlines: &'a [usize],
}

/// Turns one raw value and all within it into a node.
fn build(whole: Located<'_>, raw: &RawValue, depth: usize) -> Result<Node, SyntaxError> {
    let part = raw.get();
    let offset = part.as_ptr() as usize - whole.text.as_ptr() as usize;
    if depth == MAX_DEPTH {
        return Err(SyntaxError::new(
            offset,
            format!("nested deeper than {MAX_DEPTH} levels"),
            "a config needs six levels; look for a bracket too many",
        ));
    }
    let failed = |error| syntax_error(whole.text, part, &error);
    let inner = |raw| build(whole, raw, depth + 1);
    let value = match part.as_bytes().first() {
        Some(b'{') => {
            let members = members(part).map_err(failed)?.into_iter();
            Value::Object(
                members.map(|(key, raw)| Ok((key, inner(raw)?))).collect::<Result<_, _>>()?,
            )
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(part).map_err(failed)?;
            Value::List(items.into_iter().map(inner).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::String(serde_json::from_str(part).map_err(failed)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(part.to_owned()),
    };
    let line = whole.newlines.partition_point(|newline| *newline < offset) + 1;
    Ok(Node { origin: Origin::File { offset, line }, value })
}

/// The members of an object in the order of the text; of equal keys the last.
fn members(part: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(part)?;
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_by_key(|(_, raw)| raw.get().as_ptr() as usize);
    Ok(members)
}

/// Places an error of `serde_json` that came up in `part` within the whole `text`.
fn syntax_error(text: &str, part: &str, error: &serde_json::Error) -> SyntaxError {
    let line_start: usize =
        part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let within = (line_start + error.column().saturating_sub(1)).min(part.len());
    let offset = part.as_ptr() as usize - text.as_ptr() as usize + within;
    if error.is_eof() {
        let hint = "a closing quote, bracket or brace is missing";
        return SyntaxError::new(
            text.trim_end_matches(JSON_SPACE).len(),
            "the text ends within a value",
            hint,
        );
    }
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    let hint = syntax_hint(message, &text.as_bytes()[..offset], &text.as_bytes()[offset..]);
    SyntaxError::new(offset, message, hint)
}

/// The usual slip behind a syntax error, from what stands around it.
fn syntax_hint(message: &str, before: &[u8], rest: &[u8]) -> &'static str {
    let previous = before.iter().rfind(|byte| !byte.is_ascii_whitespace());
    let next = rest.first();
    match (message, next, previous) {
        (_, Some(b'/' | b'#'), _) => "comments begin with `//` and end with the line",
        (_, Some(b'}' | b']'), Some(b',')) => "remove the comma before it",
        (_, Some(b'}' | b','), Some(b':')) => "a value is missing after the colon",
        (_, Some(b'\''), _) => "strings stand in double quotes",
        ("expected `:`", ..) => "a colon is missing before it",
        ("key must be a string", ..) => "keys stand in double quotes",
        ("invalid escape", ..) => "a backslash in a string is written twice: `\\\\`",
        ("invalid number", ..) => NUMBERS,
        ("expected value", Some(b'+' | b'.' | b'-'), _) => NUMBERS,
        ("expected value" | "expected ident", Some(byte), _) if byte.is_ascii_alphabetic() => WORDS,
        (m, ..) if m.starts_with("expected `,`") => "a comma is missing before it",
        (m, ..) if m.starts_with("control character") => {
            "a string ends on its line; a line break in it is written `\\n`"
        }
        (m, ..) if m.contains("surrogate") || m.contains("hex escape") => {
            "write the character itself instead of its escape"
        }
        _ => "a config is JSON with `//` comments; a checker of JSON may say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (usize, usize, String, String) {
        let error = parse_file(text).expect_err("the text is wrong");
        let (line, column) = line_and_column(text, error.offset);
        assert!(!error.hint.is_empty());
        (line, column, error.message, error.hint.to_owned())
    }

    fn line_of(node: &Node, key: &str) -> usize {
        match node.get(key).map(|node| node.origin) {
            Some(Origin::File { line, .. }) => line,
            other => panic!("`{key}` has the origin {other:?}"),
        }
    }

    #[test]
    fn comments_are_removed_outside_of_strings_only() {
        let text = "// hé\n{\"a\": \"x//y\\\"//z\", // \"b\": 1\n\"c\": \"\\\\\"}//end";
        let node = parse_file(text).unwrap();
        assert_eq!(node.to_json(), serde_json::json!({"a": "x//y\"//z", "c": "\\"}));
        assert_eq!((line_of(&node, "a"), line_of(&node, "c")), (2, 3));
        assert_eq!(blank_comments(text).len(), text.len());
    }

    #[test]
    fn every_value_knows_its_line_and_a_number_its_text() {
        let node = parse_file("{\n \"a\": [1,\n 2.50],\n \"b\": {\"c\":\n 4e0}}").unwrap();
        assert_eq!((line_of(&node, "a"), line_of(node.get("b").unwrap(), "c")), (2, 5));
        assert_eq!(node.get("b").unwrap().get("c").unwrap().value, Value::Number("4e0".into()));
    }

    #[test]
    fn the_last_of_equal_keys_wins() {
        let node = parse_file(r#"{"a": 1, "b": 2, "a": 3}"#).unwrap();
        assert_eq!(node.to_json().to_string(), r#"{"b":2,"a":3}"#);
    }

    #[test]
    fn a_syntax_error_names_line_and_column_of_the_original_text() {
        assert_eq!(error("{\"name\": }").0, 1);
        let (line, column, message, hint) = error("{ // é é é\n  \"é\": 1,\n  \"b\": 'x'\n}");
        assert_eq!((line, column, message.as_str()), (3, 8, "expected value"));
        assert_eq!(hint, "strings stand in double quotes");
        let (line, column, ..) = error("{\"é\": x}");
        assert_eq!((line, column), (1, 7));
    }

    #[test]
    fn the_usual_slips_get_a_hint() {
        assert_eq!(error("{\"name\": }").3, "a value is missing after the colon");
        assert_eq!(error("{\"a\": [1, 2,]}").3, "remove the comma before it");
        assert_eq!(error("{\"a\": 1,\n}").3, "remove the comma before it");
        assert_eq!(error("{\"a\": 1\n\"b\": 2}").3, "a comma is missing before it");
        assert_eq!(error("/* hi */ {}").3, "comments begin with `//` and end with the line");
        assert_eq!(error("{} # hi").2, "unexpected text after the end of the config: `# hi`");
        let (line, _, message, hint) = error("{\"a\": [1,\n{\"b\": \"c\n\n");
        assert_eq!(
            (line, message.as_str()),
            (2, "control character (\\u0000-\\u001F) found while parsing a string")
        );
        assert!(hint.contains("a line break"), "{hint}");
        assert_eq!(error("{\"a\": [1,\n2").0, 2);
        assert_eq!(error("{\"a\": [1,\n2").2, "the text ends within a value");
    }

    #[test]
    fn what_only_looks_like_json_is_told_apart() {
        for (text, part) in [
            (r#"{"a": 01}"#, "numbers are written"),
            (r#"{"a": +1}"#, "numbers are written"),
            (r#"{"a": .5}"#, "numbers are written"),
            (r#"{"a": -}"#, "numbers are written"),
            (r#"{"a": 1.}"#, "numbers are written"),
            (r#"{"a": NaN}"#, "no NaN"),
            (r#"{"a": -Infinity}"#, "numbers are written"),
            (r#"{"a": True}"#, "small letters"),
            (r#"{"a": nil}"#, "small letters"),
            (r#"{a: 1}"#, "keys stand in double quotes"),
            (r#"{1: 1}"#, "keys stand in double quotes"),
            (r#"{"a" 1}"#, "a colon is missing"),
            (r#"{"a" "b"}"#, "a colon is missing"),
            (r#"{"a": 1 2}"#, "a comma is missing"),
            (r#"{"a": [1 "b"]}"#, "a comma is missing"),
            (r#"{"a": "\x"}"#, "a backslash in a string"),
            (r#"{"a": "\ud800"}"#, "the character itself"),
        ] {
            let (.., hint) = error(text);
            assert!(hint.contains(part), "{text}: {hint}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        assert_eq!(error("").2, "the text is empty");
        assert_eq!(error(" \n\t").2, "the text is empty");
        assert_eq!(error("// a\n// b").2, "there is nothing but comments");
        assert_eq!(error("\u{feff}{}").2, "the text begins with a byte-order mark");
        assert_eq!(error("\n[1]").2, "expected an object at the top level, found a list");
        assert_eq!(error("\n[1]").0, 2);
        assert_eq!(error("null").2, "expected an object at the top level, found `null`");
        let (line, column, message, _) = error("{\"a\": 1}\n  xyz\n");
        assert_eq!((line, column), (2, 3));
        assert_eq!(message, "unexpected text after the end of the config: `xyz`");
    }

    #[test]
    fn a_bad_string_deep_inside_is_placed() {
        let (line, column, ..) = error("{\"a\": [\n  \"\\ud800\"]}");
        assert_eq!((line, column), (2, 10));
    }

    #[test]
    fn endless_nesting_is_an_error_and_no_stack_overflow() {
        let text = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(error(&text).2, "nested deeper than 64 levels");
    }
}
