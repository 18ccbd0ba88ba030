use super::*;
use crate::store::{Appended, NodeBatch, SessionQuery, StatsQuery, StoreConfig, StoreHandle, open};
use glasshive_event::record::{Body, Header, chain_hash, leaf_hash};
use glasshive_event::{Envelope, Kind};

/// 2023-11-14T22:13:20Z.
const T0: i64 = 1_700_000_000_000_000_000;

/// A log of sessions of two records.
struct Node {
    log: LogId,
    seq: u64,
    chain: [u8; 32],
}

impl Node {
    fn new(number: u8) -> Self {
        Self { log: LogId([number; 16]), seq: 0, chain: [0; 32] }
    }

    fn batch(&mut self, sessions: u64) -> NodeBatch {
        let (first, chain_before) = (self.seq + 1, self.chain);
        let mut bytes = Vec::new();
        for n in 0..2 * sessions {
            self.seq += 1;
            let wall_ns = T0 + self.seq as i64 * 1_000_000;
            let mut id = [0; 10];
            id[1] = self.log.0[0];
            id[2..].copy_from_slice(&(self.seq.div_ceil(2)).to_be_bytes());
            let session = Some(SessionId::new(T0 + self.seq.div_ceil(2) as i64 * 2_000_000, id));
            let (kind, detail) = match n % 2 {
                0 => (Kind::SessionOpen, serde_json::json!({"persona": "debian", "note": "x".repeat(1_500)})),
                _ => (Kind::SessionClose, serde_json::json!({"reason": "client"})),
            };
            let body = Body::encode(&Envelope { kind: kind.number(), session, ..Envelope::default() }, &detail).unwrap();
            let record = body.with_header(&Header { log: self.log, seq: self.seq, wall_ns, mono_ns: 0, boot: [0; 16] });
            self.chain = chain_hash(&self.chain, &leaf_hash(&record));
            bytes.extend_from_slice(&(record.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&record);
        }
        NodeBatch { node: "n".into(), net: "lab".into(), log: self.log, first, chain_before, bytes, received_ns: T0 }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn counts(handle: &StoreHandle) -> (u64, usize, u64) {
    handle.settled().await.unwrap();
    let stats = handle.stats(StatsQuery::default()).await.unwrap();
    let sessions = handle.sessions(SessionQuery { limit: 10_000, ..SessionQuery::default() }).await.unwrap();
    assert!(sessions.rows.iter().all(|row| row.events == 2 && row.close_ns.is_some()));
    (stats.total.events, sessions.rows.len(), handle.nodes(None).await.unwrap()[0].row.gap_count)
}

#[test]
fn nobody_waits_for_a_follower_that_stands_still_and_it_reads_what_it_was_not_told() {
    let rt = runtime();
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_bytes: 1 << 20, ..StoreConfig::new(dir.path()) };
    let (store, handle, _) = open(config).unwrap();
    rt.block_on(async {
        let (mut a, mut b) = (Node::new(1), Node::new(2));
        for turn in 0..3u64 {
            let (release, hold) = std::sync::mpsc::sync_channel(1);
            handle.shared.follower.send(Told::Hold(hold)).unwrap();
            // Far more groups than its queue has room for, some of them gaps.
            for n in 0..60u64 {
                for node in [&mut a, &mut b] {
                    let batch = node.batch(20);
                    assert_eq!(handle.append(batch).await.unwrap(), Appended { durable: node.seq });
                }
                if n % 20 == 19 {
                    let (from, to) = (a.seq + 1, a.seq + 4);
                    handle.append_gap("n", "lab", a.log, from..=to, "test", T0).await.unwrap();
                    (a.seq, a.chain) = (to, [0; 32]);
                }
            }
            let stored = a.seq + b.seq;
            assert!(handle.behind() > 0 && handle.behind() <= stored, "{} of {stored}", handle.behind());
            assert!(handle.shared.log.indexes().len() > 2, "segments were closed meanwhile");
            drop(release);
            let all = (turn + 1) * 60 * 2 * 40;
            assert_eq!(counts(&handle).await, (all, all as usize / 2, 3 * (turn + 1)));
            assert_eq!(handle.behind(), 0);
        }
    });
    drop(handle);
    store.close();
    let (store, handle, report) = open(StoreConfig::new(dir.path())).unwrap();
    assert_eq!(report.reindexed, 0, "the position was written");
    assert_eq!(rt.block_on(counts(&handle)), (3 * 4_800, 3 * 2_400, 9));
    store.close();
}

#[test]
fn old_segments_wait_for_the_summary() {
    let rt = runtime();
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_bytes: 1 << 20, max_age: Some(Duration::from_secs(1)), ..StoreConfig::new(dir.path()) };
    let (store, handle, _) = open(config).unwrap();
    rt.block_on(async {
        let mut node = Node::new(1);
        let (release, hold) = std::sync::mpsc::sync_channel(1);
        handle.shared.follower.send(Told::Hold(hold)).unwrap();
        for _ in 0..120 {
            handle.append(node.batch(20)).await.unwrap();
        }
        let much_later = T0 + 86_400_000_000_000 / 2;
        let sweep = handle.sweep(much_later).await.unwrap();
        assert_eq!(sweep.segments, 0, "the summary has not read them");
        drop(release);
        handle.settled().await.unwrap();
        let sweep = handle.sweep(much_later).await.unwrap();
        assert!(sweep.segments > 0);
        assert_eq!(handle.stats(StatsQuery::default()).await.unwrap().total.events, 4_800);
    });
    store.close();
}
