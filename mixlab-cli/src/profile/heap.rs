//! Who took memory, and who holds it: a sample of allocations, one in about so many bytes.
//!
//! [`taken`] and [`freed`] are called by the allocator. While no profile is taken they read one flag.

use std::alloc::Layout;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::format::{Call, Packed, Profile, Scale};
use crate::error::Request;

/// Mean number of bytes between samples, as in Go.
const PERIOD: usize = 512 << 10;
/// Frames of a stack, at most.
const DEPTH: usize = 64;

static ON: AtomicBool = AtomicBool::new(false);
/// Whether the allocator has called since the start.
static CALLED: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<Option<Table>> = Mutex::new(None);
/// How many living samples there are by a hash of their addresses: most of what is freed was never
/// sampled, and then no lock is taken.
static LIVING: [AtomicU32; 1 << 14] = [const { AtomicU32::new(0) }; 1 << 14];

thread_local! {
    /// Bytes to the next sample.
    static LEFT: Cell<usize> = const { Cell::new(0) };
    /// State of the thread's generator; 0 before its first number.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Set while a sample is taken, which allocates too.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Table {
    /// By return addresses, the innermost first.
    stacks: HashMap<Vec<usize>, Totals>,
    living: HashMap<usize, (Vec<usize>, usize)>,
}

/// Objects and bytes, as estimated from samples.
#[derive(Clone, Copy, Default)]
struct Totals {
    taken: [f64; 2],
    freed: [f64; 2],
}

/// A profile that is being taken.
pub struct Sampling {
    time: SystemTime,
    start: Instant,
}

impl Sampling {
    /// Begins.
    ///
    /// # Errors
    /// If the program has another allocator than [`Allocator`](crate::Allocator).
    pub fn start() -> anyhow::Result<Self> {
        *table() = Some(Table::default());
        CALLED.store(false, Ordering::Relaxed);
        ON.store(true, Ordering::Relaxed);
        drop(std::hint::black_box(Box::new(Layout::new::<u8>())));
        if !CALLED.load(Ordering::Relaxed) {
            ON.store(false, Ordering::Relaxed);
            let message = "`--memprofile` needs the allocator of mixlab-cli, which this program has not\n  hint: declare `#[global_allocator] static ALLOCATOR: mixlab_cli::Allocator = mixlab_cli::Allocator;`";
            return Err(Request(message.into()).into());
        }
        Ok(Self { time: SystemTime::now(), start: Instant::now() })
    }

    /// Ends; the file's bytes.
    pub fn profile(self) -> Packed {
        ON.store(false, Ordering::Relaxed);
        let table = table().take().unwrap_or_default();
        let types = [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ];
        let scale = Scale { of: ("space", "bytes"), period: PERIOD as i64 };
        let mut profile = Profile::new(&types, scale);
        profile.took(self.time, self.start.elapsed());
        for (stack, Totals { taken, freed }) in &table.stacks {
            let live = [taken[0] - freed[0], taken[1] - freed[1]];
            let values = [taken, &live].map(|pair| pair.map(|value| value.round() as i64));
            profile.add(calls(stack), &values.concat());
        }
        profile.packed()
    }
}

/// Frames from the innermost on, without those of the allocator. What is inlined has no path in its name,
/// only its file.
fn calls(stack: &[usize]) -> impl Iterator<Item = Vec<Call>> {
    let frame = |&address: &usize| {
        let mut frame = Vec::new();
        backtrace::resolve(address as *mut c_void, |symbol| {
            let file = symbol.filename().map(|file| file.display().to_string());
            frame.push(Call {
                function: symbol.name().map_or(format!("{address:#x}"), |name| format!("{name:#}")),
                file: file.unwrap_or_default(),
                line: symbol.lineno().unwrap_or_default(),
            });
        });
        frame
    };
    let allocator = ["mixlab_cli::profile", "mixlab_cli::memory", "backtrace::", "__rustc"];
    let files = [file!(), crate::memory::FILE];
    let is_of_it = move |call: &Call| {
        allocator.iter().any(|part| call.function.trim_start_matches('<').contains(part))
            || files.iter().any(|file| call.file.ends_with(file))
            || call.file.contains("/backtrace")
    };
    let frames = stack.iter().map(frame).filter(|frame| !frame.is_empty());
    frames.skip_while(move |frame| frame.last().is_some_and(is_of_it))
}

