//! Which files of a folder are configs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::RaceError;
use super::queue::RACE;

/// What `prepare` writes beside shards, and is no config.
const OF_DATA: [&str; 2] = ["prepared.json", "tokenizer.json"];

/// All files in `folder` and below whose names end in `.json`, in any case, sorted by path. Each
/// folder is walked once, whatever links lead to it; folders of races are left out, for their
/// configs are copies, and so is what [`prepare`](crate::data) writes beside shards.
///
/// # Errors
/// If a folder cannot be read, or there are no such files.
pub fn configs(folder: &Path) -> Result<Vec<PathBuf>, RaceError> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    walk(folder, &mut found, &mut seen)?;
    found.sort();
    if found.is_empty() {
        Err(RaceError::NoConfigs { folder: folder.to_owned() })
    } else {
        Ok(found)
    }
}

fn walk(
    folder: &Path,
    found: &mut Vec<PathBuf>,
    seen: &mut HashSet<PathBuf>,
) -> Result<(), RaceError> {
    let failed = |source| RaceError::Read { path: folder.to_owned(), source };
    let real = folder.canonicalize().map_err(failed)?;
    if !seen.insert(real) || folder.join(RACE).is_file() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let is_of_data = OF_DATA.iter().any(|name| path.ends_with(name));
        if path.is_dir() {
            walk(&path, found, seen)?;
        } else if is_json && !is_of_data && !is_endless(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether reading it may never end: a pipe, or a device.
fn is_endless(path: &Path) -> bool {
    path.metadata().is_ok_and(|kind| !kind.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_found_below_and_sorted_and_those_of_races_are_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        assert!(matches!(configs(folder), Err(RaceError::NoConfigs { .. })));
        let others = ["race-1/race.json", "race-1/1/config.json", "data/tokenizer.json", "c.txt"];
        for path in ["b.json", "deep/a.JSON"].into_iter().chain(others) {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder, folder.join("deep/loop")).unwrap();
            let pipe = folder.join("pipe.json");
            assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let found = configs(folder).unwrap();
        assert_eq!(found, ["b.json", "deep/a.JSON"].map(|name| folder.join(name)));
    }
}
