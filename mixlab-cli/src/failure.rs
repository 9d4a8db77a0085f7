//! What becomes of a command whose device fails. Runtimes tell that by a panic, often of a thread of
//! theirs, after which calls of ours panic too.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mixlab_burn::config::shortened;

use crate::backend::Place;
use crate::memory;

/// The device failed, and the user has been told.
#[derive(Debug, thiserror::Error)]
#[error("the device failed")]
pub struct Failed;

/// Whether a failure was told; what panics then is its consequence.
static TOLD: Mutex<bool> = Mutex::new(false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It has no memory left.
    Memory,
    /// It is gone, or does no more.
    Lost,
}

/// Does `work`. If the device at `place` fails meanwhile that is told at once, for a second panic of
/// the thread would end the process, and is [`Failed`]. Other panics are not touched.
pub fn watched(place: &Place, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let hook = Arc::new(panic::take_hook());
    let (usual, name) = (hook.clone(), place.to_string());
    panic::set_hook(Box::new(move |info| {
        if !tell(info, &name) {
            usual(info);
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(Box::new(move |info| hook(info)));
    match result {
        // What a thread could not allocate may have been read all the same.
        _ if *told() => Err(Failed.into()),
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// Tells of a panic that is a failure of the device, once; whether it is one or follows from one.
fn tell(info: &PanicHookInfo<'_>, place: &str) -> bool {
    let mut told = told();
    let text = info.payload_as_str().unwrap_or_default();
    if let (Some(kind), false) = (kind(text), *told) {
        *told = true;
        eprintln!("error: {}", message(kind, text, place));
    }
    *told
}

fn told() -> MutexGuard<'static, bool> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What CubeCL, wgpu and CUDA say in a panic when the device has failed.
fn kind(text: &str) -> Option<Failure> {
    let text = text.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let full = [
        "out of memory",
        "outofmemory",
        "out_of_memory",
        "not enough memory",
        "buffertoobig",
        "can't allocate buffer",
    ];
    if says(&full) {
        return Some(Failure::Memory);
    }
    let lost = ["device lost", "devicelost", "device_lost", "device is lost", "cuda_error_"];
    says(&lost).then_some(Failure::Lost)
}

fn message(kind: Failure, text: &str, place: &str) -> String {
    let text = text.trim_start_matches("called `Result::unwrap()` on an `Err` value: ");
    let reason = shortened(text.lines().next().unwrap_or_default());
    match kind {
        Failure::Memory => {
            let (estimate, hint) = memory::expected();
            format!("the memory of {place} is full: {reason}{estimate}\n  hint: {hint}")
        }
        Failure::Lost => format!(
            "{place} does not answer any more: {reason}\n  hint: look at the driver's log, as by `dmesg`; `--resume` goes on from the last checkpoint, and `--checkpoint-every 10m` writes some"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_is_an_error_and_other_panics_stay() {
        let place = Place { kind: "cuda", device: "0".into(), gpu: true };
        let work = || {
            let thread = std::thread::spawn(|| panic!("Err value: BufferTooBig {{ size: 9 }}"));
            // As a call whose answer never comes.
            panic!("{:?}", thread.join().err().map(|_| "disconnected"));
        };
        let bug = || -> anyhow::Result<()> { panic!("a bug") };
        let goes_on = || {
            let thread = std::thread::spawn(|| panic!("can't allocate buffer of size: 9"));
            assert!(thread.join().is_err());
            Ok(())
        };
        assert!(panic::catch_unwind(|| watched(&place, bug)).is_err());
        assert!(watched(&place, work).unwrap_err().is::<Failed>());
        *told() = false;
        assert!(watched(&place, goes_on).unwrap_err().is::<Failed>());
    }

    #[test]
    fn what_runtimes_say_is_understood() {
        for (text, expected) in [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", Some(Failure::Memory)),
            (
                "called `Result::unwrap()` on an `Err` value: BufferTooBig { size: 1 }",
                Some(Failure::Memory),
            ),
            (
                "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 1073741824",
                Some(Failure::Memory),
            ),
            ("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"…\")", Some(Failure::Lost)),
            ("wgpu error: Parent device is lost", Some(Failure::Lost)),
            ("index out of bounds", None),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        let text = "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 9";
        let message = message(Failure::Memory, text, "cuda 0");
        assert!(message.starts_with("the memory of cuda 0 is full: can't allocate"), "{message}");
        assert!(message.contains("training.batch_tokens"), "{message}");
    }
}
