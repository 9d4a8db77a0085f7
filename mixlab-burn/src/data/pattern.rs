//! Glob patterns that name shards, and the validation pattern that follows from a training pattern.
//!
//! `*` and `?` (neither crosses `/`), `[class]`, `[^class]`, and a backslash before a character
//! that is meant literally (not on Windows, where it separates folders). `**` is no more than `*`.
//! What matches nothing is taken literally: the whole path, or the folders before the file's name.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use crate::files;

/// What validation shards are called where training shards have `train` or `training`.
const VALIDATION: [&str; 5] = ["val", "valid", "validation", "dev", "eval"];

/// Why a pattern names no files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// No pattern was given.
    #[error("no shard pattern was given\n  hint: name the shards, for example `data/train_*.bin`")]
    None,
    /// The pattern is not well-formed.
    #[error(
        "pattern `{pattern}` is malformed: {reason}\n  hint: a character that is meant literally stands in brackets: `[[]`, `[*]`, `[?]`"
    )]
    Malformed {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing matches.
    #[error(
        "no file matches `{pattern}`\n  hint: check the path, and quote the pattern so that the shell leaves it alone"
    )]
    NoMatch {
        /// As it was given.
        pattern: String,
    },
    /// A folder on the way could not be read.
    #[error("cannot search for `{pattern}`: {source}\n  hint: {}", files::hint(source.error()))]
    Unreadable {
        /// As it was given.
        pattern: String,
        /// Folder and reason.
        source: glob::GlobError,
    },
}

/// Training and validation patterns share shards, so validation measures training data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} validation shards are also training data, first `{}`\n  hint: name the files `train_*` and `val_*`, and use a training pattern that only matches the former",
    if *all { "all" } else { "some" }, first.display()
)]
pub struct Overlap {
    /// The first shard that both patterns match.
    pub first: PathBuf,
    /// Whether every validation shard is also a training shard.
    pub all: bool,
}

/// The files that any of the patterns matches, each once, sorted by the bytes of their path.
///
/// # Errors
/// If a pattern is malformed, matches nothing, or a folder cannot be read.
pub fn expand(patterns: &[String]) -> Result<Vec<PathBuf>, PatternError> {
    if patterns.is_empty() {
        return Err(PatternError::None);
    }
    let mut paths = Vec::new();
    for pattern in patterns {
        paths.extend(expand_one(pattern)?);
    }
    // A path compares by its parts, which is another order: `a/x` before `a-b/x`.
    paths.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    paths.dedup();
    Ok(paths)
}

fn expand_one(pattern: &str) -> Result<Vec<PathBuf>, PatternError> {
    let found = matches(pattern);
    if matches!(&found, Ok(paths) if !paths.is_empty()) {
        return found;
    }
    if Path::new(pattern).exists() {
        return Ok(vec![pattern.into()]);
    }
    let name = pattern.rfind(is_separator).map_or(0, |at| at + 1);
    let (folder, name) = pattern.split_at(name);
    match matches(&(literal(folder) + name)) {
        Ok(paths) if !paths.is_empty() => Ok(paths),
        _ => found.and(Err(PatternError::NoMatch { pattern: pattern.to_owned() })),
    }
}

fn is_separator(c: char) -> bool {
    c == '/' || c == MAIN_SEPARATOR
}

/// What `pattern` matches as it stands.
fn matches(pattern: &str) -> Result<Vec<PathBuf>, PatternError> {
    let malformed =
        |reason: String| PatternError::Malformed { pattern: pattern.to_owned(), reason };
    let translated = translate(pattern).map_err(|reason| malformed(reason.to_owned()))?;
    let found = glob::glob(&translated).map_err(|error| malformed(error.msg.to_owned()))?;
    found
        .collect::<Result<_, _>>()
        .map_err(|source| PatternError::Unreadable { pattern: pattern.to_owned(), source })
}

/// From our dialect to that of the glob library: `[!` negates there, and backslash means nothing.
fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if MAIN_SEPARATOR != '\\' => {
                let literal = chars.next().ok_or("a backslash is its last character")?;
                out += &glob::Pattern::escape(literal.encode_utf8(&mut [0; 4]));
            }
            '*' if out.ends_with('*') => {}
            '[' => out += &translate_class(&mut chars)?,
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// A class after its `[`, through its `]`.
fn translate_class(chars: &mut impl Iterator<Item = char>) -> Result<String, &'static str> {
    let mut inner = String::new();
    loop {
        match chars.next() {
            Some(']') => break,
            Some('\\') => return Err("a backslash within `[…]` is not supported"),
            Some(c) => inner.push(c),
            None => return Err("a `[` has no `]`"),
        }
    }
    match inner.strip_prefix('^') {
        Some("") => Err("a class is empty"),
        Some(excluded) => Ok(format!("[!{excluded}]")),
        None if inner.is_empty() => Err("a class is empty"),
        None if inner.starts_with('!') => Err("write `[^…]` for characters that are not meant"),
        None => Ok(format!("[{inner}]")),
    }
}

