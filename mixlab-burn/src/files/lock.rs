//! A file that one process holds at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::identity::Identity;

/// The right to a file, or to what the file stands for, as long as this or the process lives: the
/// system frees it, however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    exclusive: bool,
}

impl Lock {
    /// Takes the file at `path`, which is made if there is none and keeps what is in it. `None` if
    /// another holds it.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        // Whoever takes a file only to look at it holds it for a moment.
        Self::try_for(path, 10)
    }

    /// [`take`](Self::take) of a file that others look at by [`left`](Self::left), again and again.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn take_from_lookers(path: &Path) -> io::Result<Option<Self>> {
        Self::try_for(path, 100)
    }

    /// Tries for so many milliseconds, once in each.
    fn try_for(path: &Path, milliseconds: usize) -> io::Result<Option<Self>> {
        for _ in 0..milliseconds {
            if let Some(lock) = Self::open(path, true, File::try_lock)? {
                return Ok(Some(lock));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    /// [`take`](Self::take) that waits for others.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let wait = |file: &File| file.lock().map_err(TryLockError::Error);
        let lock = Self::open(path, true, wait)?;
        Ok(lock.expect("a lock that is waited for is never held by another"))
    }

    /// Takes a file that is there and that nobody holds: a process was killed and left it.
    pub fn left(path: &Path) -> Option<Self> {
        let lock = Self::open(path, false, File::try_lock).ok()??;
        lock.exclusive.then_some(lock)
    }

    fn open(
        path: &Path,
        create: bool,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> io::Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(create).truncate(false).open(path)?;
            let exclusive = match lock(&file) {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(_)) => false,
            };
            let lock = Self { file, path: path.to_owned(), exclusive };
            // Otherwise who had the lock before has moved or removed the file meanwhile.
            if lock.is_in_place() {
                return Ok(Some(lock));
            }
        }
    }

    /// Whether others are kept away; some file systems know no locks.
    #[cfg(feature = "train")]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Where the file was when it was taken.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Whether the file is still at its path; otherwise it was renamed or removed.
    #[cfg(unix)]
    pub fn is_in_place(&self) -> bool {
        let locked = self.file.metadata().and_then(|kind| Identity::of(&self.path, &kind)).ok();
        locked.is_some_and(|locked| Identity::at(&self.path) == Some(locked))
    }

    /// Whether the file is still at its path; here open files stay where they are.
    #[cfg(not(unix))]
    pub fn is_in_place(&self) -> bool {
        true
    }

    /// The lock once more: it is held as long as one of its copies is open, in whichever process.
    ///
    /// # Errors
    /// If the system has no more handles.
    #[cfg(feature = "train")]
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Removes the file, unless something else is at its path by now.
    pub fn remove(self) {
        if self.is_in_place() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn one_holds_it_at_a_time_and_copies_hold_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none() && Lock::left(&path).is_none());
        let copy = lock.share().unwrap();
        drop(lock);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(copy);
        assert!(Lock::left(&path).unwrap().is_exclusive());
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn what_is_in_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        Lock::take(&path).unwrap().unwrap().file().write_all(b"kept").unwrap();
        drop(Lock::take(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    fn only_what_is_there_can_be_left_and_it_is_removed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(Lock::left(&path).is_none() && !path.exists());
        drop(Lock::take(&path).unwrap());
        Lock::left(&path).unwrap().remove();
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn who_waits_for_a_file_that_is_moved_away_gets_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path).unwrap().unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::wait(&path).unwrap().is_in_place()
        });
        sleep(Duration::from_millis(20));
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(!first.is_in_place());
        first.remove();
        assert!(folder.path().join("moved").exists());
        assert!(waiting.join().unwrap());
    }

    /// Those who look for leftovers must not make it look taken.
    #[test]
    fn it_is_free_for_who_takes_it_while_others_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(Lock::take(&path).unwrap());
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            use std::sync::atomic::Ordering::Relaxed;
            scope.spawn(|| {
                while !ended.load(Relaxed) {
                    drop(Lock::left(&path));
                    std::thread::yield_now();
                }
            });
            let take = || Lock::take_from_lookers(&path).unwrap();
            let taken = (0..500).filter(|_| take().is_some()).count();
            ended.store(true, Relaxed);
            assert_eq!(taken, 500);
        });
    }
}
