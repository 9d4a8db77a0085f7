//! Whether two paths lead to one file.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
#[cfg(not(unix))]
use std::path::PathBuf;

/// What two paths share if they lead to one file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl Identity {
    /// That of the file at `path`, if there is one.
    pub fn at(path: &Path) -> Option<Self> {
        Self::of(path, &fs::metadata(path).ok()?).ok()
    }

    /// That of the file at `path`, of which `kind` is known.
    #[cfg(unix)]
    pub fn of(_: &Path, kind: &Metadata) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        Ok(Self((kind.dev(), kind.ino())))
    }

    /// That of the file at `path`.
    #[cfg(not(unix))]
    pub fn of(path: &Path, _: &Metadata) -> io::Result<Self> {
        path.canonicalize().map(Self)
    }
}

/// Whether both paths lead to one file, whatever links are on the way.
pub fn same_file(a: &Path, b: &Path) -> bool {
    Identity::at(a).is_some_and(|a| Identity::at(b) == Some(a))
}
