//! Profiles of a command, in the format of pprof: where processor time went, and who took memory.
//!
//! Both are samples of the host: what runs on a device is not in them. They are written whatever
//! ends the command, but for `SIGKILL` and an allocation that fails.

#[cfg(unix)]
mod cpu;
#[cfg(not(unix))]
#[path = "cpu_elsewhere.rs"]
mod cpu;
mod format;
pub mod heap;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flate2::read::GzDecoder;
use mixlab_burn::files::Replacement;

use crate::cli;
use crate::error::{Request, message};
use crate::outputs;

/// Profiles that are being taken. They end, and are written, on drop.
#[must_use]
pub struct Profiles(());

impl Drop for Profiles {
    fn drop(&mut self) {
        finish();
    }
}

/// What is open: whoever ends the process takes it out and writes it.
static OPEN: Mutex<Open> = Mutex::new(Open { cpu: None, heap: None });

struct Open {
    cpu: Option<(Output, cpu::Sampling)>,
    heap: Option<(Output, heap::Sampling)>,
}

/// A file that a profile is going to be in.
struct Output {
    /// As it was given.
    path: PathBuf,
    place: Replacement,
}

/// Begins the profiles that `options` name.
///
/// # Errors
/// If a file cannot be written or is something else than a profile, or the system has no such profile.
pub fn start(options: &cli::Profiles) -> anyhow::Result<Profiles> {
    let cli::Profiles { cpuprofile, memprofile } = options;
    let named = [("--cpuprofile", cpuprofile), ("--memprofile", memprofile)];
    let named: Vec<_> =
        named.iter().filter_map(|(flag, path)| Some((*flag, path.as_deref()?))).collect();
    outputs::check(&[], &named)?;
    let [cpu, heap] = [cpuprofile, memprofile].map(|path| path.as_deref().map(Output::open));
    let (cpu, heap) = (cpu.transpose()?, heap.transpose()?);
    let started = Profiles(());
    if let Some(output) = heap {
        let sampling = heap::Sampling::start()?;
        open(|open| open.heap = Some((output, sampling)));
    }
    if let Some(output) = cpu {
        let sampling = cpu::Sampling::start()?;
        open(|open| open.cpu = Some((output, sampling)));
    }
    Ok(started)
}

/// Whether a profile is being taken.
pub fn is_open() -> bool {
    open(|open| open.cpu.is_some() || open.heap.is_some())
}

/// Ends what is open and writes it. A profile that cannot be written is a warning: the command has done
/// what it was asked for.
pub fn finish() {
    let (cpu, heap) = open(|open| (open.cpu.take(), open.heap.take()));
    if let Some((output, sampling)) = cpu {
        output.write(sampling.profile());
    }
    if let Some((output, sampling)) = heap {
        output.write(sampling.profile());
    }
}

fn open<T>(with: impl FnOnce(&mut Open) -> T) -> T {
    with(&mut OPEN.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Output {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_file() && !may_be_replaced(path) {
            let path = path.display();
            let hint = "give the profile a name of its own";
            return Err(Request(format!(
                "a profile would write over `{path}`, which is none\n  hint: {hint}"
            ))
            .into());
        }
        let place = Replacement::begin(path).map_err(|error| outputs::unwritable(path, error))?;
        Ok(Self { path: path.to_owned(), place })
    }

    fn write(self, profile: Result<Vec<u8>, String>) {
        let written = profile.map_err(|reason| anyhow::anyhow!(reason)).and_then(|bytes| {
            let written = self.place.commit(|file| file.write_all(&bytes));
            written.map_err(|error| outputs::unwritable(&self.path, error))
        });
        if let Err(error) = written {
            eprintln!(
                "warning: there is no profile `{}`: {}",
                self.path.display(),
                message(&error)
            );
        }
    }
}

/// Whether a file is empty or a profile: no input of a command is either.
fn may_be_replaced(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    if file.metadata().is_ok_and(|data| data.len() == 0) {
        return true;
    }
    let mut first = [0];
    GzDecoder::new(file).read_exact(&mut first).is_ok() && first[0] == format::FIRST_BYTE
}
