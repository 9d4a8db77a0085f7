//! What is printed. Nothing that happens to a terminal, a pipe or the disk under a log ends a run:
//! `println!`, `print!` and `eprintln!` of this crate do not panic, and they escape the control
//! characters that names may have.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::anyhow;

use crate::error::printable;

macro_rules! print {
    ($($text:tt)*) => { $crate::out::print(format_args!($($text)*)) };
}
macro_rules! println {
    () => { $crate::out::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::print(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::out::note(format_args!($($text)*)) };
}

/// After so long a silence somebody wonders.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Why standard output can no longer be written; what follows is left out.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Lets a write beyond the largest size of a file (`ulimit -f`) fail, as one to a full disk does,
/// instead of ending the process.
pub fn limits_are_errors() {
    #[cfg(unix)]
    // SAFETY: ignores a signal, before there are other threads.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Writes to standard output, as long as that works.
pub fn print(text: fmt::Arguments<'_>) {
    let mut lost = LOST.lock().expect("nobody panics with the lock");
    if lost.is_some() {
        return;
    }
    let text = printable(&text.to_string());
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    // Who closes a pipe has read enough.
    if error.kind() != ErrorKind::BrokenPipe {
        note(format_args!(
            "warning: standard output cannot be written, and is left out from here on: {error}"
        ));
    }
    *lost = Some(error);
}

/// Whether a command whose result is what it prints has succeeded.
///
/// # Errors
/// If standard output could not be written, unless who reads it wanted no more.
pub fn printed() -> anyhow::Result<()> {
    arrived(LOST.lock().expect("nobody panics with the lock").take())
}

/// [`printed`] of what was written by other ways, and is lost for a reason.
pub fn arrived(lost: Option<io::Error>) -> anyhow::Result<()> {
    match lost {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(anyhow!(
            "the result cannot be printed: {error}\n  hint: look for what standard output leads to"
        )),
        _ => Ok(()),
    }
}

/// Writes a line to standard error, where that works.
pub fn note(text: fmt::Arguments<'_>) {
    let text = printable(&text.to_string()) + "\n";
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Says `text` on standard error in two seconds, unless the returned sender is used or dropped
/// before.
#[must_use]
pub fn if_long(text: String) -> Sender<()> {
    let (done, wait) = channel();
    std::thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if io::stderr().is_terminal() {
            // Over the line of a progress bar.
            let _ = io::stderr().lock().write_all(b"\r\x1b[K");
        }
        note(format_args!("{text}"));
    });
    done
}
