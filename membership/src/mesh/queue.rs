//! A bounded queue between tasks. What happens when it is full depends on what it carries: records are refused (repair
//! brings them later), gossip replaces what is older.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What a queue may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most items.
    pub(crate) items: usize,
    /// Most bytes; a single item is always taken when the queue is empty.
    pub(crate) bytes: usize,
}

/// Something with a size in bytes.
pub(crate) trait Weighed {
    /// Bytes it keeps in memory.
    fn size(&self) -> usize;
}

impl Weighed for bytes::Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

impl<A: Copy> Weighed for (A, bytes::Bytes) {
    fn size(&self) -> usize {
        self.1.len()
    }
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
}

/// A queue for many writers and one reader.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    filled: Notify,
}

impl<T: Weighed> Queue<T> {
    /// An empty queue.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
        };
        Self {
            bounds,
            state: Mutex::new(state),
            filled: Notify::new(),
        }
    }

    /// Adds an item unless the queue is full. Says whether it did.
    #[must_use]
    pub(crate) fn offer(&self, item: T) -> bool {
        let mut state = self.lock();
        if !self.fits(&state, &item) {
            return false;
        }
        state.push(item);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Adds an item in place of the oldest ones where the queue is full. Says how many those were.
    pub(crate) fn push_newest(&self, item: T) -> u64 {
        let mut state = self.lock();
        let mut dropped = 0;
        while !self.fits(&state, &item) && state.pop().is_some() {
            dropped += 1;
        }
        state.push(item);
        drop(state);
        self.filled.notify_one();
        dropped
    }

    /// The oldest item, when there is one. Cancelling it loses nothing.
    pub(crate) async fn next(&self) -> T {
        loop {
            if let Some(item) = self.lock().pop() {
                return item;
            }
            self.filled.notified().await;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        while self.lock().pop().is_some() {}
    }

    fn fits(&self, state: &State<T>, item: &T) -> bool {
        state.items.is_empty()
            || (state.items.len() < self.bounds.items && state.bytes + item.size() <= self.bounds.bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // No panic can happen while it is held; if one did, the queue is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Weighed> State<T> {
    fn push(&mut self, item: T) {
        self.bytes += item.size();
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size();
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn item(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let queue = Queue::new(Bounds { items: 2, bytes: 10 });
        assert!(queue.offer(item(1, 20)), "one item always fits");
        assert!(!queue.offer(item(2, 1)));
        assert_eq!(queue.next().await, item(1, 20));
        assert!(queue.offer(item(3, 4)) && queue.offer(item(4, 6)));
        assert!(!queue.offer(item(5, 0)));
        assert_eq!(queue.next().await, item(3, 4));
    }

    #[tokio::test]
    async fn the_newest_wins() {
        let queue = Queue::new(Bounds { items: 2, bytes: 10 });
        assert_eq!([1, 2, 3].map(|n| queue.push_newest(item(n, 1))), [0, 0, 1]);
        assert_eq!(queue.push_newest(item(4, 10)), 2);
        assert_eq!(queue.next().await, item(4, 10));
        queue.push_newest(item(5, 1));
        queue.clear();
        assert!(queue.offer(item(6, 10)));
        assert_eq!(queue.next().await, item(6, 10));
    }
}
