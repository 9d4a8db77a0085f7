//! Threads that stay awake between short operations.
//!
//! A token is dozens of products of a few hundredths of a millisecond, a training step of a small model
//! hundreds of operations of some tenths. The threads that help with one go to sleep before the next, and
//! being woken takes them as long as their part of the work of a token.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::yield_now;

use rayon::Yield;

/// Threads that help with short operations.
const HELPERS: usize = 8;
/// Times that a thread looks for work in vain before it sleeps all the same: some tenths of a
/// millisecond, which is longer than what one thread does alone between two operations of a training step.
const PATIENCE: u32 = 10_000;
/// Of so many times it looks, one lets others run that wait for its core.
const POLITE: u32 = 16;

/// What `run` gives; meanwhile the other threads of the pool wait for work awake.
pub(crate) fn awake<R>(run: impl FnOnce() -> R) -> R {
    let over = Over(Arc::new(AtomicBool::new(false)));
    if rayon::current_num_threads() > 1 {
        let (over, caller) = (over.0.clone(), rayon::current_thread_index());
        rayon::spawn_broadcast(move |thread| {
            if thread.index() < HELPERS && Some(thread.index()) != caller {
                help(&over);
            }
        });
    }
    run()
}

/// Set when the operations are over, by their panic too.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Takes what work there is until `over`.
fn help(over: &AtomicBool) {
    let mut idle = 0;
    while !over.load(Relaxed) && idle < PATIENCE {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle.is_multiple_of(POLITE) {
            yield_now();
        }
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn work_is_shared_while_threads_are_awake_and_a_panic_is_passed_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sum = || rayon::join(|| 20, || rayon::join(|| 20, || 2));
        for within in [true, false] {
            let run = || awake(|| [(); 100].map(|()| sum()));
            let found = if within { pool.install(run) } else { run() };
            assert_eq!(found, [(20, (20, 2)); 100]);
        }
        let broken = || pool.install(|| awake(|| -> () { panic!("broken") }));
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
    }

    #[test]
    fn who_finds_no_work_sleeps_all_the_same() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| help(&AtomicBool::new(false)));
    }
}
