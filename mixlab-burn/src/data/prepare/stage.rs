//! The output folder, replaced as a whole or not at all.
//!
//! Everything is written into a folder aside. A new output folder appears by one rename; into one
//! that exists the finished files move one after the other, the list of contents last. A run that
//! was killed leaves its folder aside, and the next run in that place clears it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::PrepareError;
use crate::data::bpb;
use crate::data::prepared;
use crate::files::{Lock, same_file};

/// The folder in the folder aside for what is needed while the work goes on.
const SPOOL: &str = ".spool";
const LOCK: &str = ".spool/lock";
/// The tokenizer that was trained here.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// What `prepare` leaves beside shards.
pub const BESIDE: [&str; 5] =
    [TOKENIZER, prepared::NAME, bpb::NAMES[0], bpb::NAMES[1], bpb::NAMES[2]];

/// A folder aside.
pub(super) struct Stage {
    output: PathBuf,
    aside: PathBuf,
    /// Held while this process lives, so that no other takes the folder for a leftover.
    lock: Option<Lock>,
    /// Inputs of this run, which stay where they are.
    inputs: Vec<PathBuf>,
}

impl Stage {
    /// Makes the folder aside, and clears those that killed runs have left.
    pub fn new(output: &Path) -> Result<Self, PrepareError> {
        let refused = |reason: &str| {
            let (path, reason) = (output.to_owned(), reason.to_owned());
            Err(PrepareError::Output { path, reason })
        };
        let (place, name) = match (fs::metadata(output), output.file_name()) {
            (Ok(kind), _) if kind.is_dir() => (output.to_owned(), OsStr::new("")),
            (Ok(_), _) => return refused("it is a file, and shards need a folder"),
            (Err(_), None) => return refused("it names no folder"),
            (Err(_), _) if output.is_symlink() => return refused("it is a link to nothing"),
            (Err(_), Some(name)) => (output.parent().unwrap_or(Path::new("")).to_owned(), name),
        };
        let place = if place.as_os_str().is_empty() { PathBuf::from(".") } else { place };
        fs::create_dir_all(&place).map_err(PrepareError::io(&place))?;
        let prefix = format!(".preparing-{}-", name.to_string_lossy());
        if clear(&place, &prefix).map_err(PrepareError::io(&place))? {
            return refused("another `prepare` is writing there");
        }
        let aside = place.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir(&aside).map_err(PrepareError::io(&aside))?;
        let mut stage = Self { output: output.to_owned(), aside, lock: None, inputs: Vec::new() };
        let made = fs::create_dir(stage.spool());
        let lock = made.and_then(|()| Lock::wait(&stage.aside.join(LOCK)));
        stage.lock = Some(lock.map_err(PrepareError::io(&stage.aside))?);
        Ok(stage)
    }

    /// The folder aside, whose files will be in the output.
    pub fn path(&self) -> &Path {
        &self.aside
    }

    /// A folder for files that will not.
    pub fn spool(&self) -> PathBuf {
        self.aside.join(SPOOL)
    }

    /// Keeps the inputs of this run, and refuses those that the output would replace.
    pub fn keep<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a Path>,
        tokenizer: Option<&Path>,
    ) -> Result<(), PrepareError> {
        for path in texts {
            let name = path.file_name().unwrap_or_default();
            if is_ours(name) && same_file(path, &self.output.join(name)) {
                let reason = format!("it would replace the input `{}`", path.display());
                return Err(PrepareError::Output { path: self.output.clone(), reason });
            }
        }
        self.inputs.extend(tokenizer.map(Path::to_owned));
        Ok(())
    }

    /// Puts everything in place, and removes what an earlier run has written there.
    pub fn commit(mut self) -> Result<(), PrepareError> {
        self.lock = None;
        let failed = || PrepareError::io(&self.output);
        fs::remove_dir_all(self.spool()).map_err(failed())?;
        if fs::rename(&self.aside, &self.output).is_ok() {
            return Ok(());
        }
        let stays = |path: &Path| self.inputs.iter().any(|input| same_file(input, path));
        let is_contents = |name: &OsStr| name == OsStr::new(prepared::NAME);
        let mut old = names(&self.output).map_err(failed())?;
        old.retain(|name| is_ours(name) && !stays(&self.output.join(name)));
        old.sort_by_key(|name| !is_contents(name));
        let mut new = names(&self.aside).map_err(failed())?;
        new.sort_by_key(|name| is_contents(name));
        for name in old.iter().filter(|name| is_contents(name) || !new.contains(name)) {
            fs::remove_file(self.output.join(name)).map_err(failed())?;
        }
        for name in &new {
            let to = self.output.join(name);
            fs::rename(self.aside.join(name), &to).map_err(PrepareError::io(&to))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a commit there is nothing left, or an empty folder.
        let _ = fs::remove_dir_all(&self.aside);
    }
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Whether `prepare` gives its files such a name.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let number = ["train_", "val_"].iter().find_map(|start| name.strip_prefix(start));
    let number = number.and_then(|rest| rest.strip_suffix(".bin")).unwrap_or_default();
    let shard = number.len() >= 5 && number.bytes().all(|digit| digit.is_ascii_digit());
    shard || BESIDE.contains(&name)
}

