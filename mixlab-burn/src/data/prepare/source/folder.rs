//! The text files of a folder, each once, whatever links lead to it.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::{Name, PrepareError};
use crate::data::prepare::LeftOut;
use crate::files::Identity;

/// The files in the order in which they are read, and what was left out.
#[derive(Default)]
pub(super) struct Listing {
    pub files: Vec<PathBuf>,
    /// Files called `.json`: only a look inside tells whether they are a corpus.
    pub perhaps: Vec<PathBuf>,
    pub left_out: LeftOut,
}

/// Searches `folder` and all folders below it.
pub(super) fn search(folder: &Path) -> Result<Listing, PrepareError> {
    let mut walk = Walk { found: Listing::default(), seen: HashSet::new(), links: Vec::new() };
    walk.folder(folder)?;
    // Links come last, so that a file is called by its own name where it has one here.
    while let Some(link) = walk.links.pop() {
        match fs::metadata(&link) {
            Ok(kind) => walk.entry(link, &kind)?,
            Err(_) => walk.found.left_out.links += 1,
        }
    }
    let mut found = walk.found;
    found.files.sort_by_cached_key(|path| (Name::of(path), path.clone()));
    found.perhaps.sort();
    Ok(found)
}

struct Walk {
    found: Listing,
    seen: HashSet<Identity>,
    links: Vec<PathBuf>,
}

impl Walk {
    fn folder(&mut self, folder: &Path) -> Result<(), PrepareError> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let failed = || PrepareError::io(&folder);
            let kind = fs::metadata(&folder).map_err(failed())?;
            if !self.seen.insert(Identity::of(&folder, &kind).map_err(failed())?) {
                self.found.left_out.links += 1;
                continue;
            }
            let entries = fs::read_dir(&folder).and_then(|entries| {
                entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()
            });
            let mut paths = entries.map_err(failed())?;
            paths.sort();
            for path in paths {
                if is_hidden(&path) {
                    self.found.left_out.hidden += 1;
                    continue;
                }
                let kind = fs::symlink_metadata(&path).map_err(PrepareError::io(&path))?;
                if kind.is_dir() { folders.push(path) } else { self.entry(path, &kind)? }
            }
        }
        self.links.sort_by(|a, b| b.cmp(a));
        Ok(())
    }

    /// Takes what is no folder itself; links wait, and lead to a folder later.
    fn entry(&mut self, path: PathBuf, kind: &Metadata) -> Result<(), PrepareError> {
        let left_out = &mut self.found.left_out;
        if kind.is_symlink() {
            self.links.push(path);
        } else if kind.is_dir() {
            self.folder(&path)?;
        } else if !kind.is_file() {
            left_out.special += 1;
        } else if is_temporary(&path) {
            left_out.temporary += 1;
        } else if Name::of(&path) == Name::Other {
            left_out.other += 1;
        } else if !self.seen.insert(Identity::of(&path, kind).map_err(PrepareError::io(&path))?) {
            left_out.links += 1;
        } else if Name::of(&path) == Name::Json {
            self.found.perhaps.push(path);
        } else {
            self.found.files.push(path);
        }
        Ok(())
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// What editors and downloads leave behind.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = ["~", ".tmp", ".temp", ".swp", ".part", ".partial", ".crdownload", ".incomplete"];
    name.starts_with("~$") || ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> (Vec<String>, LeftOut) {
        let found = search(folder).unwrap();
        let name = |path: &PathBuf| {
            path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/")
        };
        (found.files.iter().chain(&found.perhaps).map(name).collect(), found.left_out)
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("folder").tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    #[test]
    fn hidden_temporary_and_other_files_are_left_out_and_counted() {
        let files = [
            ".git/a.txt",
            ".b.txt",
            "c.txt~",
            "~$d.txt",
            "e.jsonl.part",
            "f.md",
            "g.bin",
            "h.TXT",
            "i/j.ndjson",
            "i/k.txt.gz",
            "i/l.parquet",
            "m.json",
            "n.JSONL",
        ];
        let folder = folder(&files);
        let (names, left_out) = names(folder.path());
        assert_eq!(
            names,
            ["h.TXT", "i/k.txt.gz", "i/j.ndjson", "n.JSONL", "i/l.parquet", "m.json"]
        );
        let expected = LeftOut { hidden: 2, temporary: 3, other: 2, ..LeftOut::default() };
        assert_eq!(left_out, expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_found_once_whatever_links_lead_to_it() {
        use std::os::unix::fs::symlink;
        let (inside, outside) = (folder(&["b.txt", "sub/c.txt"]), folder(&["d.txt", "deep/e.txt"]));
        let at = |name: &str| inside.path().join(name);
        symlink(inside.path(), at("loop")).unwrap();
        symlink("..", at("sub/up")).unwrap();
        symlink("b.txt", at("a.txt")).unwrap();
        symlink("nowhere", at("dangling.txt")).unwrap();
        symlink(outside.path(), at("other")).unwrap();
        symlink(outside.path().join("deep"), at("again")).unwrap();
        symlink(inside.path(), outside.path().join("back")).unwrap();
        fs::hard_link(at("b.txt"), at("hard.txt")).unwrap();
        let (names, left_out) = names(inside.path());
        let mut files: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap()).collect();
        files.sort();
        assert_eq!(files.len(), 4, "{names:?}");
        assert_eq!(files[1..], ["c.txt", "d.txt", "e.txt"]);
        assert!(left_out.links >= 6, "{left_out:?}");
    }
}
