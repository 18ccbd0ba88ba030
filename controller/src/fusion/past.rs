//! Stored events read again, in the order of time.

use crate::fail::Failure;
use glasshive_journal::store::{EventQuery, StoreError, StoreHandle, StoredEvent};
use tokio::sync::mpsc;

/// Stored events of a time, in its order.
pub(super) struct Past {
    from: mpsc::Receiver<StoredEvent>,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Past {
    pub(super) fn start(store: &StoreHandle, query: EventQuery) -> Self {
        let (to, from) = mpsc::channel(256);
        let store = store.clone();
        Self { from, task: tokio::spawn(async move { store.events(query, to).await }) }
    }

    pub(super) async fn next(&mut self) -> Option<StoredEvent> {
        self.from.recv().await
    }

    pub(super) async fn finish(self) -> Result<(), Failure> {
        drop(self.from);
        match self.task.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Failure::failed(format!("reading the log: {error}"))),
        }
    }
}
