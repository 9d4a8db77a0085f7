//! Threads that work on what they are given, as it comes.

use core::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Threads at work, as many as there are cores.
pub struct Workers<J, T> {
    jobs: Sender<J>,
    threads: Vec<JoinHandle<Vec<T>>>,
}

impl<J, T> Debug for Workers<J, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl<J: Send + 'static, T: Send + 'static> Workers<J, T> {
    /// Starts threads that do `work` for each job. What has no result, or panics, is left out.
    pub fn new(work: fn(J) -> Option<T>) -> Self {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let next = move || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        let done = move |job| catch_unwind(AssertUnwindSafe(|| work(job))).ok().flatten();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            let next = next.clone();
            let run = move || core::iter::from_fn(next).filter_map(done).collect();
            thread::Builder::new().spawn(run).ok()
        };
        let threads = (0..cores).filter_map(start).collect();
        Self { jobs, threads }
    }

    /// Adds a job.
    pub fn begin(&self, job: J) {
        // Without threads there is nobody to take it, and no result.
        self.jobs.send(job).ok();
    }

    /// The results, when all jobs are done.
    pub fn finish(self) -> Vec<T> {
        drop(self.jobs);
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Workers;

    #[test]
    fn what_panics_or_has_no_result_is_left_out() {
        let workers = Workers::new(|n: usize| {
            assert_ne!(n, 7, "a test panics on purpose");
            n.is_multiple_of(2).then_some(n)
        });
        (0..20).for_each(|n| workers.begin(n));
        let mut found = workers.finish();
        found.sort_unstable();
        assert_eq!(found, (0..20).step_by(2).collect::<Vec<_>>());
    }
}
