//! Records read back from the directories of stopped daemons: a node's journal, the controller's store. Each log is
//! read whole; that its sequence numbers have no hole and that its hash chain leads to the head is checked here.

use anyhow::{Context as _, ensure};
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::{Endpoint, Kind, LogId, RecordView, SessionId};
use glasshive_journal::store::{StoreConfig, StoreHandle};
use glasshive_journal::{JournalConfig, OpenReport};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// One record, as far as the scenarios look at it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its wall time, nanoseconds UTC.
    pub wall_ns: i64,
    /// When the controller took it; 0 in a node's journal.
    pub received_ns: i64,
    /// Its kind.
    pub kind: Option<Kind>,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// Where that session's visitor is.
    pub source: Option<Endpoint>,
    /// The detail of gaps, health records and ends of sessions; of others it is not kept.
    pub detail: Value,
}

/// One log from its first record on.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The node it belongs to, where the reader knows.
    pub node: String,
    /// Record `n` has sequence number `n + 1`.
    pub entries: Vec<Entry>,
    /// Chain head behind record `n`.
    pub heads: Vec<[u8; 32]>,
}

impl Log {
    /// Sequence number of the last record.
    pub fn last(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Chain head behind the record with that sequence number.
    pub fn head(&self, seq: u64) -> Option<[u8; 32]> {
        let Some(place) = seq.checked_sub(1) else { return Some([0; 32]) };
        self.heads.get(usize::try_from(place).ok()?).copied()
    }

    /// How many records of each kind.
    pub fn kinds(&self) -> BTreeMap<&'static str, u64> {
        let mut kinds = BTreeMap::new();
        for kind in self.entries.iter().filter_map(|entry| entry.kind) {
            *kinds.entry(kind.name()).or_default() += 1;
        }
        kinds
    }

    fn push(&mut self, record: &[u8], received_ns: i64) -> crate::Result<()> {
        let view = RecordView::parse(record)?;
        ensure!(view.header.seq == self.last() + 1, "record {} stands where {} belongs", view.header.seq, self.last() + 1);
        let (envelope, detail) = view.split()?;
        let kind = Kind::from_number(envelope.kind);
        let kept = matches!(kind, Some(Kind::Gap | Kind::Health | Kind::SessionClose));
        self.entries.push(Entry {
            wall_ns: view.header.wall_ns,
            received_ns,
            kind,
            session: envelope.session,
            source: envelope.wire.map(|wire| wire.source),
            detail: if kept { serde_json::from_str(detail)? } else { Value::Null },
        });
        let before = self.heads.last().copied().unwrap_or_default();
        self.heads.push(chain_hash(&before, &leaf_hash(record)));
        Ok(())
    }
}

fn runtime() -> crate::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What the journal in `dir` holds and what opening it found. It is opened as the daemon opens it: after an
/// unclean stop that recovers, so give a copy where the original is still wanted as it is.
pub fn journal(dir: &Path) -> crate::Result<(LogId, Log, OpenReport)> {
    let (journal, handle, report) = glasshive_journal::open(JournalConfig::new(dir))?;
    let runtime = runtime()?;
    let mut log = Log::default();
    ensure!(handle.first() == 1, "the first record is {}", handle.first());
    loop {
        let blocks = runtime.block_on(handle.read(log.last() + 1, 1 << 20))?;
        for block in &blocks {
            ensure!(Some(block.chain_before) == log.head(log.last()), "the chain does not continue at {}", block.first);
            for record in glasshive_journal::block::records(&block.bytes) {
                log.push(record?, 0)?;
            }
            ensure!(block.last == log.last(), "block {} to {} ends at {}", block.first, block.last, log.last());
        }
        if blocks.is_empty() {
            break;
        }
    }
    let durable = *handle.durable().borrow();
    ensure!((durable.seq, Some(durable.chain)) == (log.last(), log.head(log.last())), "the head is not where the records lead");
    let id = report.log;
    drop(handle);
    journal.close()?;
    Ok((id, log, report))
}

/// What a node's journal said about itself: the log, what the controller had acknowledged, what was durable.
pub fn promised(dir: &Path) -> crate::Result<(LogId, u64, u64)> {
    let path = dir.join("state");
    let text = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
    let state: Value = serde_json::from_slice(&text)?;
    let number = |key: &str| state[key].as_u64().with_context(|| format!("{key} in {state}"));
    let log = state["log"].as_str().context("no log")?.parse().map_err(|_| anyhow::anyhow!("log in {state}"))?;
    Ok((log, number("acknowledged")?, number("durable")?))
}

/// How far each log reaches in the controller's state directory, with its chain head; and that nothing was lost.
pub fn marks(state: &Path) -> crate::Result<BTreeMap<LogId, (u64, [u8; 32])>> {
    let (store, handle, report) = glasshive_journal::store::open(StoreConfig::new(state))?;
    ensure!(report.lost.is_empty() && report.quarantined.is_empty(), "the store did not open clean: {report:?}");
    let marks = handle.logs().into_iter().map(|high| (high.log, (high.seq, high.chain))).collect();
    drop(handle);
    store.close();
    Ok(marks)
}

/// Every log of the controller's state directory, whole.
pub fn store(state: &Path) -> crate::Result<BTreeMap<LogId, Log>> {
    let (store, handle, report) = glasshive_journal::store::open(StoreConfig::new(state))?;
    ensure!(report.lost.is_empty() && report.quarantined.is_empty(), "the store did not open clean: {report:?}");
    let logs = runtime()?.block_on(logs(&handle));
    drop(handle);
    store.close();
    logs
}

/// Every log of an open store, whole.
pub async fn logs(handle: &StoreHandle) -> crate::Result<BTreeMap<LogId, Log>> {
    let mut logs = BTreeMap::new();
    for high in handle.logs() {
        let mut log = Log { node: high.node.clone(), ..Log::default() };
        loop {
            let events = handle.log_events(high.log, log.last(), 4096, 4 << 20).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                ensure!(event.seq == log.last() + 1, "{}: {} where {} belongs", high.node, event.seq, log.last() + 1);
                log.push(&event.record, event.received_ns)?;
            }
        }
        ensure!(log.last() == high.seq, "{}: {} records, {} are acknowledged", high.node, log.last(), high.seq);
        ensure!(!high.chain_known || Some(high.chain) == log.head(high.seq), "{}: the chain does not verify", high.node);
        logs.insert(high.log, log);
    }
    Ok(logs)
}

/// The controller's log holds exactly what the node's holds.
pub fn same(at_controller: &Log, at_node: &Log) -> crate::Result<()> {
    let (stored, there) = (at_controller.last(), at_node.last());
    ensure!(stored == there, "{} records at the controller, {there} on the node", stored);
    ensure!(at_controller.heads == at_node.heads, "the records differ");
    Ok(())
}
