//! Where processor time went: a signal interrupts whatever thread is running, a hundred times in each
//! second of processor time.

use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder, Symbol};

use super::format::{Call, Packed, Profile, Scale};

const HERTZ: i32 = 100;
/// Code that may not be unwound in a signal: the unwinder takes locks that it may hold.
const NOT_UNWOUND: [&str; 5] = ["/libc.", "/libc-", "libgcc", "pthread", "vdso"];

/// A profile that is being taken.
pub struct Sampling(ProfilerGuard<'static>);

impl Sampling {
    /// Begins.
    pub fn start() -> anyhow::Result<Self> {
        let builder = ProfilerGuardBuilder::default().frequency(HERTZ).blocklist(&NOT_UNWOUND);
        Ok(Self(builder.build()?))
    }

    /// Ends; the file's bytes.
    pub fn profile(self) -> Packed {
        let report = self.0.report().build().map_err(|error| error.to_string())?;
        let period = 1_000_000_000 / i64::from(HERTZ);
        let mut profile = Profile::new(
            &[("samples", "count"), ("cpu", "nanoseconds")],
            Scale { of: ("cpu", "nanoseconds"), period },
        );
        profile.took(report.timing.start_time, report.timing.duration);
        for (stack, count) in &report.data {
            let count = *count as i64;
            profile.add(calls(stack), &[count, count * period]);
        }
        profile.packed()
    }
}

/// Frames from the innermost on, each with the calls that were inlined into it. Those of the sampler
/// are left out, however much of it the compiler has inlined.
fn calls(stack: &Frames) -> impl Iterator<Item = Vec<Call>> {
    let call = |symbol: &Symbol| Call {
        function: symbol.name(),
        file: symbol.filename().into_owned(),
        line: symbol.lineno(),
    };
    let sampler = |frame: &Vec<Symbol>| frame.iter().any(|call| call.name().contains("pprof::"));
    let first = stack.frames.iter().rposition(sampler).map_or(0, |last| last + 1);
    stack.frames[first..].iter().map(move |frame| frame.iter().map(call).collect())
}
