//! A pretended node for the store's tests: it numbers, chains and batches what it is told happened.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)]

use glasshive_event::record::{Body, Header, chain_hash, leaf_hash};
use glasshive_event::{Endpoint, Envelope, Kind, LogId, SessionId, Transport, Tuple};
use glasshive_journal::store::*;
use serde_json::{Value, json};
use std::path::Path;

/// 2023-11-14T22:13:20Z.
pub const T0: i64 = 1_700_000_000_000_000_000;
pub const MS: i64 = 1_000_000;
pub const SECOND: i64 = 1_000_000_000;
pub const HOUR: i64 = 3_600 * SECOND;
pub const DAY: i64 = 24 * HOUR;

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig { cache_bytes: 16 << 20, ..StoreConfig::new(dir) }
}

pub fn session_id(wall_ns: i64, n: u64) -> SessionId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    SessionId::new(wall_ns, random)
}

/// Who and where a session is.
#[derive(Clone, Debug)]
pub struct Visit {
    pub id: SessionId,
    pub parent: Option<SessionId>,
    pub source: String,
    pub service: String,
    pub decoy: String,
}

pub fn visit(id: SessionId, source: &str, service: &str) -> Visit {
    Visit { id, parent: None, source: source.into(), service: service.into(), decoy: "web-1".into() }
}

pub struct Node {
    pub name: String,
    pub net: String,
    pub log: LogId,
    /// Last sequence number, and chain heads before each batch start.
    pub seq: u64,
    pub chain: [u8; 32],
    first: u64,
    before: [u8; 32],
    bytes: Vec<u8>,
}

impl Node {
    pub fn new(name: &str, net: &str, log: u8) -> Self {
        Self {
            name: name.into(),
            net: net.into(),
            log: LogId([log; 16]),
            seq: 0,
            chain: [0; 32],
            first: 1,
            before: [0; 32],
            bytes: Vec::new(),
        }
    }

    /// Something happened.
    pub fn event(&mut self, kind: Kind, wall_ns: i64, visit: Option<&Visit>, detail: Value) -> &mut Self {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
        let envelope = Envelope {
            kind: kind.number(),
            session: visit.map(|visit| visit.id),
            parent: visit.and_then(|visit| visit.parent),
            decoy: visit.map(|visit| visit.decoy.clone()),
            service: visit.map(|visit| visit.service.clone()),
            transport: visit.map(|_| Transport::Tcp),
            wire: visit.map(|visit| Tuple { source: end(&visit.source, 4000), destination: end("198.51.100.1", 22) }),
            ..Envelope::default()
        };
        let header = Header { log: self.log, seq: self.seq + 1, wall_ns, mono_ns: 0, boot: [0; 16] };
        let record = Body::encode(&envelope, &detail).unwrap().with_header(&header);
        self.raw(&record)
    }

    /// A record as it is.
    pub fn raw(&mut self, record: &[u8]) -> &mut Self {
        self.seq += 1;
        self.chain = chain_hash(&self.chain, &leaf_hash(record));
        self.bytes.extend_from_slice(&(record.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(record);
        self
    }

    /// A whole small visit: open, login, command, close.
    pub fn visit(&mut self, visit: &Visit, wall_ns: i64, user: &str) -> &mut Self {
        let login =
            json!({"user": user, "method": "password", "secret_kind": "plain", "secret_pivot": format!("p-{user}"), "secret_sealed": "s"});
        self.event(Kind::SessionOpen, wall_ns, Some(visit), json!({"persona": "debian"}))
            .event(Kind::Login, wall_ns.saturating_add(1), Some(visit), login)
            .event(Kind::Command, wall_ns.saturating_add(2), Some(visit), json!({"input": "id"}))
            .event(Kind::SessionClose, wall_ns.saturating_add(3), Some(visit), json!({"reason": "client", "bytes_in": 5, "bytes_out": 7}))
    }

    /// What happened since the last batch.
    pub fn batch(&mut self, received_ns: i64) -> NodeBatch {
        let batch = NodeBatch {
            node: self.name.clone(),
            net: self.net.clone(),
            log: self.log,
            first: self.first,
            chain_before: self.before,
            bytes: std::mem::take(&mut self.bytes),
            received_ns,
        };
        (self.first, self.before) = (self.seq + 1, self.chain);
        batch
    }
}

/// Everything the summary says, for comparison.
#[derive(Debug, PartialEq)]
pub struct Everything {
    pub sessions: Vec<SessionRow>,
    pub credentials: Vec<CredentialRow>,
    pub files: Vec<FileRow>,
    pub stats: Stats,
    pub nodes: Vec<NodeStatus>,
    pub flows: Vec<FlowRow>,
    pub findings: Vec<FindingRow>,
    pub joins: Vec<JoinRate>,
}

pub async fn everything(store: &StoreHandle) -> Everything {
    store.settled().await.unwrap();
    Everything {
        sessions: all_sessions(store, SessionQuery { children: true, ..SessionQuery::default() }, 10_000).await,
        credentials: store.credentials(CredentialQuery { limit: 10_000, ..CredentialQuery::default() }).await.unwrap().rows,
        files: store.files(FileQuery { limit: 10_000, ..FileQuery::default() }).await.unwrap().rows,
        stats: store.stats(StatsQuery { top: 10_000, ..StatsQuery::default() }).await.unwrap(),
        nodes: store.nodes(None).await.unwrap(),
        flows: store.flows(FlowQuery { limit: 10_000, ..FlowQuery::default() }).await.unwrap().rows,
        findings: store.findings(FindingQuery { limit: 10_000, ..FindingQuery::default() }).await.unwrap().rows,
        joins: store.join_rates(JoinQuery::default()).await.unwrap(),
    }
}

pub async fn all_sessions(store: &StoreHandle, mut query: SessionQuery, limit: usize) -> Vec<SessionRow> {
    let mut rows = Vec::new();
    query.limit = limit;
    loop {
        let page = store.sessions(query.clone()).await.unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return rows,
        }
    }
}

pub async fn all_events(store: &StoreHandle, query: EventQuery) -> Vec<StoredEvent> {
    let (out, mut events) = tokio::sync::mpsc::channel(4);
    let reader = async {
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            all.push(event);
        }
        all
    };
    let (result, all) = tokio::join!(store.events(query, out), reader);
    result.unwrap();
    all
}
