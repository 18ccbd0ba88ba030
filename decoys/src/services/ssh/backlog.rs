//! How much of a visitor's input waits for the tasks of his channels. russh grants window as input
//! arrives, not as it is used, and its loop must never wait for a task (the task may be waiting for
//! the window update the loop has yet to read); so the loop queues at once, and the stream is not read
//! while too much is queued. It must never let more wait than sshd would buffer for one channel.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

/// Input above which the stream is not read: sshd's window of one channel, and a few packets. Less could
/// leave the visitor's own window update unread behind input he was allowed to send.
const HIGH: usize = 2 * 1024 * 1024 + 256 * 1024;
/// What an event weighs beside its bytes.
const EVENT: usize = 96;

/// The backlog of one connection.
#[derive(Default)]
pub(in crate::services) struct Backlog {
    bytes: AtomicUsize,
    reader: AtomicWaker,
}

/// Some queued input; dropping it says that it was used.
#[derive(Debug)]
pub(in crate::services) struct Weight(Arc<Backlog>, usize);

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backlog({})", self.bytes.load(Ordering::Relaxed))
    }
}

impl Backlog {
    /// Adds an event of so many bytes.
    pub(in crate::services) fn add(self: &Arc<Self>, bytes: usize) -> Weight {
        let weight = bytes.saturating_add(EVENT);
        self.bytes.fetch_add(weight, Ordering::AcqRel);
        Weight(Arc::clone(self), weight)
    }

    /// Waits until the stream may be read.
    pub(in crate::services) async fn room(&self) {
        std::future::poll_fn(|cx| if self.full(cx.waker()) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }).await;
    }

    /// Whether the stream must not be read now; `waker` is woken when it may be again.
    pub(in crate::services) fn full(&self, waker: &Waker) -> bool {
        if self.bytes.load(Ordering::Acquire) <= HIGH {
            return false;
        }
        self.reader.register(waker);
        self.bytes.load(Ordering::Acquire) > HIGH
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let before = self.0.bytes.fetch_sub(self.1, Ordering::AcqRel);
        if before > HIGH && before.saturating_sub(self.1) <= HIGH {
            self.0.reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn full_until_enough_was_used() {
        let backlog = Arc::new(Backlog::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let first = backlog.add(HIGH - 2 * EVENT);
        assert!(!backlog.full(&waker));
        let second = backlog.add(EVENT);
        assert!(backlog.full(&waker));
        drop(second);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(!backlog.full(&waker));
        drop(first);
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }
}
