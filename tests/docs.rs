//! What the documentation says is true: it is generated, or it is run.

mod custom_ops;
mod links;
mod packages;
mod picture;
mod reference;
mod snippets;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate is a member of the workspace").to_owned()
}

/// All files below `folder` whose name ends in `.{extension}`, sorted; none if there is no such
/// folder. Build outputs and hidden folders are left out.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path.is_file() && path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Fails unless the file `name` of the workspace is `text`; with `UPDATE_DOCS` it becomes that.
fn assert_written(name: &str, text: &str) {
    let path = root().join(name);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        written == text,
        "{name} is out of date, first at {differs:?}; run the test with UPDATE_DOCS=1"
    );
}

/// A path as it is named in messages: relative to the workspace.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a Markdown text with their numbers (from 1), and whether each is code.
fn lines(text: &str) -> Vec<(usize, &str, bool)> {
    let mut fenced = false;
    let mark = |(index, line): (usize, &'_ str)| {
        let fence = line.trim_start().starts_with("```");
        let code = fenced || fence;
        fenced ^= fence;
        (index + 1, code)
    };
    let marks: Vec<_> = text.lines().enumerate().map(mark).collect();
    text.lines().zip(marks).map(|(line, (number, code))| (number, line, code)).collect()
}
