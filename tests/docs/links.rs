//! Each relative link of a Markdown page leads to a file, and to a heading if it names one.

use std::fs;
use std::path::Path;

use super::{files, lines, root, shown};

/// The anchor of a heading: lower case, spaces as hyphens, other punctuation left out.
pub(super) fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Inline code of a line, blanked out.
fn without_code(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { part } else { "" }).collect::<Vec<_>>().join("`")
}

/// The targets of the inline links in a text, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line, code) in lines(text) {
        if code {
            continue;
        }
        for part in without_code(line).split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.to_owned()));
        }
    }
    found
}

fn anchors(text: &str) -> Vec<String> {
    let headings = lines(text).into_iter().filter(|(_, line, code)| !code && line.starts_with('#'));
    headings.map(|(_, line, _)| slug(line.trim_start_matches('#'))).collect()
}

/// Pages that are linked before they are written.
const LATER: [&str; 1] = ["docs/performance.md"];

/// What is wrong with a link on `page`, if anything.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => page.to_owned(),
        file => page.parent().unwrap().join(file),
    };
    if !path.exists() {
        if LATER.contains(&target) {
            return None;
        }
        return Some(format!("`{target}` does not exist"));
    }
    let found =
        anchor.is_empty() || anchors(&fs::read_to_string(path).ok()?).contains(&anchor.into());
    (!found).then(|| format!("`{target}` names no heading"))
}

#[test]
fn every_relative_link_resolves() {
    let mut failures = Vec::new();
    let pages = files(&root(), "md");
    assert!(pages.len() >= 10, "only {} pages were found", pages.len());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for (line, target) in links(&text) {
            let problem = broken(&page, &target);
            failures.extend(problem.map(|problem| format!("{}:{line}: {problem}", shown(&page))));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn links_are_found_outside_of_code_and_checked_to_the_heading() {
    let text = "[a](b.md) and `[c](d.md)`, [e](#f-g)\n```\n[h](i.md)\n```\n[j](k.md#l)";
    let found: Vec<_> = links(text).into_iter().collect();
    let expected = [(1, "b.md"), (1, "#f-g"), (5, "k.md#l")];
    assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    assert_eq!(slug(" `training.phases[]`"), "trainingphases");
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(&page, "# Two words\n```\n# Code\n```\n").unwrap();
    assert_eq!(broken(&page, "#two-words"), None);
    assert_eq!(broken(&page, "page.md#two-words"), None);
    assert_eq!(broken(&page, "https://example.org/x"), None);
    assert_eq!(broken(&page, "#code").unwrap(), "`#code` names no heading");
    assert_eq!(broken(&page, "other.md").unwrap(), "`other.md` does not exist");
}
