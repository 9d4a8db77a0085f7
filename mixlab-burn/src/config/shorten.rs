//! Messages of a length that can be read, whatever the values in them are.

/// Characters of a value that are shown.
const VALUE: usize = 80;
/// Characters that may stand between two values.
const WORDS: usize = 400;
/// Characters of a whole message.
const MESSAGE: usize = 4000;

/// A message on one line: what stands between backticks is cut to 80 characters, and control
/// characters are escaped.
pub fn shortened(message: &str) -> String {
    let parts = message.split('`').enumerate();
    let parts = parts.map(|(i, part)| cut(part, if i % 2 == 1 { VALUE } else { WORDS }));
    let whole = cut(&parts.take(MESSAGE).collect::<Vec<_>>().join("`"), MESSAGE);
    let escaped =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    whole.chars().map(escaped).collect()
}

/// The beginning of a value, and `…` if there is more.
pub(super) fn value(text: &str) -> String {
    cut(text, VALUE)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_what_is_said_of_them_is_not() {
        let long = "é".repeat(1000);
        let message = format!("found `{long}`, expected `a`");
        assert_eq!(shortened(&message), format!("found `{}…`, expected `a`", "é".repeat(80)));
        assert_eq!(shortened("expected `a`, found `b`"), "expected `a`, found `b`");
        assert_eq!(shortened("`a\u{1b}[2J\nhint: `"), "`a\\u{1b}[2J\\nhint: `");
    }

    #[test]
    fn values_with_backticks_make_no_long_messages() {
        for value in ["`".repeat(100_000), "a`".repeat(100_000), format!("`{}", "b".repeat(9999))] {
            assert!(shortened(&format!("found `{value}`")).chars().count() <= MESSAGE + 1);
        }
    }
}
