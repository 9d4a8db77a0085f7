//! Ctrl-C, SIGTERM, and what batch systems send before they end a job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use indicatif::ProgressBar;

use crate::error::Interrupted;
use crate::profile;

/// What a signal does.
type Action = Box<dyn FnMut() + Send>;

static ACTION: Mutex<Option<Action>> = Mutex::new(None);

/// Calls `action` on each Ctrl-C or SIGTERM from now on, instead of what was called before.
pub fn act(action: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    static LISTENING: OnceLock<Result<(), String>> = OnceLock::new();
    let current = || ACTION.lock().unwrap_or_else(PoisonError::into_inner);
    *current() = Some(Box::new(action));
    let listen = || {
        #[cfg(unix)]
        let keep = signals::Kept::now();
        let listening = ctrlc::set_handler(move || {
            if let Some(action) = &mut *current() {
                action();
            }
        });
        #[cfg(unix)]
        keep.restore();
        listening
    };
    let listening = LISTENING.get_or_init(|| listen().map_err(|error| error.to_string()));
    listening.clone().map_err(|error| anyhow!("cannot listen for Ctrl-C: {error}"))
}

#[cfg(unix)]
mod signals {
    use std::ptr;

    use libc::c_int;

    /// What batch systems send a while before they end a job: the first one is as good as SIGTERM,
    /// and those after it say nothing new.
    const WARNINGS: [c_int; 3] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGXCPU];

    /// What was decided of signals by who started the process.
    pub struct Kept {
        /// `nohup` did.
        ignores_hangup: bool,
    }

    impl Kept {
        pub fn now() -> Self {
            Self { ignores_hangup: is_ignored(libc::SIGHUP) }
        }

        /// Takes that up again, and listens to [`WARNINGS`] that nobody wants ignored.
        pub fn restore(self) {
            for warning in WARNINGS.into_iter().filter(|signal| !is_ignored(*signal)) {
                // SAFETY: `pass_on` only calls what a handler may call.
                unsafe { libc::signal(warning, pass_on as *const () as libc::sighandler_t) };
            }
            if self.ignores_hangup {
                // SAFETY: ignores a signal.
                unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
            }
        }
    }

    fn is_ignored(signal: c_int) -> bool {
        // SAFETY: asks, and changes nothing.
        unsafe {
            let mut now = std::mem::zeroed::<libc::sigaction>();
            let asked = libc::sigaction(signal, ptr::null(), &mut now);
            asked == 0 && now.sa_sigaction == libc::SIG_IGN
        }
    }

    extern "C" fn pass_on(signal: c_int) {
        // SAFETY: both may be called by a handler.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
            libc::raise(libc::SIGTERM);
        }
    }
}

/// Set on Ctrl-C or SIGTERM; what is being done is then finished. The second one ends the process: it
/// may take minutes, or never end. `bar` is cleared then.
pub fn flag(bar: ProgressBar) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    act(move || {
        if set.swap(true, Ordering::Relaxed) {
            end_now(bar.clone());
        }
    })?;
    Ok(flag)
}

/// Ends the process on the first signal, once profiles are written: for commands that finish nothing.
pub fn end() -> anyhow::Result<()> {
    act(|| end_now(ProgressBar::hidden()))
}

/// Ends the process without waiting for what it does: the terminal may be stopped and the device hang.
fn end_now(bar: ProgressBar) -> ! {
    const TERMINAL: Duration = Duration::from_millis(200);
    const PROFILES: Duration = Duration::from_secs(60);
    within(TERMINAL, move || bar.finish_and_clear());
    if profile::is_open() {
        within(PROFILES, profile::finish);
    }
    // SAFETY: ends the process, without the exit handlers of drivers that `exit` runs.
    #[cfg(unix)]
    unsafe {
        libc::_exit(Interrupted::CODE.into())
    };
    #[cfg(not(unix))]
    std::process::exit(Interrupted::CODE.into());
}

/// Does `what`, and waits no longer than `time` for it.
fn within(time: Duration, what: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(time);
}
