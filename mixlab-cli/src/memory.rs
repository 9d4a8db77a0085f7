//! Memory: whether a training run fits, before anything is allocated, and what is said when an
//! allocation fails all the same.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use mixlab_burn::blocks::Block;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Memory;

use crate::backend::Place;
use crate::profile::heap;

/// Where the allocator is, for those who look at stacks.
pub const FILE: &str = file!();

/// What a step was estimated to need, and what would change that.
static EXPECTED: OnceLock<(String, String)> = OnceLock::new();

/// The way out of a full memory.
static HINT: OnceLock<&str> = OnceLock::new();

/// Sets the way out of a full memory, for a command that does not train.
pub fn hint(hint: &'static str) {
    let _ = HINT.set(hint);
}

/// Refuses a run that needs more memory than `place` has, unless it is `forced`. `half` is the type of
/// activations there.
pub fn check<K: Block>(
    plan: &Arc<Plan<K>>,
    half: Option<DType>,
    place: &Place,
    forced: bool,
) -> anyhow::Result<()> {
    let memory = Memory::of(plan, half)?;
    let needed = needed(&memory, place);
    let _ = EXPECTED.set((
        format!("; a training step was estimated at {}: {}", bytes(needed), parts(&memory)),
        format!("most of it is made by {}", memory.fields()),
    ));
    let Some(available) = place.memory().filter(|_| !forced) else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    anyhow::bail!(
        "a training step needs {} of memory, and {place} has {}: {}\n  hint: most of it is made by {}; or train all the same with `--force`",
        bytes(needed),
        bytes(available),
        parts(&memory),
        memory.fields()
    )
}

/// What is said of memory that is full: the estimate of [`check`], if it was made, and the way out.
pub fn expected() -> (String, String) {
    const LOWER: &str = "lower `training.batch_tokens` or `model_dim`";
    EXPECTED.get().cloned().unwrap_or_else(|| {
        let hint = HINT.get().unwrap_or(&LOWER);
        (String::new(), format!("{hint}; others may be using the device too"))
    })
}

/// What a training step takes at `place`.
pub fn needed(memory: &Memory, place: &Place) -> u64 {
    if place.gpu { memory.reserved } else { memory.peak }
}

/// What a training step holds, part by part.
pub fn parts(memory: &Memory) -> String {
    format!(
        "weights {}, optimizer {}, gradients {}, activations {}",
        bytes(memory.weights),
        bytes(memory.optimizer),
        bytes(memory.gradients),
        bytes(memory.activations)
    )
}

/// Bytes with a unit, one decimal.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        x if x >= 1e3 * 1024f64.powi(3) => format!("{:.1} TiB", x / 1024f64.powi(4)),
        x if x >= 1e3 * 1024f64.powi(2) => format!("{:.1} GiB", x / 1024f64.powi(3)),
        x if x >= 1e3 * 1024.0 => format!("{:.1} MiB", x / 1024f64.powi(2)),
        x => format!("{:.1} KiB", x / 1024.0),
    }
}

/// Bytes that this process may still take of the machine's memory: what is free or could be, within
/// the limits of its control group and of `ulimit`. Only known on Linux.
pub fn of_the_machine() -> Option<u64> {
    let free = field("/proc/meminfo", "MemAvailable:");
    [free, left_to_the_group(), left_to_the_process()].into_iter().flatten().min()
}

/// A number of KiB in a file of `/proc`, in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control group (version 2) of this process leaves; pages of files count as free.
fn left_to_the_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}")).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let (most, held) = (number(read("memory.max")?)?, number(read("memory.current")?)?);
    let files =
        read("memory.stat")?.lines().find_map(|line| line.strip_prefix("file ")?.parse().ok());
    Some(most.saturating_sub(held.saturating_sub(files.unwrap_or(0))))
}

/// What `ulimit -v` leaves.
#[cfg(target_os = "linux")]
fn left_to_the_process() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to the struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    let limited = known && limit.rlim_cur != libc::RLIM_INFINITY;
    limited
        .then(|| limit.rlim_cur.saturating_sub(field("/proc/self/status", "VmSize:").unwrap_or(0)))
}

#[cfg(not(target_os = "linux"))]
fn left_to_the_process() -> Option<u64> {
    None
}

/// The system's allocator, with an end to the process where it has no memory: an error and exit
/// code 1 instead of an abort. A program is given it by
/// `#[global_allocator] static ALLOCATOR: mixlab_cli::Allocator = mixlab_cli::Allocator;`
pub struct Allocator;

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        heap::freed(place.addr());
        // SAFETY: as the caller promises.
        given(unsafe { System.realloc(place, layout, size) }, size)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        heap::freed(place.addr());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[inline]
fn given(place: *mut u8, size: usize) -> *mut u8 {
    if place.is_null() {
        out_of_memory(size);
    }
    heap::taken(place.addr(), size);
    place
}

/// Says so without allocating, and ends the process.
#[cold]
#[inline(never)]
fn out_of_memory(size: usize) {
    use std::io::{Cursor, Write};
    let training = "train with fewer `training.batch_tokens` or a smaller `model_dim`";
    let hint = HINT.get().copied().unwrap_or(training);
    let mut text = Cursor::new([0u8; 160]);
    let _ =
        writeln!(text, "error: out of memory: {size} bytes more are not to be had\n  hint: {hint}");
    #[cfg(unix)]
    // SAFETY: writes the bytes of a buffer, and ends the process without running anything else.
    unsafe {
        let length = text.position() as usize;
        libc::write(2, text.get_ref().as_ptr().cast(), length);
        libc::_exit(1);
    }
    #[cfg(not(unix))]
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes(1536 << 20), "1.5 GiB");
        assert_eq!(bytes(2 << 40), "2.0 TiB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_has_memory() {
        assert!(of_the_machine().is_some_and(|bytes| bytes > 1 << 20));
    }
}
