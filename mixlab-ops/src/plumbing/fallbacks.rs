//! Never a silent slow path: which ops ran their reference although they have a kernel, and why.

use std::sync::{Mutex, PoisonError};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes that `op` runs without `what` because of `reason`.
#[cfg(feature = "cube")]
pub(crate) fn note(op: &str, what: &str, reason: &str) {
    let line = format!("`{op}` runs without {what}: {reason}");
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.contains(&line) {
        seen.push(line);
    }
}

/// One line for each op of this process, so far, that has a kernel for its backend but ran as
/// ordinary tensor operations, or a faster kernel than the one that ran, with the reason; oldest
/// first.
pub fn fallbacks() -> Vec<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
