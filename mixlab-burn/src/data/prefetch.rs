//! Batches made ready on another thread while the step runs.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Batch, DataError, Loader};

/// Batches that wait at most.
const QUEUE: usize = 4;

/// A loader on its own thread, which ends when this is dropped.
pub struct Prefetch {
    /// Taken first on drop: the thread then fails to send, and ends.
    queue: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts to load, at most four batches ahead.
    pub fn start(mut loader: Loader) -> Self {
        Self::from_source(move || loader.next_batch())
    }

    fn from_source(mut next: impl FnMut() -> Result<Batch, DataError> + Send + 'static) -> Self {
        let (sender, queue) = sync_channel(QUEUE);
        let thread = thread::spawn(move || {
            loop {
                let batch = next();
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// The next batch, in the loader's order; waits for it if need be.
    ///
    /// # Errors
    /// What the loader reported for this batch. Afterwards there are no more:
    /// [`DataError::Stopped`].
    ///
    /// # Panics
    /// If the loader panicked.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        if let Some(Ok(next)) = self.queue.as_ref().map(Receiver::recv) {
            return next;
        }
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        Err(DataError::Stopped)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been or would have been passed on by `next_batch`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn batch(token: u16) -> Batch {
        Batch::from_tokens(&[token, 0], 1).unwrap()
    }

    /// Counts up; fails instead of giving batch number `end`.
    fn count_to(end: u16, made: Arc<AtomicUsize>) -> Prefetch {
        let mut next = 0;
        Prefetch::from_source(move || {
            made.fetch_add(1, Ordering::SeqCst);
            if next == end {
                return Err(DataError::BatchShape { batch_tokens: 7, seq_len: 2 });
            }
            next += 1;
            Ok(batch(next - 1))
        })
    }

    #[test]
    fn batches_come_in_order_then_the_error_then_nothing() {
        let mut queue = count_to(20, Arc::default());
        for i in 0..20 {
            assert_eq!(queue.next_batch().unwrap(), batch(i));
        }
        assert!(matches!(queue.next_batch(), Err(DataError::BatchShape { .. })));
        assert!(matches!(queue.next_batch(), Err(DataError::Stopped)));
        assert!(matches!(queue.next_batch(), Err(DataError::Stopped)));
    }

    #[test]
    fn dropping_early_ends_the_thread_and_frees_the_loader() {
        for taken in [0, 1, 9] {
            let made = Arc::new(AtomicUsize::new(0));
            let mut queue = count_to(u16::MAX, Arc::clone(&made));
            for _ in 0..taken {
                queue.next_batch().unwrap();
            }
            drop(queue);
            assert_eq!(Arc::strong_count(&made), 1);
            // The queue, and the one that waited to be sent or was made during the drop.
            let count = made.load(Ordering::SeqCst);
            assert!(count <= taken + QUEUE + 1, "{count} made, {taken} taken");
        }
    }

    #[test]
    #[should_panic(expected = "loader broke")]
    fn a_panic_in_the_loader_is_passed_on() {
        let mut queue = Prefetch::from_source(|| panic!("loader broke"));
        let _ = queue.next_batch();
    }
}
