//! The summary is a function of the log: folding live, catching up after a crash at any point, and
//! rebuilding from scratch give equal rows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::{FindingId, FlowId, Kind, SessionId};
use glasshive_journal::store::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// An event of a kind, of one of a few sessions (or none), at one of three nodes, some hours after the start.
    Event { node: usize, session: Option<u8>, what: u8, hour: i8, pick: u8 },
    /// A node sends what it has.
    Send { node: usize },
    /// A node declares its unsent events lost.
    Lose { node: usize },
    /// The store is dropped without closing, and opened.
    Crash,
    /// The store is closed and opened.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (0usize..3, proptest::option::of(0u8..6), 0u8..16, -30i8..60, any::<u8>())
        .prop_map(|(node, session, what, hour, pick)| Step::Event { node, session, what, hour, pick });
    let step = prop_oneof![
        60 => event,
        12 => (0usize..3).prop_map(|node| Step::Send { node }),
        1 => (0usize..3).prop_map(|node| Step::Lose { node }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 20..250)
}

fn event(node: &mut Node, session: Option<(SessionId, u8)>, what: u8, wall: i64, pick: u8) {
    let visitor = session.map(|(id, n)| {
        let mut visitor = visit(id, &format!("192.0.2.{}", n % 3), if n.is_multiple_of(2) { "ssh" } else { "http" });
        visitor.parent = (n == 5).then_some(session_id(T0, 0));
        visitor
    });
    let user = format!("u{}", pick % 5);
    let (kind, detail): (Kind, Value) = match what {
        0 => (Kind::SessionOpen, json!({"persona": "debian"})),
        1 => (Kind::SessionClose, json!({"reason": "client", "bytes_in": pick, "bytes_out": 3, "cut_bytes": pick % 3})),
        2..=4 => (
            Kind::Login,
            json!({"user": user, "secret_kind": "plain", "secret_pivot": format!("p{}", pick % 3), "secret_sealed": format!("s{pick}"),
                   "accepted": pick.is_multiple_of(2), "fingerprint": format!("f{}", pick % 12)}),
        ),
        5 => (Kind::Command, json!({"input": "id"})),
        6 => (Kind::Request, json!({"protocol": "http"})),
        7 => (
            Kind::File,
            json!({"name": format!("n{}", pick % 30), "sha256": format!("{:02x}", pick % 4), "size": 3, "content_sealed": "x"}),
        ),
        8 => (Kind::Hello, json!({"protocol": "tls", "ja3": format!("j{}", pick % 3), "ja4": "k"})),
        9 => (Kind::Loss, json!({"place": "udp_queue", "count": pick})),
        10 => (Kind::Health, json!({"what": "heartbeat"})),
        11 => (Kind::Gap, json!({"from": pick, "why": "crash"})),
        12 => (Kind::Finding, json!({"finding": "f"})),
        13 => (
            Kind::Finding,
            json!({"finding": FindingId([pick % 3; 16]), "at": wall, "first": T0, "severity": "high", "late": pick.is_multiple_of(2),
                   "sessions": [session_id(T0, u64::from(pick % 3) * 100), session_id(wall, 7)], "summary": format!("s{pick}")}),
        ),
        14 => {
            let first = T0 + i64::from(pick % 4) * 7 * HOUR;
            let mut id = session_id(first, u64::from(pick % 6)).0;
            id[6] = 0x80;
            let ends =
                json!({"source": {"ip": format!("192.0.2.{}", pick % 3), "port": 4000}, "destination": {"ip": "198.51.100.1", "port": 22}});
            (
                Kind::Flow,
                json!({"flow": FlowId(id), "seq": pick % 2, "first": first, "last": first + i64::from(pick), "protocol": 6, "wire": ends,
                       "established": pick.is_multiple_of(2), "conn": pick.is_multiple_of(5).then_some("22".repeat(16)), "state": format!("S{}", pick % 3)}),
            )
        }
        _ => (Kind::Stream, json!({"channel": 0})),
    };
    node.event(kind, wall, visitor.as_ref(), detail);
}

/// Everything, sessions and flows by id: between days and their parts the order of far-off clocks is another.
async fn sorted(store: &StoreHandle) -> Everything {
    let mut all = everything(store).await;
    all.sessions.sort_by_key(|row| row.session);
    all.flows.sort_by_key(|row| row.flow);
    all
}

fn run(steps: &[Step], part_entries: u64) {
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_bytes: 1, part_entries, ..config(dir.path()) };
    let (mut store, mut handle, _) = open(config.clone()).unwrap();
    let mut nodes: Vec<Node> = (0..3).map(|n| Node::new(&format!("n{n}"), ["lab", "edge"][n % 2], n as u8 + 1)).collect();
    let mut stored = 0;
    for (n, step) in steps.iter().enumerate() {
        let received = T0 + n as i64 * SECOND;
        match step {
            Step::Event { node, session, what, hour, pick } => {
                let wall = T0 + i64::from(*hour) * HOUR + i64::from(*pick) * SECOND;
                // Ids of the first sessions lie just before midnight, of the others days apart.
                let session = session.map(|s| (session_id(T0 + i64::from(s) * 7 * HOUR, (*node as u64) * 100 + u64::from(s)), s));
                event(&mut nodes[*node], session, *what, wall, *pick);
            }
            Step::Send { node } => {
                let batch = nodes[*node].batch(received);
                if !batch.bytes.is_empty() {
                    rt.block_on(handle.append(batch)).unwrap();
                    stored = stored.max(n);
                }
            }
            Step::Lose { node } => {
                let node = &mut nodes[*node];
                let lost = node.batch(received);
                if lost.first <= node.seq {
                    let gap = handle.append_gap(&node.name, &node.net, node.log, lost.first..=node.seq, "lost", received);
                    assert_eq!(rt.block_on(gap).unwrap().durable, node.seq);
                }
            }
            Step::Crash | Step::Restart => {
                if matches!(step, Step::Crash) {
                    drop(store);
                } else {
                    store.close();
                }
                let report;
                (store, handle, report) = open(config.clone()).unwrap();
                assert!(report.quarantined.is_empty() && report.lost.is_empty(), "{report:?}");
            }
        }
    }
    let live = rt.block_on(sorted(&handle));
    let folded = rt.block_on(handle.rebuild()).unwrap();
    let rebuilt = rt.block_on(sorted(&handle));
    assert_eq!(live, rebuilt);
    let events = rt.block_on(all_events(&handle, EventQuery::default()));
    assert_eq!(events.len() as u64, folded);
    assert_eq!(live.nodes.iter().flat_map(|node| node.row.events.values()).sum::<u64>(), folded);
    for row in live.sessions.iter().take(5) {
        let own = rt.block_on(handle.session_events(row, 0)).unwrap();
        assert!(own.len() as u64 >= row.events);
    }
    store.close();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse::<u32>().ok()).map_or(10, |n| (n / 100).clamp(1, 100)),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn live_crashed_and_rebuilt_rows_are_equal(steps in steps()) {
        run(&steps, u64::MAX);
        run(&steps, 60);
    }
}
