//! Helpers of the journal's tests.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, unreachable_pub)]

use glasshive_event::detail::{SessionClose, SessionOpen};
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::{Body, Envelope, Kind, RecordView, SessionId};
use glasshive_journal::{JournalConfig, JournalHandle, Pending, block};
use std::path::Path;

/// A config whose segments are small enough to roll often.
pub fn config(dir: &Path) -> JournalConfig {
    JournalConfig { segment_bytes: 1 << 20, cache_bytes: 1 << 20, boot: [7; 16], ..JournalConfig::new(dir) }
}

/// A record of about 350 bytes that says its number.
pub fn numbered(n: u64) -> Pending {
    body(Kind::Request, None, n, &serde_json::json!({ "n": n, "fill": "x".repeat(250) }))
}

pub fn session(n: u64) -> SessionId {
    SessionId::new(1_700_000_000_000_000_000, [(n >> 8) as u8, n as u8, 3, 4, 5, 6, 7, 8, 9, 10])
}

pub fn opening(n: u64) -> Pending {
    body(Kind::SessionOpen, Some(session(n)), n, &SessionOpen { persona: "p".into(), ..SessionOpen::default() })
}

pub fn closing(n: u64) -> Pending {
    body(Kind::SessionClose, Some(session(n)), n, &SessionClose { reason: "client".into(), ..SessionClose::default() })
}

fn body<D: serde::Serialize>(kind: Kind, session: Option<SessionId>, n: u64, detail: &D) -> Pending {
    let envelope =
        Envelope { kind: kind.number(), session, decoy: Some("web-1".into()), service: Some("http".into()), ..Envelope::default() };
    Pending { wall_ns: 1_700_000_000_000_000_000 + n as i64, mono_ns: n, body: Body::encode(&envelope, detail).unwrap() }
}

/// The number a record was made with.
pub fn number(record: &[u8]) -> Option<u64> {
    let detail: serde_json::Value = RecordView::parse(record).unwrap().detail().unwrap();
    detail.get("n").and_then(serde_json::Value::as_u64)
}

/// Everything from `from` to the durable end, in order; panics when a sequence number, a log id or the
/// chain is wrong. Ends are compared with the durable mark. Holes are returned.
pub async fn read_all(handle: &JournalHandle, from: u64) -> (Vec<Vec<u8>>, Vec<(u64, u64)>) {
    let (mut next, mut chain, mut all, mut holes) = (from, None, Vec::new(), Vec::new());
    let durable = *handle.durable().borrow();
    while next <= durable.seq {
        let blocks = handle.read(next, 64 * 1024).await.unwrap();
        assert!(!blocks.is_empty(), "nothing at {next} of {}", durable.seq);
        for found in blocks {
            let mut seq = found.first;
            if found.first > next {
                holes.push((next, found.first - 1));
                chain = None;
            }
            if let Some(chain) = chain {
                assert_eq!(found.chain_before, chain, "chain before {}", found.first);
            }
            let mut head = found.chain_before;
            for record in block::records(&found.bytes) {
                let record = record.unwrap();
                let view = RecordView::parse(record).unwrap();
                assert_eq!((view.header.seq, view.header.log), (seq, handle.log_id()));
                head = chain_hash(&head, &leaf_hash(record));
                if seq >= next {
                    all.push(record.to_vec());
                }
                seq += 1;
            }
            assert_eq!(found.last + 1, seq);
            next = seq;
            chain = Some(head);
        }
    }
    if let Some(chain) = chain.filter(|_| next == durable.seq + 1) {
        assert_eq!(chain, durable.chain);
    }
    (all, holes)
}

/// Directories of segments, oldest first.
pub fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut list: Vec<_> = std::fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.file_name().unwrap().len() == 20)
        .collect();
    list.sort();
    list
}

/// Entries of the journal's directory whose name begins so.
pub fn named(dir: &Path, start: &str) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(start))
        .collect()
}

/// A small generator with a printed seed: `GLASSHIVE_SEED` or the time.
pub struct Random(pub u64);

impl Random {
    pub fn new() -> Self {
        let seed = std::env::var("GLASSHIVE_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1);
        println!("GLASSHIVE_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
