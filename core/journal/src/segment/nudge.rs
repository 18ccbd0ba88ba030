//! Wakes a flush of sled that would wait for ever.
//!
//! In sled 0.34.7 a write that fails in its thread pool may set the database's global error without
//! waking the thread that waits for that write (`exit_reservation` in `pagecache/logger.rs`; seen on a
//! full disk). Any other flush notices the error and wakes everybody. That is all this does: while a
//! call is under way and the error is set, it flushes. It holds the database open: stop it before the
//! last handle is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a call under way is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// After so many looks without a call the thread sleeps until the next one.
const IDLE: u32 = 20;

#[derive(Default)]
struct State {
    busy: AtomicBool,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// The watching thread of one database.
pub(super) struct Nudge {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Nudge {
    pub(super) fn start(db: sled::Db) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let watched = state.clone();
        let wake = move || {
            if db.context.global_error().is_err() {
                let _ = catch_unwind(AssertUnwindSafe(|| db.flush()));
            }
        };
        let thread = std::thread::Builder::new().name("segment-nudge".into()).stack_size(256 << 10).spawn(move || watch(wake, &watched))?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Runs a call that flushes.
    pub(super) fn watching<T>(&self, call: impl FnOnce() -> T) -> T {
        self.state.busy.store(true, Ordering::SeqCst);
        if self.state.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        let result = call();
        self.state.busy.store(false, Ordering::SeqCst);
        result
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(wake: impl Fn(), state: &State) {
    let mut idle = 0;
    while !state.stop.load(Ordering::SeqCst) {
        if state.busy.load(Ordering::SeqCst) {
            idle = 0;
            wake();
        } else {
            idle += 1;
        }
        if idle > IDLE {
            state.asleep.store(true, Ordering::SeqCst);
            if !state.busy.load(Ordering::SeqCst) && !state.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            state.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        } else {
            std::thread::park_timeout(EVERY);
        }
    }
}