/// Removes the folders aside of processes that are no more. Returns whether one is still at work.
fn clear(place: &Path, prefix: &str) -> io::Result<bool> {
    let mut at_work = false;
    for name in names(place)? {
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        if !number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit())) {
            continue;
        }
        let folder = place.join(&name);
        // Where a file system knows no locks, a process at work cannot be told from one that is gone.
        match Lock::take(&folder.join(LOCK)) {
            Ok(None) => at_work = true,
            _ => fs::remove_dir_all(&folder)?,
        }
    }
    Ok(at_work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(folder: &Path) -> Vec<String> {
        let mut found: Vec<_> =
            names(folder).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
        found.sort();
        found
    }

    fn fill(folder: &Path, files: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|name| fs::write(folder.join(name), name).unwrap());
    }

    #[test]
    fn a_new_folder_appears_whole_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("deep/out");
        let stage = Stage::new(&output).unwrap();
        fill(stage.path(), &["train_00000.bin"]);
        assert!(!output.exists());
        stage.commit().unwrap();
        assert_eq!(contents(&output), ["train_00000.bin"]);
        assert_eq!(contents(&root.path().join("deep")), ["out"]);
    }

    #[test]
    fn files_of_an_earlier_run_go_and_those_of_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let old =
            ["train_00000.bin", "train_00001.bin", "val_00000.bin", "notes.txt", "train_a.bin"];
        fill(root.path(), &old);
        fill(root.path(), &[TOKENIZER, prepared::NAME]);
        let stage = Stage::new(root.path()).unwrap();
        fill(stage.path(), &["train_00000.bin", "val_00000.bin", prepared::NAME]);
        stage.commit().unwrap();
        let expected =
            ["notes.txt", prepared::NAME, "train_00000.bin", "train_a.bin", "val_00000.bin"];
        assert_eq!(contents(root.path()), expected);
    }

    #[test]
    fn without_a_commit_everything_stays_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("out");
        fill(&output, &["train_00000.bin", "val_00003.bin"]);
        let stage = Stage::new(&output).unwrap();
        fill(stage.path(), &["train_00000.bin"]);
        drop(stage);
        assert_eq!(contents(&output), ["train_00000.bin", "val_00003.bin"]);
        drop(Stage::new(&root.path().join("new")).unwrap());
        assert_eq!(contents(root.path()), ["out"]);
    }

    #[test]
    fn a_supplied_tokenizer_in_the_output_stays_and_a_text_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), &[TOKENIZER, "train_00000.bin"]);
        let (tokenizer, text) = (root.path().join(TOKENIZER), root.path().join("train_00000.bin"));
        let mut stage = Stage::new(root.path()).unwrap();
        let error = stage.keep([text.as_path()].into_iter(), None).unwrap_err().to_string();
        assert!(error.contains("would replace the input"), "{error}");
        stage.keep([].into_iter(), Some(&tokenizer)).unwrap();
        stage.commit().unwrap();
        assert_eq!(contents(root.path()), [TOKENIZER]);
    }

    #[test]
    fn leftovers_of_killed_runs_are_cleared_and_a_running_one_is_respected() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("out");
        fill(&root.path().join(".preparing-out-1/.spool"), &["lock", "ids"]);
        fill(&root.path().join(".preparing-other-1/.spool"), &["lock"]);
        let first = Stage::new(&output).unwrap();
        assert!(!root.path().join(".preparing-out-1").exists());
        assert!(root.path().join(".preparing-other-1").exists());
        let error = Stage::new(&output).err().unwrap().to_string();
        assert!(error.contains("another `prepare` is writing there"), "{error}");
        drop(first);
        assert!(Stage::new(&output).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn outputs_that_are_no_folders_are_refused_and_links_to_folders_followed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fill(root.path(), &["file"]);
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        fs::create_dir(at("real")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        let refused = |name: &str| Stage::new(&at(name)).err().unwrap().to_string();
        assert!(refused("file").contains("it is a file"));
        assert!(refused("dangling").contains("a link to nothing"));
        assert!(refused("file/below").contains("file"));
        let stage = Stage::new(&at("link")).unwrap();
        fill(stage.path(), &["val_00000.bin"]);
        stage.commit().unwrap();
        assert!(at("link").is_symlink() && at("real/val_00000.bin").is_file());
    }
}