/// Tells that the allocator gave `size` bytes at `address`.
#[inline]
pub fn taken(address: usize, size: usize) {
    if ON.load(Ordering::Relaxed) {
        count(address, size);
    }
}

/// Tells that the allocator is about to take back what it gave at `address`.
#[inline]
pub fn freed(address: usize) {
    if ON.load(Ordering::Relaxed) && living(address).load(Ordering::Relaxed) > 0 {
        forget(address);
    }
}

#[cold]
fn count(address: usize, size: usize) {
    CALLED.store(true, Ordering::Relaxed);
    // A thread that is ending has no generator any more.
    let due = LEFT.try_with(|left| match left.get().checked_sub(size) {
        Some(rest) if rest > 0 => {
            left.set(rest);
            false
        }
        _ => {
            left.set(distance());
            true
        }
    });
    if due.unwrap_or(false) {
        alone(|| sample(address, size));
    }
}

/// Does `what`, unless this is called by it.
fn alone(what: impl FnOnce()) {
    let _ = BUSY.try_with(|busy| {
        if !busy.replace(true) {
            what();
            busy.set(false);
        }
    });
}

fn sample(address: usize, size: usize) {
    let mut stack = Vec::with_capacity(DEPTH);
    backtrace::trace(|frame| {
        stack.push(frame.ip() as usize);
        stack.len() < DEPTH
    });
    let mut table = table();
    let Some(table) = &mut *table else { return };
    let [objects, bytes] = weight(size);
    let totals = table.stacks.entry(stack.clone()).or_default();
    totals.taken[0] += objects;
    totals.taken[1] += bytes;
    if table.living.insert(address, (stack, size)).is_none() {
        living(address).fetch_add(1, Ordering::Relaxed);
    }
}

#[cold]
fn forget(address: usize) {
    alone(|| {
        let mut table = table();
        let Some(table) = &mut *table else { return };
        let Some((stack, size)) = table.living.remove(&address) else { return };
        living(address).fetch_sub(1, Ordering::Relaxed);
        let [objects, bytes] = weight(size);
        let totals = table.stacks.entry(stack).or_default();
        totals.freed[0] += objects;
        totals.freed[1] += bytes;
    });
}

/// Objects and bytes that a sampled object of `size` bytes stands for: one is sampled with probability
/// 1 − exp(−size / period).
fn weight(size: usize) -> [f64; 2] {
    let size = size.max(1) as f64;
    let objects = 1.0 / -f64::exp_m1(-size / PERIOD as f64);
    [objects, objects * size]
}

/// Bytes to the next sample, exponentially distributed.
fn distance() -> usize {
    let random = RANDOM.get();
    // Threads begin elsewhere: at the address of their own state.
    let mut x = if random == 0 { RANDOM.with(|r| r.as_ptr() as u64) | 1 } else { random };
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    RANDOM.set(x);
    let uniform = ((x >> 11) + 1) as f64 / (1u64 << 53) as f64;
    (-uniform.ln() * PERIOD as f64) as usize
}

fn living(address: usize) -> &'static AtomicU32 {
    // The golden ratio spreads addresses, which are multiples of 16.
    let hash = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
    &LIVING[hash as usize]
}

fn table() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_for_all_that_was_taken() {
        *table() = Some(Table::default());
        let (count, size) = (20_000, 4096);
        let address = |index| 0x1000 + index * size;
        (0..count).for_each(|index| super::count(address(index), size));
        (0..count / 2).for_each(|index| forget(address(index)));
        let table = table().take().unwrap();
        let sum = |of: fn(&Totals) -> f64| table.stacks.values().map(of).sum::<f64>();
        let (taken, freed) = (sum(|t| t.taken[1]), sum(|t| t.freed[1]));
        let bytes = (count * size) as f64;
        // 156 samples are expected, with a standard deviation of 8 %.
        assert!((taken / bytes - 1.0).abs() < 0.4, "{taken} of {bytes}");
        assert!((freed / bytes - 0.5).abs() < 0.3, "{freed} of {bytes}");
        assert!((sum(|t| t.taken[0]) - taken / size as f64).abs() < 1.0);
        assert_eq!(
            LIVING.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u32>() as usize,
            table.living.len()
        );
    }

    #[test]
    fn large_objects_stand_for_themselves() {
        let [objects, bytes] = weight(1 << 30);
        assert_eq!((objects, bytes), (1.0, (1u64 << 30) as f64));
    }
}
