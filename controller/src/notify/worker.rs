//! The workers: one a channel, with a bounded queue, trying again at doubling distances.

use super::config::{Filter, Filtered};
use super::{Channel, Note};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Notes waiting for one channel.
const QUEUE: usize = 256;
/// First and longest wait before a note is sent again.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Times a note is sent again, in about a quarter of an hour; then it is given up and counted.
const TRIES: u32 = 20;

/// How a channel does. Counts are since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelStatus {
    /// Its name.
    pub channel: String,
    /// Where it sends to.
    pub target: String,
    /// Notes that arrived.
    pub sent: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Notes dropped because the queue was full, or given up.
    pub dropped: u64,
    /// Notes waiting.
    pub queued: u64,
    /// Why the last try failed; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the channels' status is read.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Vec<ChannelStatus>>>);

impl Board {
    /// As it is now.
    pub fn status(&self) -> Vec<ChannelStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, index: usize, change: impl FnOnce(&mut ChannelStatus) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).map(change)
    }
}

/// The running channels.
pub struct Channels {
    list: Vec<(Filter, mpsc::Sender<Note>)>,
    board: Board,
    tasks: TaskTracker,
}

impl Channels {
    /// Starts a worker for each.
    pub(super) fn start(channels: Vec<Filtered>, board: Board, stop: &CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        let mut list = Vec::new();
        for (index, (channel, filter)) in channels.into_iter().enumerate() {
            let (queue, notes) = mpsc::channel(QUEUE);
            let status = ChannelStatus { channel: channel.name().to_owned(), target: channel.target(), ..ChannelStatus::default() };
            board.0.lock().unwrap_or_else(PoisonError::into_inner).push(status);
            tasks.spawn(work(index, channel, notes, board.clone(), stop.clone()));
            list.push((filter, queue));
        }
        tasks.close();
        Self { list, board, tasks }
    }

    /// The channels' filters, in their order.
    pub(super) fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.list.iter().map(|(filter, _)| filter)
    }

    /// Puts a note in a channel's queue; one that is full drops and counts it.
    pub(super) fn offer(&self, index: usize, note: Note) {
        let Some((_, queue)) = self.list.get(index) else { return };
        let taken = queue.try_send(note).is_ok();
        self.board.change(index, |status| {
            if taken {
                status.queued = status.queued.saturating_add(1);
            } else {
                status.dropped = status.dropped.saturating_add(1);
            }
        });
    }

    /// Lets the workers end: what waits is sent once more.
    pub(super) async fn finish(self) {
        drop(self.list);
        self.tasks.wait().await;
    }
}

async fn work(index: usize, channel: Arc<dyn Channel>, mut notes: mpsc::Receiver<Note>, board: Board, stop: CancellationToken) {
    let mut told_dropped = 0;
    while let Some(mut note) = notes.recv().await {
        let mut wait = WAIT.0;
        for left in (0..=TRIES).rev() {
            let dropped = board.change(index, |status| status.dropped).unwrap_or(0);
            note.dropped = dropped.saturating_sub(told_dropped);
            match channel.send(&note).await {
                Ok(()) => {
                    told_dropped = dropped;
                    board.change(index, |status| {
                        status.sent = status.sent.saturating_add(1);
                        status.error = None;
                    });
                    break;
                }
                Err(error) => {
                    let first = board.change(index, |status| {
                        status.failed = status.failed.saturating_add(1);
                        status.error.replace(error.clone()).is_none()
                    });
                    if first == Some(true) {
                        tracing::warn!(channel = channel.name(), target_address = channel.target(), %error, "a notification did not arrive; it is tried again");
                    }
                }
            }
            if left == 0 || stop.is_cancelled() {
                board.change(index, |status| status.dropped = status.dropped.saturating_add(1));
                break;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = wait.saturating_mul(2).min(WAIT.1);
        }
        board.change(index, |status| status.queued = status.queued.saturating_sub(1));
    }
}
