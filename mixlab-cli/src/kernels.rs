//! How many kernels a run needs, and a word to who waits for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use crate::backend::Place;
use crate::out;

static COMPILED: AtomicUsize = AtomicUsize::new(0);
static CACHED: AtomicUsize = AtomicUsize::new(0);

/// Listens to what CubeCL logs when it first meets a kernel, and on CUDA to who hands it to CubeCL.
struct Counter;

impl log::Log for Counter {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        ["cubecl_wgpu", "mixlab_ops"].iter().any(|name| metadata.target().starts_with(name))
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        if text.starts_with("Compiling ") || text.contains("compiling WGSL module") {
            COMPILED.fetch_add(1, Ordering::Relaxed);
        } else if text.ends_with("PTX cache") || text.ends_with("SPIR-V cache") {
            CACHED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Starts counting.
pub fn count() {
    if log::set_logger(&Counter).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// Distinct kernels so far: how many, and how many of them were compiled just now. `None` if there
/// were none, as on the processor, or if nobody counted.
pub fn counted() -> Option<(usize, usize)> {
    let (compiled, cached) = (COMPILED.load(Ordering::Relaxed), CACHED.load(Ordering::Relaxed));
    (compiled + cached > 0).then_some((compiled + cached, compiled))
}

/// Says on stderr that kernels are being compiled if `place` compiles some and needs longer than two
/// seconds until the returned sender is used or dropped.
pub fn explain_wait(place: &Place) -> Option<Sender<()>> {
    let text = "compiling kernels for this device; they are kept for the next run";
    place.gpu.then(|| out::if_long(text.into()))
}
