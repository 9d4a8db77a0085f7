//! Rows that wait for a place in the batch.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue of bounded length that ends when it is closed.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue of at most `most` items.
    pub fn new(most: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    /// How many items there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Adds all of `items`, or none if there is not room for all. Whether there was.
    pub fn add(&self, items: Vec<T>) -> bool {
        let mut state = self.lock();
        let fits = state.items.len() + items.len() <= self.most;
        if fits {
            state.items.extend(items);
            self.changed.notify_all();
        }
        fits
    }

    /// The first item, if there is one.
    pub fn next(&self) -> Option<T> {
        self.lock().items.pop_front()
    }

    /// The first item, when there is one; none if the queue is closed and empty.
    pub fn wait(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets [`Queue::wait`] end when nothing is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
