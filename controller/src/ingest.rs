//! Between the link and the store: batches in, durable sequence numbers out. What happens on the
//! link (joins, losses of connection, broken protocol) becomes events of the controller's own log.

use crate::desk::Desk;
use glasshive_daemon::telemetry::{Shown, Throttle};
use glasshive_event::detail::{Checkpoint, Health};
use glasshive_event::{Kind, LogId};
use glasshive_journal::store::{AppendError, NodeBatch, StoreHandle};
use glasshive_link::{Batch, Gap, HighWater, Ingest, Notice, Peer, Refusal};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notices waiting to be written down.
const NOTICES: usize = 1_024;

/// The controller's store as the link sees it.
pub struct StoreIngest {
    store: StoreHandle,
    desk: Arc<Desk>,
    notices: mpsc::Sender<Notice>,
}

impl StoreIngest {
    /// Feeds `store`; notices are written to `desk` by a task that ends with the last clone of the link.
    pub fn new(store: StoreHandle, desk: Arc<Desk>) -> (Self, tokio::task::JoinHandle<()>) {
        let (notices, received) = mpsc::channel(NOTICES);
        let writer = tokio::spawn(write_notices(Arc::clone(&desk), received));
        (Self { store, desk, notices }, writer)
    }
}

impl Ingest for StoreIngest {
    async fn high_water(&self, peer: &Peer, log: LogId) -> HighWater {
        let mark = self.store.high_water(peer.node.as_str(), log);
        mark.map_or_else(HighWater::default, |mark| HighWater { seq: mark.seq, chain: mark.chain })
    }

    async fn batch(&self, peer: &Peer, batch: Batch) -> Result<u64, Refusal> {
        let batch = NodeBatch {
            node: peer.node.as_str().to_owned(),
            net: peer.net.clone(),
            log: batch.log,
            first: batch.first,
            chain_before: batch.chain_before,
            bytes: batch.bytes,
            received_ns: batch.received_ns,
        };
        self.store.append(batch).await.map(|appended| appended.durable).map_err(refusal)
    }

    async fn gap(&self, peer: &Peer, gap: Gap) -> Result<u64, Refusal> {
        let now = crate::desk::now_ns();
        let appended = self.store.append_gap(peer.node.as_str(), &peer.net, gap.log, gap.from..=gap.to, &gap.why, now).await;
        appended.map(|appended| appended.durable).map_err(refusal)
    }

    async fn checkpoint(&self, peer: &Peer, log: LogId, note: Vec<u8>) {
        let note = format!("{} {log}\n{}", peer.node, String::from_utf8_lossy(&note));
        if let Err(failure) = self.desk.write(Kind::Checkpoint, &Checkpoint { note, ..Checkpoint::default() }).await {
            tracing::warn!(node = %peer.node, %failure, "checkpoint not kept");
        }
    }

    fn notice(&self, notice: Notice) {
        static FULL: Throttle = Throttle::new(1, Duration::from_secs(10));
        if self.notices.try_send(notice).is_err()
            && let Some(suppressed) = FULL.pass()
        {
            tracing::warn!(suppressed, "link notices come faster than they can be written");
        }
    }
}

fn refusal(error: AppendError) -> Refusal {
    match error {
        AppendError::Expected(seq) => Refusal::Expected(seq),
        AppendError::Tamper { seq } => Refusal::Tamper { seq },
        AppendError::Chain { seq } => Refusal::Chain { seq },
        AppendError::Full => Refusal::Full,
        AppendError::Closed => Refusal::Closed,
        other => Refusal::Damaged(other.to_string()),
    }
}

async fn write_notices(desk: Arc<Desk>, mut notices: mpsc::Receiver<Notice>) {
    static REJECTED: Throttle = Throttle::new(10, Duration::from_secs(10));
    while let Some(notice) = notices.recv().await {
        let (node, message, fields) = match notice {
            Notice::Connected { node, remote, version } => {
                tracing::info!(%node, %remote, version = %Shown(&version), "node connected");
                (node, "connected".to_owned(), json!({"remote": remote.to_string(), "version": version}))
            }
            Notice::Disconnected { node, why } => {
                tracing::info!(%node, why = %Shown(&why), "node disconnected");
                (node, format!("disconnected: {why}"), json!({}))
            }
            Notice::Enrolled { node, renewed } => {
                tracing::info!(%node, renewed, "node certified");
                (node, if renewed { "certificate renewed".to_owned() } else { "joined".to_owned() }, json!({}))
            }
            Notice::Violation { node, what } => {
                tracing::error!(%node, what = %Shown(&what), "node broke the protocol or its log");
                (node, format!("violation: {what}"), json!({}))
            }
            // Anyone who reaches the port can cause these: counted in the log, never stored.
            Notice::Rejected { remote, why } => {
                if let Some(suppressed) = REJECTED.pass() {
                    tracing::warn!(%remote, why = %Shown(&why), suppressed, "rejected");
                }
                continue;
            }
        };
        let mut fields = match fields {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        fields.insert("node".to_owned(), json!(node));
        let message: String = format!("node {node} {message}").chars().take(1_000).collect();
        let detail = Health { what: "link".to_owned(), message, fields };
        if let Err(failure) = desk.write(Kind::Health, &detail).await {
            tracing::warn!(%failure, "link event not kept");
        }
    }
}
