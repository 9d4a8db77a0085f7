//! Calls into libraries that panic where a file is damaged: here that is an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

type Failure = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    /// Whether this thread is in a guarded call, which reports its panics itself.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `call` on this thread. A panic becomes an error with the panic's message, and nothing is
/// printed.
///
/// The first call of the process puts a panic hook before the present one, which goes on serving
/// all other panics.
pub(in crate::data) fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                others(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| Err(message(&*panic).into()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it is damaged").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let failed = guarded(|| -> Result<(), Failure> { panic!("index {}", 7) });
        assert_eq!(failed.unwrap_err().to_string(), "index 7");
        let failed = guarded(|| -> Result<(), Failure> { panic!("plain") });
        assert_eq!(failed.unwrap_err().to_string(), "plain");
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
        assert!(!GUARDED.get());
    }
}
