//! What is on its way from the device to the disk, bounded in bytes.

use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

/// Bytes that are on their way, and who waits for them to become fewer.
#[derive(Default)]
struct Load {
    bytes: Mutex<Bytes>,
    fewer: Condvar,
}

#[derive(Default)]
struct Bytes {
    held: usize,
    /// Nobody takes anything any more.
    closed: bool,
}

/// The end where things go in.
pub struct Entrance<T> {
    sender: Sender<(T, usize)>,
    load: Arc<Load>,
    most: usize,
}

/// The end where they come out.
pub struct Exit<T> {
    receiver: Receiver<(T, usize)>,
    load: Arc<Load>,
}

/// A queue that holds at most `most` bytes, or one thing that is larger.
pub fn queue<T>(most: usize) -> (Entrance<T>, Exit<T>) {
    let (sender, receiver) = channel();
    let load = Arc::<Load>::default();
    (Entrance { sender, load: load.clone(), most }, Exit { receiver, load })
}

impl<T> Entrance<T> {
    /// Puts in something of so many bytes, once there is room.
    ///
    /// # Errors
    /// If the other end is gone.
    pub fn put(&self, thing: T, bytes: usize) -> Result<(), SendError<()>> {
        let now = self.load.bytes.lock().expect("nothing panics with it");
        let full = |now: &mut Bytes| {
            !now.closed && now.held > 0 && now.held.saturating_add(bytes) > self.most
        };
        let mut now = self.load.fewer.wait_while(now, full).expect("nothing panics with it");
        if now.closed {
            return Err(SendError(()));
        }
        now.held += bytes;
        drop(now);
        self.sender.send((thing, bytes)).map_err(|_| SendError(()))
    }
}

impl<T> Exit<T> {
    /// Waits for the next thing and hands it to `use_it`, which has it while it still counts; `None`
    /// once the other end is gone.
    pub fn take<R>(&self, use_it: impl FnOnce(T) -> R) -> Option<R> {
        let (thing, bytes) = self.receiver.recv().ok()?;
        let result = use_it(thing);
        self.load.bytes.lock().expect("nothing panics with it").held -= bytes;
        self.load.fewer.notify_all();
        Some(result)
    }
}

impl<T> Drop for Exit<T> {
    /// Nobody waits for a thread that is gone.
    fn drop(&mut self) {
        if let Ok(mut bytes) = self.load.bytes.lock() {
            bytes.closed = true;
        }
        self.load.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_is_held_than_there_may_be() {
        let (entrance, exit) = queue::<usize>(10);
        let most = Arc::new(AtomicUsize::new(0));
        let load = entrance.load.clone();
        let seen = most.clone();
        let reader = std::thread::spawn(move || {
            let mut sum = 0;
            while let Some(n) = exit.take(|n| {
                seen.fetch_max(load.bytes.lock().unwrap().held, Ordering::SeqCst);
                n
            }) {
                sum += n;
            }
            sum
        });
        // The one of 25 bytes only goes alone.
        (0..100).for_each(|n| entrance.put(n, if n == 50 { 25 } else { 4 }).unwrap());
        drop(entrance);
        assert_eq!(reader.join().unwrap(), 4950);
        assert!(most.load(Ordering::SeqCst) <= 25);
    }

    #[test]
    fn a_reader_that_ends_lets_the_writer_go() {
        let (entrance, exit) = queue::<u8>(1);
        entrance.put(1, 1).unwrap();
        let writer =
            std::thread::spawn(move || entrance.put(2, 1).is_err() || entrance.put(3, 1).is_err());
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(exit);
        assert!(writer.join().unwrap());
    }
}
