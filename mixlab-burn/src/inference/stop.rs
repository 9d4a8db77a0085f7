//! Texts at which a row ends.

/// Looks for the first of some texts in a text that comes in parts, and holds back what may be the
/// beginning of one.
#[derive(Clone, Debug, Default)]
pub struct StopTexts {
    texts: Vec<String>,
    held: String,
}

/// What can be shown, and whether a stop text follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Text before any stop text.
    pub text: String,
    /// Whether a stop text was found.
    pub stopped: bool,
}

impl StopTexts {
    /// Looks for `texts`; empty ones are left out.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Self { texts, held: String::new() }
    }

    /// What can be shown when `text` has come.
    pub fn push(&mut self, text: &str) -> Shown {
        self.held += text;
        let found = self.texts.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return Shown { text: self.finish(), stopped: true };
        }
        let open = |at: &usize| self.texts.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let places = self.held.char_indices().map(|(at, _)| at);
        let kept = places.into_iter().find(open).unwrap_or(self.held.len());
        let rest = self.held.split_off(kept);
        Shown { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// What was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stops: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let mut search = StopTexts::new(stops.iter().map(|text| (*text).to_owned()));
        let mut texts = Vec::new();
        for part in parts {
            let Shown { text, stopped } = search.push(part);
            texts.push(text);
            if stopped {
                return (texts, true);
            }
        }
        texts.push(search.finish());
        (texts, false)
    }

    #[test]
    fn text_is_shown_up_to_the_first_stop_text() {
        assert_eq!(shown(&["\n\n"], &["a\n", "b\n", "\nc"]).0, ["a", "\nb", ""]);
        assert!(shown(&["\n\n"], &["a\n", "b\n", "\nc"]).1);
        assert_eq!(shown(&["yz", "x"], &["ayxz"]), (vec!["ay".into()], true));
        assert_eq!(
            shown(&["ende"], &["den", "dun"]),
            (vec!["d".into(), "endun".into(), String::new()], false)
        );
        assert_eq!(shown(&["ende"], &["den", "den"]), (vec!["d".into(), String::new()], true));
        assert_eq!(shown(&[""], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    }

    #[test]
    fn a_stop_text_may_come_in_parts_and_within_characters_of_several_bytes() {
        let (texts, stopped) = shown(&["é!é"], &["aé", "!", "ä", "é!", "é"]);
        assert_eq!((texts.concat(), stopped), ("aé!ä".to_owned(), true));
    }
}
