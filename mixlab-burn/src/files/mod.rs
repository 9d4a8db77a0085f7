//! Files that appear whole (written under another name, synced, renamed), and files that one process
//! holds at a time.

mod identity;
mod lock;
mod replacement;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

#[cfg(feature = "data")]
pub(crate) use identity::Identity;
pub use identity::same_file;
pub(crate) use lock::Lock;
pub use replacement::Replacement;
#[cfg(feature = "train")]
pub(crate) use replacement::clear;

/// Replaces `path` by what `write` writes, or leaves it as it was: a [`Replacement`] from beginning
/// to end. Waits for others who replace it.
///
/// # Errors
/// Those of `write`, or if the folder cannot be written to or a link leads nowhere.
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    Replacement::of(path, true)?.commit(write)
}

/// Bytes that a config, a tokenizer or a prompt may have: hundreds of times those of the largest.
const LONGEST: u64 = 1 << 28;

/// Reads `from`, a file of a kind that is small, to its end. What has no end, as some devices have
/// not, takes no more memory than the longest.
///
/// # Errors
/// If it cannot be read or has more than 256 MiB.
pub fn read_small(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let problem = format!("it has more than {} MiB", LONGEST >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// [`read_small`] of the file at `path`.
///
/// # Errors
/// As [`read_small`].
pub fn read_small_file(path: &Path) -> io::Result<Vec<u8>> {
    read_small(File::open(path)?)
}

/// `path`, if it leads to a regular file: of the files that are known by their names alone none is a
/// pipe or device, and these may never end.
///
/// # Errors
/// If there is no such file.
#[cfg(any(feature = "data", feature = "train"))]
pub(crate) fn regular(path: &Path) -> io::Result<&Path> {
    let is_file = path.metadata()?.is_file();
    is_file.then_some(path).ok_or_else(|| io::Error::other("it is no regular file"))
}

/// The way out of an error of the file system.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "check who may read and write there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on the disk",
        ErrorKind::ReadOnlyFilesystem => "choose a place on a disk that can be written",
        ErrorKind::IsADirectory => "it is a folder; name a file",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of the path is a file where a folder is needed"
        }
        ErrorKind::ResourceBusy => "wait for the other run, or choose another name",
        ErrorKind::UnexpectedEof => "the file is cut off; write it anew",
        ErrorKind::InvalidData => {
            "it is damaged, or packed as only its packer can read; unpack it first"
        }
        ErrorKind::FileTooLarge => "look whether that is the right file",
        ErrorKind::InvalidFilename => "give it a shorter name",
        _ => "check the path, and whether the disk is in order",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        assert_eq!(read_small(&b"text"[..]).unwrap(), b"text");
        assert_eq!(read_small(io::repeat(0)).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        replace_file(&path, |file| file.write_all(b"old")).unwrap();
        let failed = replace_file(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str| replace_file(&at(name), |file| file.write_all(b"new"));
        std::fs::write(at("real"), "old").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        write("link").unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read(at("real")).unwrap(), b"new");
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        assert!(write("dangling").is_err() && at("dangling").is_symlink());
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || std::fs::read(pipe).unwrap()
        });
        write("pipe").unwrap();
        assert_eq!(reader.join().unwrap(), b"new");
        assert!(!at("pipe").metadata().unwrap().is_file());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_far_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let ordinary = folder.path().join("ordinary");
        std::fs::write(&ordinary, "").unwrap();
        let replaced = folder.path().join("replaced");
        replace_file(&replaced, |_| Ok(())).unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&replaced), mode(&ordinary));
    }
}
