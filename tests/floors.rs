//! Ops of `mixlab-ops` stand on one floor: what several of them need is in `plumbing/`, and none
//! looks into the folder of another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::docs::{files, root};

fn source() -> PathBuf {
    root().join("mixlab-ops/src")
}

/// Code without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first names of what `text` begins with: one path, or a list of paths in braces.
fn names(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let first = |path: &'_ str| path.trim().find(|c| !is_name(c)).unwrap_or(path.trim().len());
    match text.strip_prefix('{') {
        Some(list) => {
            let list = list.split('}').next().unwrap_or_default();
            list.split(',').map(|path| &path.trim()[..first(path)]).collect()
        }
        None => vec![&text[..first(text)]],
    }
}

/// Which folder each public name of the crate comes from.
fn homes() -> BTreeMap<String, String> {
    let root = code(&source().join("lib.rs"));
    let mut homes = BTreeMap::new();
    for statement in root.split("pub use ").skip(1) {
        let (home, items) = statement.split_once("::").unwrap();
        for name in names(items) {
            homes.insert(name.to_owned(), home.to_owned());
        }
    }
    homes
}

/// The folders of ops.
fn ops() -> Vec<String> {
    let floors = ["capture", "plumbing", "shape", "testing"];
    let entries = fs::read_dir(source()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| !floors.contains(&name.as_str())).collect()
}

#[test]
fn no_op_looks_into_the_folder_of_another() {
    let (ops, homes) = (ops(), homes());
    assert!(ops.iter().any(|op| op == "attention") && homes["attention"] == "attention");
    let mut found = Vec::new();
    for op in &ops {
        let files = files(&source().join(op), "rs").into_iter();
        for file in files.filter(|file| !file.ends_with("tests.rs")) {
            for used in code(&file).split("crate::").skip(1).flat_map(names) {
                let home = homes.get(used).map_or(used, String::as_str);
                if home != op && ops.iter().any(|other| other == home) {
                    found.push(format!("{}: `{used}` of `{home}`", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "move what they share to `plumbing/`:\n{}", found.join("\n"));
}

#[test]
fn the_page_of_the_crate_lists_every_operation_that_is_a_function() {
    let (ops, page) = (ops(), fs::read_to_string(source().join("lib.rs")).unwrap());
    let rows = page.lines().filter(|line| line.starts_with("//! | [`"));
    let table = rows.collect::<Vec<_>>().join("\n");
    let is_function = |name: &str| name.starts_with(char::is_lowercase);
    let functions: Vec<String> = homes()
        .into_iter()
        .filter(|(name, home)| ops.contains(home) && is_function(name))
        .map(|(name, _)| name)
        .collect();
    assert!(functions.len() > 20, "{functions:?}");
    for name in functions {
        let listed = [format!("[`{name}`]"), format!("[`fn@{name}`]")];
        assert!(listed.iter().any(|link| table.contains(link)), "`{name}` is not in the table");
    }
}