/// The pattern that matches exactly the file named `path`.
pub fn literal(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => out.extend(['[', c, ']']),
            '\\' if MAIN_SEPARATOR != '\\' => out += "\\\\",
            _ => out.push(c),
        }
    }
    out
}

/// The pattern that `given` stands for: a folder stands for the shards in it that are called after
/// their `part`, such as `train`.
pub fn in_folder(given: &str, part: &str) -> String {
    if Path::new(given).is_dir() {
        format!("{}/{part}*.bin", literal(given.trim_end_matches('/')))
    } else {
        given.to_owned()
    }
}

/// The validation pattern of a training pattern: `train` becomes `val` in the file name, or in the
/// innermost folder that has it. Without any `train` both are equal (see [`overlap`]).
pub fn validation(train: &str) -> String {
    match named(train, "train") {
        Some(place) => format!("{}val{}", &train[..place.start], &train[place.end..]),
        None => train.to_owned(),
    }
}

/// [`validation`], and the patterns of validation shards by their other usual names.
pub fn validations(train: &str) -> Vec<String> {
    let mut patterns = vec![validation(train)];
    // The same letters in the same places: only their case is another.
    let lower = train.to_ascii_lowercase();
    for place in ["training", "train"].iter().filter_map(|word| named(&lower, word)) {
        let (head, word, tail) =
            (&train[..place.start], &train[place.clone()], &train[place.end..]);
        patterns.extend(VALIDATION.map(|name| format!("{head}{}{tail}", cased(name, word))));
    }
    let mut seen = HashSet::new();
    patterns.retain(|pattern| seen.insert(pattern.clone()));
    patterns
}

/// Where `word` first stands in the file name, or in the innermost folder that has it.
fn named(path: &str, word: &str) -> Option<Range<usize>> {
    let mut end = path.len();
    loop {
        let start = path[..end].rfind(is_separator).map_or(0, |i| i + 1);
        if let Some(at) = path[start..end].find(word) {
            return Some(start + at..start + at + word.len());
        }
        end = start.checked_sub(1)?;
    }
}

/// `name` in the case of `word`.
fn cased(name: &str, word: &str) -> String {
    let is_upper = |byte: &u8| byte.is_ascii_uppercase();
    let mut cased = name.to_owned();
    match word.bytes().filter(is_upper).count() {
        0 => {}
        all if all == word.len() => cased.make_ascii_uppercase(),
        _ => cased[..1].make_ascii_uppercase(),
    }
    cased
}

