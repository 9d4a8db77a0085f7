//! Shards that come through pipes. Shards are read at many places and more than once, so a pipe that
//! is named is copied to a temporary file first. On Linux that file has no name: it is gone when the
//! process is, however that ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mixlab_burn::data::pattern;
use mixlab_burn::data::shard::{HEADER_BYTES, Layout, Shard};

use crate::memory::bytes;
use crate::out;

/// Bytes between two looks at the clock.
const BLOCK: u64 = 1 << 20;
/// Between two lines of progress in a log.
const LINES: Duration = Duration::from_secs(10);

/// The copies of pipes. They last as long as this.
#[derive(Default)]
pub struct Spool(Vec<place::Copy>);

/// Whether `given` names a pipe or a socket.
pub fn is_pipe(given: &str) -> bool {
    #[cfg(unix)]
    if let Ok(kind) = std::fs::metadata(given) {
        use std::os::unix::fs::FileTypeExt;
        return kind.file_type().is_fifo() || kind.file_type().is_socket();
    }
    false
}

impl Spool {
    /// The patterns that those in `given` stand for: of copies where they are pipes, of the shards
    /// that are called after their `part` where they are folders, as they are otherwise.
    ///
    /// # Errors
    /// If what comes through a pipe is no shard, or finds no room.
    pub fn patterns(
        &mut self,
        given: &[String],
        part: &str,
        layout: Layout,
    ) -> anyhow::Result<Vec<String>> {
        let one = |given: &String| {
            if is_pipe(given) {
                self.copy(given, layout)
            } else {
                Ok(pattern::in_folder(given, part))
            }
        };
        given.iter().map(one).collect()
    }

    /// Copies the pipe `given`.
    fn copy(&mut self, given: &str, layout: Layout) -> anyhow::Result<String> {
        let folder = std::env::temp_dir();
        let failed = || {
            format!(
                "cannot copy the pipe `{given}` to a file in `{}`\n  hint: `TMPDIR` names a folder with more room",
                folder.display()
            )
        };
        let copy = place::Copy::new().with_context(failed)?;
        let size = copied(given, layout, copy.file()).with_context(failed)?;
        let path = copy.path()?;
        if let Err(error) = Shard::open(Path::new(&path), layout) {
            bail!("{}", error.to_string().replace(&path, given));
        }
        eprintln!(
            "note: `{given}` is a pipe: its {} were copied to a temporary file, `{path}`",
            bytes(size)
        );
        self.0.push(copy);
        Ok(pattern::literal(&path))
    }
}

/// Copies the pipe `given` to `to`, no more of it than its header counts, and one byte.
fn copied(given: &str, layout: Layout, mut to: &File) -> io::Result<u64> {
    let wait = out::if_long(format!("waiting for the pipe `{given}`"));
    let from = File::open(given)?;
    let mut head = Vec::new();
    (&from).take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    drop(wait);
    to.write_all(&head)?;
    let mut left = layout.counted(&head).map_or(u64::MAX, |bytes| bytes + 1);
    let (mut done, mut told, start) = (head.len() as u64, Instant::now(), Instant::now());
    while left > 0 {
        match io::copy(&mut (&from).take(BLOCK.min(left)), &mut to)? {
            0 => break,
            size => (done, left) = (done + size, left - size),
        }
        if start.elapsed() >= out::PATIENCE && told.elapsed() >= LINES.min(start.elapsed()) {
            told = Instant::now();
            eprintln!("  copying the pipe `{given}`: {}", bytes(done));
        }
    }
    Ok(done)
}

/// Files without a name, which `/proc` opens all the same.
#[cfg(target_os = "linux")]
mod place {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, FromRawFd};

    pub struct Copy(File);

    impl Copy {
        pub fn new() -> io::Result<Self> {
            let file = tempfile::tempfile()?;
            // Shards are sorted by their paths: numbers of equally many digits keep the order in
            // which they were given, and are the same in a run that goes on.
            // SAFETY: makes a new descriptor, which is ours if it is one.
            match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) } {
                -1 => Ok(Self(file)),
                // SAFETY: nobody else has this descriptor.
                high => Ok(Self(unsafe { File::from_raw_fd(high) })),
            }
        }

        pub fn file(&self) -> &File {
            &self.0
        }

        pub fn path(&self) -> anyhow::Result<String> {
            Ok(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
        }
    }
}

/// Files that are removed when the run ends.
#[cfg(not(target_os = "linux"))]
mod place {
    use std::fs::File;
    use std::io;

    use anyhow::Context;
    use tempfile::NamedTempFile;

    pub struct Copy(NamedTempFile);

    impl Copy {
        pub fn new() -> io::Result<Self> {
            NamedTempFile::new().map(Self)
        }

        pub fn file(&self) -> &File {
            self.0.as_file()
        }

        pub fn path(&self) -> anyhow::Result<String> {
            let path = self.0.path().to_str();
            Ok(path.context("the folder of temporary files is not UTF-8")?.to_owned())
        }
    }
}
