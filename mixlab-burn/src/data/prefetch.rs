//! Batches made ready on another thread while the step runs.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Batch, Batches, DataError, Position};

/// Batches that wait at most.
const QUEUE: usize = 4;

/// A batch, and where its source stood after it.
type Next = Result<(Batch, Option<Position>), DataError>;

/// A source of batches on its own thread, which ends when this is dropped.
pub struct Prefetch {
    /// Taken first on drop: the thread then fails to send, and ends.
    queue: Option<Receiver<Next>>,
    thread: Option<JoinHandle<()>>,
    /// After the last batch that was taken.
    position: Option<Position>,
}

impl Prefetch {
    /// Starts to load, at most four batches ahead.
    pub fn start(mut source: impl Batches + Send + 'static) -> Self {
        let (sender, queue) = sync_channel(QUEUE);
        let position = source.position();
        let thread = thread::spawn(move || {
            loop {
                let next = source.next_batch().map(|batch| (batch, source.position()));
                let failed = next.is_err();
                if sender.send(next).is_err() || failed {
                    return;
                }
            }
        });
        Self { queue: Some(queue), thread: Some(thread), position }
    }
}

impl Batches for Prefetch {
    /// The next batch, in the order of the source; waits for it if need be.
    ///
    /// # Errors
    /// What the source reported for this batch. Afterwards there are no more:
    /// [`DataError::Stopped`].
    ///
    /// # Panics
    /// If the source panicked.
    fn next_batch(&mut self) -> Result<Batch, DataError> {
        if let Some(Ok(next)) = self.queue.as_ref().map(Receiver::recv) {
            let (batch, position) = next?;
            self.position = position;
            return Ok(batch);
        }
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        Err(DataError::Stopped)
    }

    /// Where the source stood after the last batch that was taken, not after those that wait.
    fn position(&self) -> Option<Position> {
        self.position.clone()
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
        Prefetch::start((0..=end).map(move |next| {
            made.fetch_add(1, Ordering::SeqCst);
            if next == end {
                return Err(DataError::BatchShape { batch_tokens: 7, seq_len: 2 });
            }
            Ok(batch(next))
        }))
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
        let mut queue = Prefetch::start(std::iter::repeat_with(|| panic!("loader broke")));
        let _ = queue.next_batch();
    }
}
