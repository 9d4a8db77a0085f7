//! What is wrong with a config, collected until everything has been looked at.

use std::collections::HashSet;
use std::fmt;

use super::shorten::{self, shortened};

/// One thing that is wrong, or only odd, in a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `blocks[0].heads`; empty for the config as a whole.
    pub path: String,
    /// What is wrong, with the value that is.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// Whether the config can be used all the same.
    pub warning: bool,
}

impl Problem {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None, warning: false }
    }

    /// The same problem with a way out.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint(hint);
        self
    }

    /// Adds the way out.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Proof that an error was reported: nothing but [`Problems`] makes one. A check that fails returns
/// it, so that none can fail in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported(());

/// The collector into which all checks of a config report.
///
/// The first fifty errors are kept; of more only the number is, and where they are.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    all: Vec<Problem>,
    errors: usize,
    /// Takes what is said of an error that is not kept.
    dropped: Problem,
    /// Where errors are, for [`Problems::check`].
    bad: HashSet<String>,
}

impl Problems {
    /// Reports an error; chain [`Problem::hint`] to add the way out.
    pub fn error(&mut self, path: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        let problem = Problem::new(path, message);
        self.bad.insert(problem.path.clone());
        self.errors += 1;
        if self.errors > KEPT {
            self.dropped = problem;
            return &mut self.dropped;
        }
        self.push(problem)
    }

    /// Reports an error with the way out.
    pub fn report(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Reported {
        self.error(path, message).hint(hint);
        Reported(())
    }

    /// Reports something that is odd, but can be used.
    pub fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.push(Problem { warning: true, ..Problem::new(path, message) })
    }

    /// Whether further errors are only counted, so that no hint of them is seen.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= KEPT
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Gives the way out to the problems from number `first` on that have none.
    pub(super) fn hint_from(&mut self, first: usize, hint: impl Fn() -> String) {
        let without = self.all[first..].iter_mut().filter(|problem| problem.hint.is_none());
        without.for_each(|problem| problem.hint = Some(hint()));
    }

    /// Errors that are not kept.
    pub(super) fn dropped(&self) -> usize {
        self.errors.saturating_sub(KEPT)
    }

    /// Whether anything makes the config unusable.
    pub fn has_errors(&self) -> bool {
        !self.bad.is_empty()
    }

    /// Whether the value at `path` is what the user wrote.
    ///
    /// # Errors
    /// If an error was reported there, or at something around it.
    pub fn check(&self, path: &str) -> Result<(), Reported> {
        let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
        let mut around = ends.map(|end| &path[..end]);
        if around.any(|path| self.bad.contains(path)) { Err(Reported(())) } else { Ok(()) }
    }

    /// Whether [`Problems::check`] fails.
    pub fn is_bad(&self, path: &str) -> bool {
        self.check(path).is_err()
    }

    /// The problems in the order of their report.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.all.iter()
    }

    fn push(&mut self, problem: Problem) -> &mut Problem {
        let at = self.all.len();
        self.all.push(problem);
        &mut self.all[at]
    }
}

/// A problem with the place where it was written.
///
/// Prints as `file.json:12: blocks[0].heads: what is wrong`, with the hint on a
/// second line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `file.json:12`, or the `--set path=value` that the value comes from.
    pub place: String,
    /// What was found there.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { path, message, hint, .. } = &self.problem;
        write!(f, "{}: ", self.place)?;
        if !path.is_empty() {
            write!(f, "{}: ", shortened(&shorten::value(path)))?;
        }
        f.write_str(&shortened(message))?;
        hint.iter().try_for_each(|hint| write!(f, "\n  hint: {}", shortened(hint)))
    }
}

/// The first fifty errors that were found in a config, in the order of the file, and how many more
/// there are. Prints a paragraph for each.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ConfigError {
    findings: Vec<Finding>,
    more: usize,
}

/// Errors that [`Problems`] keeps.
const KEPT: usize = 50;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{finding}")?;
        }
        match self.more {
            0 => Ok(()),
            1 => f.write_str("\nand `1` more error"),
            more => write!(f, "\nand `{more}` more errors"),
        }
    }
}

impl ConfigError {
    pub(super) fn new(findings: Vec<Finding>, more: usize) -> Self {
        Self { findings, more }
    }

    /// The single error `problem` at `place`.
    pub(crate) fn at(place: impl Into<String>, problem: Problem) -> Self {
        Self::new(vec![Finding { place: place.into(), problem }], 0)
    }

    /// The errors that were kept, without their places.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.findings.iter().map(|finding| &finding.problem)
    }

    /// The errors that were kept, with their places.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many more errors there are.
    pub fn more(&self) -> usize {
        self.more
    }
}

/// The candidate that `word` is most likely a slip of, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let limit = (length / 2).min(3);
    // Each character too many or too few is one slip: most candidates need no closer look.
    let near = |candidate: &&str| candidate.chars().count().abs_diff(length) <= limit;
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, candidate);
    let scored =
        candidates.into_iter().filter(near).map(|candidate| (distance(candidate), candidate));
    scored
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, found)| found)
}

/// A hint from [`nearest`], or else the list of what is known.
pub fn nearest_hint(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(found) => format!("did you mean `{found}`?"),
        None => format!("known {what}: `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_prints_place_path_message_and_hint() {
        let problem = Problem::new("blocks[0].heads", "`5` does not divide model_dim `32`");
        let mut finding = Finding { place: "a.json:12".into(), problem };
        assert_eq!(
            finding.to_string(),
            "a.json:12: blocks[0].heads: `5` does not divide model_dim `32`"
        );
        finding.problem.hint("use 4 or 8");
        assert!(finding.to_string().ends_with("`32`\n  hint: use 4 or 8"));
        let whole = ConfigError::at("a.json:1:3", Problem::new("", "expected value"));
        assert_eq!(whole.to_string(), "a.json:1:3: expected value");
    }

    #[test]
    fn a_field_is_bad_when_it_or_something_around_it_is() {
        let mut problems = Problems::default();
        problems.error("blocks[1]", "expected an object");
        problems.error("training.lr", "expected a number");
        problems.warn("seq_len", "odd");
        for bad in ["blocks[1]", "blocks[1].heads", "training.lr"] {
            assert!(problems.is_bad(bad), "{bad}");
        }
        for good in
            ["blocks", "blocks[10]", "blocks[0].heads", "training", "training.lr2", "seq_len"]
        {
            assert!(!problems.is_bad(good), "{good}");
        }
    }

    #[test]
    fn a_warning_is_no_error() {
        let mut problems = Problems::default();
        problems.warn("a", "odd").hint("look");
        assert!(!problems.has_errors());
        problems.error("b", "wrong");
        assert!(problems.has_errors());
        assert_eq!(problems.iter().next().unwrap().hint.as_deref(), Some("look"));
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["batch_tokens", "heads", "kv_heads", "lr", "steps"];
        let find = |word| nearest(word, known);
        assert_eq!(find("batchTokens"), Some("batch_tokens"));
        assert_eq!(find("n_heads"), Some("heads"));
        assert_eq!(find("stesp"), Some("steps"));
        assert_eq!(find("foo"), None);
        assert_eq!(find("learning_rate"), None);
        assert_eq!(nearest_hint("foo", "names", &["a", "b"]), "known names: `a`, `b`");
    }
}
