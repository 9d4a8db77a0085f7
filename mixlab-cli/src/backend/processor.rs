//! Jobs on the processor: burn-flex, and candle.

use std::sync::OnceLock;

#[cfg(any(feature = "cpu", feature = "candle"))]
use burn::backend::Autodiff;

#[cfg(any(feature = "cpu", feature = "candle"))]
use super::Place;
use super::{Compute, Job, MOST_THREADS};

/// Keeps freed memory for the next step, which allocates the same again: clearing fresh pages would
/// take a fifth of a step on the processor.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The largest that every version of glibc takes.
        const LARGE: libc::c_int = 32 << 20;
        // SAFETY: this changes when malloc asks the system for memory, and nothing else.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}

/// Limits this process to `--threads`, or to the most that these may be where the environment asks
/// for more. Only the first call counts: it comes before anything that computes.
///
/// # Errors
/// If the system does not give so many.
pub fn use_threads(compute: &Compute) -> anyhow::Result<()> {
    static SET: OnceLock<()> = OnceLock::new();
    // rayon starts as many as this says.
    let said = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse::<usize>().ok());
    let too_many = said.filter(|n| *n > MOST_THREADS).map(|_| MOST_THREADS);
    let threads = compute.threads.or(too_many);
    let (Some(threads), Ok(())) = (threads, SET.set(())) else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| {
        let hint = "leave `--threads` out, or give fewer";
        anyhow::anyhow!("`{threads}` threads cannot be had: {error}\n  hint: {hint}")
    })
}

/// Runs `job` on burn-flex.
#[cfg(feature = "cpu")]
pub fn flex(compute: &Compute, job: impl Job) -> anyhow::Result<()> {
    only_device("cpu", compute.device)?;
    use_threads(compute)?;
    let device = format!("flex, {} threads", rayon::current_num_threads());
    let place = Place { kind: "cpu", device, gpu: false };
    // A thread of the pool hands out work sooner than one outside of it, and takes its share.
    rayon::scope(|_| job.run::<Autodiff<burn_flex::Flex>>(burn_flex::FlexDevice, &place))
}

#[cfg(not(feature = "cpu"))]
pub fn flex(_: &Compute, _: impl Job) -> anyhow::Result<()> {
    Err(super::missing("cpu", "cpu"))
}

#[cfg(any(feature = "cpu", feature = "candle"))]
fn only_device(name: &str, device: usize) -> anyhow::Result<()> {
    if device == 0 {
        return Ok(());
    }
    let message = format!(
        "`--device {device}`: the `{name}` backend has only device `0`\n  hint: leave `--device` out"
    );
    Err(crate::error::Request(message).into())
}

/// Runs `job` on candle.
#[cfg(feature = "candle")]
#[allow(deprecated)] // Burn 0.21 is the last release with it.
pub fn candle(device: usize, job: impl Job) -> anyhow::Result<()> {
    only_device("candle", device)?;
    let place = Place { kind: "candle", device: "cpu".into(), gpu: false };
    job.run::<Autodiff<burn_candle::Candle>>(burn_candle::CandleDevice::Cpu, &place)
}

#[cfg(not(feature = "candle"))]
pub fn candle(_: usize, _: impl Job) -> anyhow::Result<()> {
    Err(super::missing("candle", "candle"))
}