/// Looks for shards that serve both for training and for validation.
///
/// # Errors
/// As [`expand`] for the training patterns. Validation patterns that match nothing overlap nothing.
pub fn overlap(train: &[String], val: &[String]) -> Result<Option<Overlap>, PatternError> {
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let train: HashSet<_> = expand(train)?.iter().map(real).collect();
    let val = match expand(val) {
        Err(PatternError::NoMatch { .. }) => return Ok(None),
        other => other?,
    };
    let mut shared = val.iter().filter(|path| train.contains(&real(path)));
    let Some(first) = shared.next() else {
        return Ok(None);
    };
    Ok(Some(Overlap { first: first.clone(), all: shared.count() + 1 == val.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Creates empty files and returns which of them the patterns match, in order.
    fn matches(files: &[&str], patterns: &[&str]) -> Result<Vec<String>, PatternError> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = folder.path().to_str().unwrap();
        let full: Vec<_> = patterns.iter().map(|p| format!("{root}/{p}")).collect();
        let name = |path: PathBuf| {
            let inside = path.strip_prefix(root).unwrap();
            inside.to_str().unwrap().to_owned()
        };
        Ok(expand(&full)?.into_iter().map(name).collect())
    }

    #[test]
    fn stars_stay_within_a_folder_and_results_are_sorted_by_bytes() {
        let files = ["b.bin", "a/c.bin", "B.bin", ".h.bin", "a10.bin", "a9.bin"];
        let found = matches(&files, &["*.bin"]).unwrap();
        assert_eq!(found, [".h.bin", "B.bin", "a10.bin", "a9.bin", "b.bin"]);
        assert_eq!(matches(&files, &["**/*.bin"]).unwrap(), ["a/c.bin"]);
        assert_eq!(matches(&["a-b/x", "a/x"], &["*/x"]).unwrap(), ["a-b/x", "a/x"]);
    }

    #[test]
    fn classes_and_question_marks_match_one_character() {
        let files = ["t0", "t1", "t2", "t22"];
        assert_eq!(matches(&files, &["t[0-1]"]).unwrap(), ["t0", "t1"]);
        assert_eq!(matches(&files, &["t[^0-1]"]).unwrap(), ["t2"]);
        assert_eq!(matches(&files, &["t?"]).unwrap(), ["t0", "t1", "t2"]);
    }

    #[test]
    fn several_patterns_name_each_file_once() {
        let found = matches(&["a1", "a2", "b1"], &["b*", "a*", "a1"]);
        assert_eq!(found.unwrap(), ["a1", "a2", "b1"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_backslash_makes_the_next_character_literal() {
        assert_eq!(matches(&["a*b", "axb"], &["a\\*b"]).unwrap(), ["a*b"]);
        assert_eq!(matches(&["ab", "a"], &["a\\b"]).unwrap(), ["ab"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_literal_pattern_matches_only_its_file() {
        for file in ["a*b", "a?b", "a[1]b", "a\\b", "a]b", "[!x]"] {
            let files = [file, "axb", "a1b", "ab"];
            assert_eq!(matches(&files, &[&literal(file)]).unwrap(), [file]);
        }
    }

    /// What a shell completes has brackets as they are.
    #[test]
    fn what_matches_nothing_is_taken_literally() {
        let files = ["d[1]/a[2].bin", "d[1]/b.bin", "e/a2.bin", "e/a[2].bin"];
        assert_eq!(matches(&files, &["d[1]/a[2].bin"]).unwrap(), ["d[1]/a[2].bin"]);
        assert_eq!(matches(&files, &["d[1]/*.bin"]).unwrap(), files[..2]);
        assert_eq!(matches(&files, &["e/a[2].bin"]).unwrap(), ["e/a2.bin"]);
        assert!(matches(&files, &["d[1]/c*.bin"]).is_err());
    }

    #[test]
    fn malformed_and_unmatched_patterns_are_errors() {
        for pattern in ["[a", "[]", "[^]", "[!a]", "[", "[\\a]"] {
            let error = matches(&["a"], &[pattern]).unwrap_err();
            assert!(matches!(error, PatternError::Malformed { .. }), "{error}");
        }
        let error = matches(&["a"], &["a", "b*"]).unwrap_err();
        assert!(matches!(&error, PatternError::NoMatch { pattern } if pattern.ends_with("b*")));
        assert!(matches!(expand(&[]), Err(PatternError::None)));
    }

    #[test]
    fn validation_changes_the_file_name_before_any_folder() {
        assert_eq!(validation("data/train_*.bin"), "data/val_*.bin");
        assert_eq!(validation("train/train_train.bin"), "train/val_train.bin");
        assert_eq!(validation("/train/trainer/x.bin"), "/train/valer/x.bin");
        assert_eq!(validation("strain/a/x.bin"), "sval/a/x.bin");
        assert_eq!(validation("data/*.bin"), "data/*.bin");
    }

    #[test]
    fn validation_shards_have_several_usual_names() {
        let found = validations("data/training_*.bin");
        assert_eq!(found[0], "data/valing_*.bin", "that of the original comes first");
        assert!(found.contains(&"data/validation_*.bin".to_owned()), "{found:?}");
        let found = validations("train/x.bin");
        assert_eq!(
            found,
            ["val", "valid", "validation", "dev", "eval"].map(|n| format!("{n}/x.bin"))
        );
        assert!(validations("É/Train_*.bin").contains(&"É/Valid_*.bin".to_owned()));
        assert!(validations("d/TRAIN.bin").contains(&"d/DEV.bin".to_owned()));
        assert_eq!(validations("data/*.bin"), ["data/*.bin"]);
    }

    #[test]
    fn a_folder_stands_for_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d [1]");
        fs::create_dir(&path).unwrap();
        for name in ["train_0.bin", "train.bin", "val_0.bin", "bytes_per_token.bin"] {
            fs::write(path.join(name), "").unwrap();
        }
        let given = format!("{}/", path.display());
        let found = expand(&[in_folder(&given, "train")]).unwrap();
        assert_eq!(found, ["train.bin", "train_0.bin"].map(|name| path.join(name)));
        assert_eq!(in_folder("data/train_*.bin", "train"), "data/train_*.bin");
    }

    #[test]
    fn shared_shards_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["train_0.bin", "val_0.bin", "val_1.bin"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let pattern = |p: &str| vec![format!("{}/{p}", folder.path().display())];
        let check = |train: &str, val: &str| overlap(&pattern(train), &pattern(val)).unwrap();
        assert_eq!(check("train_*.bin", "val_*.bin"), None);
        assert_eq!(check("train_*.bin", "nothing_*.bin"), None);
        let found = check("*.bin", "val_*.bin").unwrap();
        assert!(found.all && found.first.ends_with("val_0.bin"));
        assert!(!check("*0.bin", "val_*.bin").unwrap().all);
    }
}
