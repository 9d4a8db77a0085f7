//! The devices that sessions take turns on.
//!
//! The router keeps one client per device id for ever, so ids are few and used again: the lowest
//! free one first. What an id leads to is a [`Slot`], which holds at most one session's recording.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CaptureError;
use super::recording::Recording;

/// All devices on which a session can be open.
pub(super) static POOL: Pool = Pool::new(u16::MAX);

/// Where the recording of a device's current session is.
pub(super) struct Slot {
    /// Device id, from 1. Zero is no session's: the default device leads there.
    pub(super) index: u16,
    recording: Mutex<Option<Recording>>,
}

impl Slot {
    fn new(index: u16) -> Arc<Self> {
        Arc::new(Self { index, recording: Mutex::new(None) })
    }

    /// The recording, if a session is open. Nothing panics while it is locked.
    pub(super) fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the open session.
    pub(super) fn session(&self) -> Option<u32> {
        self.recording().as_ref().map(|recording| recording.session)
    }
}

/// Slots, and which of them are free.
pub(super) struct Pool {
    limit: u16,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Arc<Slot>>,
    /// Indices of free slots, the lowest last.
    free: Vec<u16>,
    sessions: u32,
}

impl Pool {
    pub(super) const fn new(limit: u16) -> Self {
        let state = State { slots: Vec::new(), free: Vec::new(), sessions: 0 };
        Self { limit, state: Mutex::new(state) }
    }

    /// Opens a session on a free slot.
    pub(super) fn open(&self) -> Result<(Arc<Slot>, u32), CaptureError> {
        let mut state = self.state();
        let slot = match state.free.pop() {
            Some(index) => state.slots[usize::from(index) - 1].clone(),
            None => state.grow(self.limit)?,
        };
        // Comes round after four thousand million sessions.
        state.sessions = state.sessions.wrapping_add(1);
        *slot.recording() = Some(Recording::new(state.sessions));
        Ok((slot, state.sessions))
    }

    /// Ends `session` and returns what it recorded; does nothing if it has ended before.
    pub(super) fn close(&self, slot: &Slot, session: u32) -> Option<Recording> {
        let mut state = self.state();
        let recording = slot.recording().take_if(|open| open.session == session)?;
        let place = state.free.partition_point(|index| *index > slot.index);
        state.free.insert(place, slot.index);
        Some(recording)
    }

    /// The slot of a device id; one without a session for ids that no session ever had.
    pub(super) fn slot(&self, index: u16) -> Arc<Slot> {
        let place = usize::from(index).checked_sub(1);
        let slot = place.and_then(|place| self.state().slots.get(place).cloned());
        slot.unwrap_or_else(|| Slot::new(index))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn grow(&mut self, limit: u16) -> Result<Arc<Slot>, CaptureError> {
        let full = self.slots.len() == usize::from(limit);
        let index = u16::try_from(self.slots.len() + 1).ok().filter(|_| !full);
        let slot = Slot::new(index.ok_or(CaptureError::Exhausted { limit })?);
        self.slots.push(slot.clone());
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_is_used_again() {
        let pool = Pool::new(10);
        let open: Vec<_> = (0..3).map(|_| pool.open().unwrap()).collect();
        assert_eq!(open.iter().map(|(slot, _)| slot.index).collect::<Vec<_>>(), [1, 2, 3]);
        for place in [2, 0, 1] {
            pool.close(&open[place].0, open[place].1);
        }
        let again: Vec<_> = (0..4).map(|_| pool.open().unwrap().0.index).collect();
        assert_eq!(again, [1, 2, 3, 4]);
    }

    #[test]
    fn a_full_pool_says_so_and_recovers() {
        let pool = Pool::new(2);
        let (first, session) = pool.open().unwrap();
        pool.open().unwrap();
        assert_eq!(pool.open().err(), Some(CaptureError::Exhausted { limit: 2 }));
        assert!(pool.close(&first, session).is_some());
        assert_eq!(pool.open().unwrap().0.index, 1);
    }

    #[test]
    fn every_id_of_a_device_can_be_used() {
        let pool = Pool::new(u16::MAX);
        let open: Vec<_> = (0..u16::MAX).map(|_| pool.open().unwrap().0).collect();
        assert_eq!(open.last().unwrap().index, u16::MAX);
        assert!(pool.open().is_err());
    }

    #[test]
    fn closing_twice_frees_once_and_leaves_the_next_session_alone() {
        let pool = Pool::new(2);
        let (slot, first) = pool.open().unwrap();
        assert!(pool.close(&slot, first).is_some());
        assert!(pool.close(&slot, first).is_none());
        assert_eq!(pool.state().free, [1]);
        let (slot, second) = pool.open().unwrap();
        assert!(pool.close(&slot, first).is_none());
        assert_eq!(slot.session(), Some(second));
    }

    #[test]
    fn every_session_has_another_number() {
        let pool = Pool::new(1);
        let (slot, first) = pool.open().unwrap();
        pool.close(&slot, first);
        let (slot, second) = pool.open().unwrap();
        assert_ne!(first, second);
        assert_eq!(slot.session(), Some(second));
    }
}
