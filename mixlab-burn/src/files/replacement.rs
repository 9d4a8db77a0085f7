//! The right to replace a file, from before there is anything to write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Lock;

/// A file that is about to be replaced.
///
/// What replaces it grows in a hidden file beside it, `.writing-NAME`, on which this process holds a
/// lock: two processes do not write one file, the lock ends with its process, and what a killed one
/// has left is taken over by the next. Dropped without a [`commit`](Self::commit) it leaves the file
/// as it was.
pub struct Replacement {
    path: PathBuf,
    /// The file that grows; none for a pipe or device, which is written to.
    aside: Option<Lock>,
}

impl Replacement {
    /// Makes sure that `path` can be written, and that nobody else does. A link stays, and the file
    /// that it leads to is replaced; missing folders are made.
    ///
    /// # Errors
    /// If `path` is a folder, leads nowhere or cannot be written, or if another process replaces it.
    pub fn begin(path: &Path) -> io::Result<Self> {
        Self::of(path, false)
    }

    /// [`begin`](Self::begin) that waits for others.
    pub(super) fn of(path: &Path, wait: bool) -> io::Result<Self> {
        match path.metadata() {
            Ok(kind) if kind.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(kind) if !kind.is_file() => return Ok(Self { path: path.into(), aside: None }),
            // The file aside has a shorter name, and would only fail to be renamed.
            Err(error) if error.kind() == ErrorKind::InvalidFilename => return Err(error),
            _ => {}
        }
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let path = if path.is_symlink() { path.canonicalize()? } else { path.to_owned() };
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it names no file"));
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        let aside = folder.join(aside_of(&name.to_string_lossy()));
        if !wait {
            clear(folder);
        }
        Ok(Self { aside: Some(take(&aside, wait)?), path })
    }

    /// The file, after links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by what `write` writes.
    ///
    /// # Errors
    /// Those of `write` and of the file system; the file is then as it was.
    pub fn commit(mut self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let Some(aside) = &mut self.aside else {
            return write(&mut OpenOptions::new().write(true).open(&self.path)?);
        };
        if !aside.is_in_place() {
            // Somebody has tidied up.
            return Self::begin(&self.path)?.commit(write);
        }
        write(aside.file())?;
        aside.file().sync_all()?;
        fs::rename(aside.path(), &self.path)?;
        self.aside = None;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            aside.remove();
        }
    }
}

const PREFIX: &str = ".writing-";

/// `.writing-NAME`, as short as file systems want names.
fn aside_of(name: &str) -> String {
    const MOST: usize = 200;
    let start = name.floor_char_boundary(MOST);
    format!("{PREFIX}{}", &name[..start])
}

/// Removes what killed processes have left in `folder`: files aside that nobody holds.
pub(crate) fn clear(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_aside = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_aside
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Some(left) = Lock::left(&entry.path())
        {
            left.remove();
        }
    }
}

/// Takes the file aside, empty.
fn take(aside: &Path, wait: bool) -> io::Result<Lock> {
    let taken = if wait { Some(Lock::wait(aside)?) } else { Lock::take_from_lookers(aside)? };
    let busy = || io::Error::new(ErrorKind::ResourceBusy, "another run is going to write it");
    let mut lock = taken.ok_or_else(busy)?;
    lock.file().set_len(0)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_taken_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/w.st");
        let first = Replacement::begin(&path).unwrap();
        let refused = Replacement::begin(&path).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
        assert!(Replacement::begin(&path.with_file_name("v.st")).is_ok());
        assert!(!path.exists());
        first.commit(|file| file.write_all(b"new")).unwrap();
        assert_eq!(names(&folder.path().join("deep")), ["w.st"]);
        drop(Replacement::begin(&path).unwrap());
        assert_eq!(
            (names(&folder.path().join("deep")), fs::read(&path).unwrap()),
            (vec!["w.st".into()], b"new".into())
        );
    }

    #[test]
    fn what_a_killed_process_has_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".writing-w.st", ".writing-other.st", "writing-x"] {
            fs::write(folder.path().join(name), "half of a long fi").unwrap();
        }
        let other = Replacement::begin(&folder.path().join("at work")).unwrap();
        let path = folder.path().join("w.st");
        Replacement::begin(&path).unwrap().commit(|file| file.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        other.commit(|_| Ok(())).unwrap();
        assert_eq!(names(folder.path()), ["at work", "w.st", "writing-x"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_somebody_tidies_up_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/w.st");
        let begun = Replacement::begin(&path).unwrap();
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        begun.commit(|file| file.write_all(b"kept")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for name in ["", "file/w.st", "..", "new/"] {
            assert!(Replacement::begin(&folder.path().join(name)).is_err(), "{name}");
        }
        assert!(Replacement::begin(Path::new("")).is_err());
        let long = folder.path().join("n".repeat(255));
        Replacement::begin(&long).unwrap().commit(|_| Ok(())).unwrap();
        assert!(long.exists());
    }
}
