//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;

use crate::error::Interrupted;

/// Set on Ctrl-C or SIGTERM; what is being done is then finished. The second one ends the process: it
/// may take minutes, or never end. `bar` is cleared then.
pub fn flag(bar: ProgressBar) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let handler = ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            end_now(bar.clone());
        }
    });
    handler.context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

/// Ends the process without waiting for anything: the terminal may be stopped and the device hang.
fn end_now(bar: ProgressBar) -> ! {
    const TERMINAL: Duration = Duration::from_millis(200);
    let (cleared, wait) = channel();
    std::thread::spawn(move || {
        bar.finish_and_clear();
        let _ = cleared.send(());
    });
    let _ = wait.recv_timeout(TERMINAL);
    // SAFETY: ends the process, without the exit handlers of drivers that `exit` runs.
    #[cfg(unix)]
    unsafe {
        libc::_exit(Interrupted::CODE.into())
    };
    #[cfg(not(unix))]
    std::process::exit(Interrupted::CODE.into());
}
