//! The controller's store from outside: append rules, lists, reopening, paging, retention.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::{Kind, LogId, RecordView, SessionId};
use glasshive_journal::store::*;
use serde_json::json;
use std::time::Duration;
use support::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs a test against a fresh store.
fn with_store<F: Future<Output = ()>>(test: impl FnOnce(StoreHandle) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    runtime().block_on(test(handle));
    store.close();
}

#[test]
fn a_visit_is_stored_once_and_listed() {
    with_store(|store| async move {
        let mut node = Node::new("n1", "lab", 1);
        let visitor = visit(session_id(T0, 1), "192.0.2.7", "ssh");
        let mut live = store.follow();
        let batch = node.visit(&visitor, T0, "root").batch(T0 + SECOND);
        assert_eq!(store.append(batch.clone()).await, Ok(Appended { durable: 4 }));
        assert_eq!(store.append(batch).await, Ok(Appended { durable: 4 }));
        let high = store.high_water("n1", node.log).unwrap();
        assert_eq!((high.seq, high.chain, high.wall_ns), (4, node.chain, T0 + 3));
        assert_eq!(store.high_water("n2", node.log), None);
        for seq in 1..=4 {
            assert_eq!(live.recv().await.unwrap().seq, seq);
        }
        let all = everything(&store).await;
        assert_eq!(all.sessions.len(), 1);
        let row = &all.sessions[0];
        assert_eq!((row.events, row.logins, row.commands, row.reason.as_deref()), (4, 1, 1, Some("client")));
        assert_eq!((all.credentials.len(), all.credentials[0].count), (1, 1));
        assert_eq!((all.stats.total.sessions, all.stats.total.bytes_in, all.stats.sources.len()), (1, 5, 1));
        assert_eq!((all.nodes[0].row.node.as_str(), all.nodes[0].logs[0]), ("n1", (node.log, 4)));
        let events = store.session_events(row, 0).await.unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(store.session_events(row, 2).await.unwrap().len(), 2);
        assert_eq!(store.event(node.log, 3).await.unwrap().unwrap(), events[2]);
        assert_eq!(store.event(node.log, 5).await.unwrap(), None);
    });
}

#[test]
fn append_rules() {
    with_store(|store| async move {
        let mut node = Node::new("n1", "lab", 1);
        let visitor = visit(session_id(T0, 1), "192.0.2.7", "ssh");
        let first = node.visit(&visitor, T0, "root").batch(T0);
        let second = node.visit(&visitor, T0, "admin").batch(T0);
        assert_eq!(store.append(second.clone()).await, Err(AppendError::Expected(1)));
        store.append(first.clone()).await.unwrap();
        let broken = NodeBatch { chain_before: [9; 32], ..second.clone() };
        assert_eq!(store.append(broken).await, Err(AppendError::Chain { seq: 5 }));
        // One batch over both: the known half is dropped.
        let both = NodeBatch { bytes: [first.bytes.clone(), second.bytes.clone()].concat(), ..first.clone() };
        assert_eq!(store.append(both).await, Ok(Appended { durable: 8 }));
        let foreign = NodeBatch { node: "n2".into(), ..second.clone() };
        assert_eq!(store.append(foreign).await, Err(AppendError::Foreign { owner: "n1".into() }));
        let mut forger = Node::new("n1", "lab", 1);
        let forged = forger.visit(&visitor, T0, "toor").batch(T0);
        for _ in 0..2 {
            assert_eq!(store.append(forged.clone()).await, Err(AppendError::Tamper { seq: 2 }));
        }
        let evidence = store.tampered();
        assert_eq!((evidence.len(), evidence[0].seq, evidence[0].node.as_str()), (1, 2, "n1"));
        assert!(RecordView::parse(&evidence[0].received).is_ok());
        assert_eq!(store.high_water("n1", node.log).unwrap().chain, node.chain);
        assert_eq!(everything(&store).await.stats.total.events, 8);
    });
}

#[test]
fn a_declared_gap_is_passed_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let rt = runtime();
    let mut node = Node::new("n1", "lab", 1);
    let visitor = visit(session_id(T0, 1), "192.0.2.7", "ssh");
    let before = rt.block_on(async {
        handle.append(node.visit(&visitor, T0, "root").batch(T0)).await.unwrap();
        let lost = node.visit(&visitor, T0, "root").batch(T0);
        assert_eq!(handle.append_gap("n1", "lab", node.log, 7..=8, "x", T0).await, Err(AppendError::Expected(5)));
        assert_eq!(handle.append_gap("n2", "lab", node.log, 5..=8, "x", T0).await, Err(AppendError::Foreign { owner: "n1".into() }));
        let gap = handle.append_gap("n1", "lab", node.log, 5..=8, "disk full", T0 + 5).await;
        assert_eq!(gap, Ok(Appended { durable: 8 }));
        assert_eq!(handle.append_gap("n1", "lab", node.log, 5..=8, "disk full", T0 + 5).await, gap);
        assert_eq!(handle.append(lost).await, Ok(Appended { durable: 8 }));
        assert!(!handle.high_water("n1", node.log).unwrap().chain_known);
        handle.append(node.visit(&visitor, T0, "root").batch(T0)).await.unwrap();
        let high = handle.high_water("n1", node.log).unwrap();
        assert_eq!((high.seq, high.chain, high.gaps.len()), (12, node.chain, 1));
        let all = everything(&handle).await;
        assert_eq!((all.nodes[0].row.gap_count, all.nodes[0].row.gaps[0].to), (1, Some(8)));
        assert_eq!(handle.rebuild().await.unwrap(), 8);
        assert_eq!(everything(&handle).await, all);
        let seqs: Vec<u64> = all_events(&handle, EventQuery::default()).await.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 9, 10, 11, 12]);
        all
    });
    drop(store);
    std::fs::remove_file(dir.path().join("summary/POSITION")).ok();
    let (store, handle, report) = open(config(dir.path())).unwrap();
    assert!(report.unclean && report.quarantined.is_empty());
    assert_eq!(rt.block_on(everything(&handle)), before);
    store.close();
}

#[test]
fn second_open_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _handle, _) = open(config(dir.path())).unwrap();
    let error = open(config(dir.path())).err().unwrap().to_string();
    assert!(error.contains(&std::process::id().to_string()) && !error.contains('\n'), "{error}");
    store.close();
    let (store, _handle, report) = open(config(dir.path())).unwrap();
    assert!(!report.unclean, "{report:?}");
    store.close();
}

#[test]
fn reopened_after_a_drop_nothing_is_lost_or_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let rt = runtime();
    let mut node = Node::new("n1", "lab", 1);
    let mut expected = 0;
    for round in 0..4u64 {
        let (store, handle, report) = open(config(dir.path())).unwrap();
        assert!(report.quarantined.is_empty(), "{report:?}");
        rt.block_on(async {
            if round > 0 {
                assert_eq!(handle.high_water("n1", node.log).unwrap().chain, node.chain);
                assert_eq!(everything(&handle).await.stats.total.events, expected);
            }
            for n in 0..5 {
                let at = T0 + (round as i64 * 5 + n) * SECOND;
                let visitor = visit(session_id(at, round * 5 + n as u64), "192.0.2.7", "ssh");
                handle.append(node.visit(&visitor, at, "root").batch(at)).await.unwrap();
                expected += 4;
            }
        });
        // As a crash: the follower may or may not have folded the last batches.
        drop(store);
        assert!(matches!(rt.block_on(handle.append(node.batch(T0))), Err(AppendError::Closed | AppendError::Damaged(_))));
    }
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let all = rt.block_on(everything(&handle));
    assert_eq!((all.sessions.len(), all.credentials[0].count), (20, 20));
    let events = rt.block_on(all_events(&handle, EventQuery::default()));
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=80).collect::<Vec<_>>());
    store.close();
}

#[test]
fn a_lost_position_or_day_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let rt = runtime();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let mut node = Node::new("n1", "lab", 1);
    let before = rt.block_on(async {
        for n in 0..30 {
            let at = T0 + n * 3 * HOUR;
            node.visit(&visit(session_id(at, n as u64), "192.0.2.7", "ssh"), at, "root");
            handle.append(node.batch(at)).await.unwrap();
        }
        everything(&handle).await
    });
    store.close();
    let summary = dir.path().join("summary");
    let days: Vec<_> = std::fs::read_dir(&summary).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    assert!(days.len() >= 4);
    for case in 0..4 {
        match case {
            // What sled makes of a `conf` it cannot read at all: an empty database, without an error.
            3 => {
                std::fs::remove_file(days[2].join("CLEAN")).unwrap();
                std::fs::write(days[2].join("conf"), b"").unwrap();
                std::fs::write(days[2].join("db"), b"").unwrap();
            }
            0 => std::fs::remove_file(summary.join("POSITION")).unwrap(),
            1 => std::fs::remove_dir_all(&days[1]).unwrap(),
            _ => {
                // A damaged day is put aside, and made again.
                std::fs::remove_file(days[2].join("CLEAN")).unwrap();
                let conf = std::fs::read(days[2].join("conf")).unwrap();
                std::fs::write(days[2].join("conf"), conf.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>()).unwrap();
            }
        }
        let (store, handle, report) = open(config(dir.path())).unwrap();
        assert_eq!(report.quarantined.len(), usize::from(case == 2), "{report:?}");
        assert!(report.reindexed > 0);
        assert_eq!(rt.block_on(everything(&handle)), before, "case {case}");
        store.close();
    }
    let (store, _, report) = open(config(dir.path())).unwrap();
    assert_eq!((report.reindexed, report.unclean), (0, false));
    store.close();
}

#[test]
fn a_log_that_comes_back_short_is_an_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let rt = runtime();
    let mut node = Node::new("n1", "lab", 1);
    let (store, handle, _) = open(config(dir.path())).unwrap();
    rt.block_on(handle.append(node.visit(&visit(session_id(T0, 1), "192.0.2.7", "ssh"), T0, "root").batch(T0))).unwrap();
    store.close();
    let segment = std::fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    std::fs::remove_file(segment.join("CLEAN")).unwrap();
    std::fs::write(segment.join("conf"), b"").unwrap();
    std::fs::write(segment.join("db"), b"").unwrap();
    let (store, handle, report) = open(config(dir.path())).unwrap();
    assert_eq!((report.lost.as_slice(), report.quarantined.len()), (&[(node.log, 4, 0)][..], 1), "{report:?}");
    assert_eq!(rt.block_on(everything(&handle)).sessions.len(), 1);
    store.close();
}

#[test]
fn paging_returns_each_row_once_and_filters_agree_with_reading_all() {
    with_store(|store| async move {
        let mut nodes = [Node::new("n1", "lab", 1), Node::new("n2", "edge", 2)];
        let parent = session_id(T0, 0);
        for n in 0..240u64 {
            let at = T0 + n as i64 * 20 * 60 * SECOND;
            let node = &mut nodes[(n % 2) as usize];
            let mut visitor = visit(session_id(at, n), &format!("192.0.{}.{}", n % 5, n % 7), ["ssh", "http", "ftp"][(n % 3) as usize]);
            visitor.decoy = format!("d{}", n % 4);
            visitor.parent = (n % 10 == 9).then_some(parent);
            node.visit(&visitor, at, ["root", "admin"][(n % 2) as usize]);
            node.event(Kind::Hello, at + 2, Some(&visitor), json!({"protocol": "ssh", "hassh": format!("h{}", n % 6)}));
            node.event(Kind::File, at + 2, Some(&visitor), json!({"name": "x", "sha256": format!("{:064x}", n % 8), "size": n}));
            store.append(node.batch(at)).await.unwrap();
        }
        store.settled().await.unwrap();
        let all = all_sessions(&store, SessionQuery { children: true, ..SessionQuery::default() }, 1_000).await;
        assert_eq!(all.len(), 240);
        assert!(all.is_sorted_by(|a, b| a.session > b.session));
        let q = || SessionQuery { children: true, ..SessionQuery::default() };
        let prefix = |text: &str| Some(text.parse::<IpPrefix>().unwrap());
        type Keep = Box<dyn Fn(&SessionRow) -> bool>;
        let number = |row: &SessionRow| (row.open_ns - T0) / (20 * 60 * SECOND);
        let cases: Vec<(SessionQuery, Keep)> = vec![
            (q(), Box::new(|_| true)),
            (SessionQuery::default(), Box::new(|row| row.parent.is_none())),
            (SessionQuery { parent: Some(parent), ..q() }, Box::new(|row| row.parent.is_some())),
            (SessionQuery { service: Some("ftp".into()), ..q() }, Box::new(|row| row.service == "ftp")),
            (
                SessionQuery { net: Some("edge".into()), decoy: Some("d3".into()), ..q() },
                Box::new(|row| row.net == "edge" && row.decoy == "d3"),
            ),
            (SessionQuery { node: Some("n1".into()), ..q() }, Box::new(|row| row.node == "n1")),
            (SessionQuery { source: prefix("192.0.3.5"), ..q() }, Box::new(|row| row.source.unwrap().ip.to_string() == "192.0.3.5")),
            (
                SessionQuery { source: prefix("192.0.2.0/23"), ..q() },
                Box::new(|row| {
                    let ip = row.source.unwrap().ip.to_string();
                    ip.starts_with("192.0.2.") || ip.starts_with("192.0.3.")
                }),
            ),
            (SessionQuery { source: prefix("203.0.113.0/24"), ..q() }, Box::new(|_| false)),
            (
                SessionQuery { user: Some("admin".into()), service: Some("ssh".into()), ..q() },
                Box::new(move |row| number(row) % 2 == 1 && row.service == "ssh"),
            ),
            (SessionQuery { fingerprint: Some("h4".into()), ..q() }, Box::new(move |row| number(row) % 6 == 4)),
            (SessionQuery { hash: Some(format!("{:064x}", 3)), ..q() }, Box::new(move |row| number(row) % 8 == 3)),
            (SessionQuery { hash: Some("p-root".into()), ..q() }, Box::new(move |row| number(row) % 2 == 0)),
            (SessionQuery { user: Some("nobody".into()), ..q() }, Box::new(|_| false)),
            (
                SessionQuery { since: Some(T0 + 20 * HOUR), until: Some(T0 + 50 * HOUR), ..q() },
                Box::new(|row| row.open_ns >= T0 + 20 * HOUR && row.open_ns < T0 + 50 * HOUR),
            ),
        ];
        for (query, keep) in cases {
            let expected: Vec<SessionId> = all.iter().filter(|row| keep(row)).map(|row| row.session).collect();
            for limit in [1, 7, 1_000] {
                let got: Vec<SessionId> = all_sessions(&store, query.clone(), limit).await.iter().map(|row| row.session).collect();
                assert_eq!(got, expected, "{query:?} limit {limit}");
            }
        }
        for order in [Order::Count, Order::Last] {
            let mut query = FileQuery { order, limit: 3, ..FileQuery::default() };
            let mut files = Vec::new();
            loop {
                let page = store.files(query.clone()).await.unwrap();
                files.extend(page.rows);
                let Some(next) = page.next else { break };
                query.cursor = Some(next);
            }
            assert_eq!((files.len(), files.iter().map(|file| file.count).sum::<u64>()), (8, 240));
        }
        let by_source = CredentialQuery { source: prefix("192.0.0.0/30"), ..CredentialQuery::default() };
        assert_eq!(store.credentials(by_source).await.unwrap().rows.len(), 2);
        let one = CredentialQuery { user: Some("root".into()), ..CredentialQuery::default() };
        assert_eq!(store.credentials(one).await.unwrap().rows.iter().map(|row| row.count).collect::<Vec<_>>(), [120]);
        let file = FileQuery { hash: Some(format!("{:064x}", 3)), ..FileQuery::default() };
        assert_eq!(store.files(file).await.unwrap().rows[0].count, 30);
        let stats = store
            .stats(StatsQuery { net: Some("lab".into()), since: Some(T0), until: Some(T0 + 10 * HOUR), ..StatsQuery::default() })
            .await
            .unwrap();
        assert_eq!(
            stats.total.sessions,
            all.iter().filter(|row| row.net == "lab" && row.open_ns < (T0 + 10 * HOUR) / HOUR * HOUR + HOUR).count() as u64
        );
        let bad = SessionQuery { cursor: Some(Cursor("nonsense".into())), ..q() };
        assert!(matches!(store.sessions(bad).await, Err(StoreError::Query(_))));
    });
}

#[test]
fn sessions_by_part_of_their_id() {
    with_store(|store| async move {
        let mut node = Node::new("n1", "lab", 1);
        let ids: Vec<SessionId> = (0..40).map(|n| session_id(T0 + n * 10 * HOUR, n as u64)).collect();
        for id in &ids {
            node.visit(&visit(*id, "192.0.2.7", "ssh"), id.unix_ms() as i64 * MS, "root");
        }
        store.append(node.batch(T0 + 400 * HOUR)).await.unwrap();
        store.settled().await.unwrap();
        for id in &ids {
            let text = id.to_string();
            for name in [text.as_str(), &id.short(), &text.to_uppercase(), &text.replace('-', ""), &text[..13], &text[20..]] {
                match store.session(name).await.unwrap() {
                    Lookup::Found(row) => assert_eq!(row.session, *id, "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
        let Lookup::Ambiguous(some) = store.session(&ids[0].to_string()[..4]).await.unwrap() else { panic!() };
        assert!(some.len() > 1);
        assert_eq!(store.session("ffffffff").await.unwrap(), Lookup::NotFound);
        for bad in ["", "abc", "xyzw", &"0".repeat(33), "\u{1b}[31m-etc"] {
            assert!(matches!(store.session(bad).await, Err(StoreError::Query(_))), "{bad:?}");
        }
    });
}

#[test]
fn events_come_in_order_of_time_across_logs_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_bytes: 1, ..config(dir.path()) };
    let (store, handle, _) = open(config).unwrap();
    runtime().block_on(async {
        let mut nodes: Vec<Node> = (1..=3).map(|n| Node::new(&format!("n{n}"), "lab", n)).collect();
        let padding = "x".repeat(6_000);
        for n in 0..900i64 {
            let node = &mut nodes[(n * n % 3) as usize];
            let at = T0 + n * SECOND;
            node.event(Kind::Device, at, None, json!({"input": "syslog", "raw": padding}));
            if n % 9 == 8 {
                for node in &mut nodes {
                    let batch = node.batch(at);
                    if !batch.bytes.is_empty() {
                        handle.append(batch).await.unwrap();
                    }
                }
            }
        }
        let segments = std::fs::read_dir(dir.path().join("log")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert!(segments >= 4, "{segments}");
        let wall = |event: &StoredEvent| event.view().unwrap().header.wall_ns;
        let all = all_events(&handle, EventQuery::default()).await;
        assert_eq!(all.len(), 900);
        assert!(all.is_sorted_by(|a, b| wall(a) < wall(b)));
        let part =
            all_events(&handle, EventQuery { since: Some(T0 + 100 * SECOND), until: Some(T0 + 200 * SECOND), ..EventQuery::default() })
                .await;
        assert_eq!(part, all[100..200]);
        let limited = all_events(&handle, EventQuery { limit: 10, ..EventQuery::default() }).await;
        assert_eq!(limited, all[..10]);
        let mut after = std::collections::BTreeMap::new();
        for event in &all[..777] {
            after.insert(event.log, event.seq);
        }
        assert_eq!(all_events(&handle, EventQuery { after, ..EventQuery::default() }).await, all[777..]);
        let one = all_events(&handle, EventQuery { node: Some("n2".into()), ..EventQuery::default() }).await;
        assert_eq!(one, all.iter().filter(|event| event.node == "n2").cloned().collect::<Vec<_>>());
        assert!(all_events(&handle, EventQuery { kinds: vec![Kind::Login.number()], ..EventQuery::default() }).await.is_empty());
        assert_eq!(
            all_events(&handle, EventQuery { kinds: vec![Kind::Device.number()], net: Some("lab".into()), ..EventQuery::default() })
                .await
                .len(),
            900
        );
    });
    store.close();
}

#[test]
fn retention_deletes_whole_segments_and_days_and_forgets_no_high_water() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_bytes: 1,
        max_age: Some(Duration::from_secs(5 * 86_400)),
        check_every: Duration::from_secs(3_600),
        ..config(dir.path())
    };
    let (store, handle, _) = open(config.clone()).unwrap();
    let rt = runtime();
    let mut early = Node::new("early", "lab", 1);
    let mut node = Node::new("n1", "lab", 2);
    let now = T0 + 10 * DAY;
    let (sessions, stats) = rt.block_on(async {
        handle.append(early.visit(&visit(session_id(T0, 999), "192.0.2.1", "ssh"), T0, "root").batch(T0)).await.unwrap();
        let noise = "x".repeat(10_000);
        for n in 0..10 {
            let at = T0 + n * DAY;
            for m in 0..2 {
                node.visit(&visit(session_id(at + m, n as u64 * 2 + m as u64), "192.0.2.7", "ssh"), at, "root");
                for _ in 0..60 {
                    node.event(Kind::Device, at, None, json!({"raw": noise}));
                }
                handle.append(node.batch(at)).await.unwrap();
            }
        }
        handle.settled().await.unwrap();
        let swept = handle.sweep(now).await.unwrap();
        assert!(swept.segments >= 4 && swept.days == 5, "{swept:?}");
        let sessions = all_sessions(&handle, SessionQuery::default(), 100).await;
        assert_eq!(sessions.len(), 10);
        assert_eq!(handle.high_water("early", early.log).unwrap().chain, early.chain);
        // Days whose segments are partly gone stay as they are.
        let stats = handle.stats(StatsQuery::default()).await.unwrap();
        handle.rebuild().await.unwrap();
        assert_eq!(handle.stats(StatsQuery::default()).await.unwrap(), stats);
        (sessions, stats)
    });
    store.close();
    let (store, handle, report) = open(StoreConfig { quota_bytes: Some(1), max_age: None, ..config }).unwrap();
    assert_eq!((report.reindexed, report.days), (0, 5));
    rt.block_on(async {
        assert_eq!(all_sessions(&handle, SessionQuery::default(), 100).await, sessions);
        assert_eq!(handle.stats(StatsQuery::default()).await.unwrap(), stats);
        assert_eq!(handle.high_water("early", early.log).unwrap().seq, 4);
        // The old log goes on where it stood, though nothing of it is left.
        handle.append(early.visit(&visit(session_id(now, 5), "192.0.2.1", "ssh"), now, "root").batch(now)).await.unwrap();
        handle.settled().await.unwrap();
        handle.sweep(now).await.unwrap();
        let left = all_sessions(&handle, SessionQuery::default(), 100).await;
        assert_eq!(left.iter().map(|row| row.node.as_str()).collect::<Vec<_>>(), ["early"]);
        assert_eq!(handle.session_events(&left[0], 0).await.unwrap().len(), 4);
        // What the row points at may be gone: the row still answers.
        assert!(handle.session_events(&sessions[0], 0).await.unwrap().len() <= sessions[0].events as usize);
    });
    store.close();
}

#[test]
fn no_room_is_said_and_nothing_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(StoreConfig { free_floor: Some(u64::MAX), ..config(dir.path()) }).unwrap();
    let batch = Node::new("n1", "lab", 1).visit(&visit(session_id(T0, 1), "192.0.2.7", "ssh"), T0, "root").batch(T0);
    assert_eq!(runtime().block_on(handle.append(batch)), Err(AppendError::Full));
    assert!(handle.is_full());
    store.close();
}

#[test]
fn hostile_text_wrong_clocks_and_unknown_records() {
    with_store(|store| async move {
        let mut node = Node::new("n1", "lab", 1);
        let texts = ["", "\u{1b}]0;x\u{7}", "a\0b", "\u{202e}evil", "'; DROP TABLE", &"é".repeat(600), "h", "P", "\u{ffff}"];
        for (n, text) in (0..).zip(texts) {
            let mut visitor = visit(session_id(T0, n), "192.0.2.7", text);
            visitor.decoy = text.into();
            node.visit(&visitor, T0, text);
            node.event(Kind::File, T0, Some(&visitor), json!({"name": {"hex": "00ff"}, "sha256": text, "magic": text}));
            node.event(Kind::Loss, T0, None, json!({"place": text, "count": u64::MAX, "bytes": u64::MAX}));
        }
        for wall in [i64::MIN, -1, 0, 1, i64::MAX] {
            let visitor = visit(session_id(wall, 77), "2001:db8::1", "ssh");
            node.visit(&visitor, wall, "clock");
        }
        let visitor = visit(SessionId([0xff; 16]), "2001:db8::1", "ssh");
        node.visit(&visitor, T0, "clock");
        node.raw(b"\x07a later build's record").raw(b"\x01short no more, this is just long enough to hold a header and a bad body");
        // The second one claims version 1 with another log: refused whole.
        assert_eq!(store.append(node.batch(T0)).await, Err(AppendError::Damaged("record names another log")));
        let mut node = Node::new("n1", "lab", 1);
        for (n, text) in (0..).zip(texts) {
            let mut visitor = visit(session_id(T0, n), "192.0.2.7", text);
            visitor.decoy = text.into();
            node.visit(&visitor, T0, text);
        }
        for wall in [i64::MIN, -1, 0, 1, i64::MAX] {
            node.visit(&visit(session_id(wall, 77 + wall as u64 % 7), "2001:db8::1", "ssh"), wall, "clock");
        }
        node.visit(&visit(SessionId([0xff; 16]), "2001:db8::1", "ssh"), T0, "clock").raw(b"\x07a later build's record");
        store.append(node.batch(T0)).await.unwrap();
        let all = everything(&store).await;
        assert_eq!(all.sessions.iter().map(|row| row.logins).sum::<u64>(), texts.len() as u64 + 6);
        assert_eq!(all.nodes[0].row.events["unknown"], 1);
        assert_eq!(store.nodes(Some(T0 - DAY)).await.unwrap().len(), 1);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let query = SessionQuery { user: Some((*text).into()), ..SessionQuery::default() };
            assert_eq!(store.sessions(query).await.unwrap().rows.len(), 1, "{text:?}");
        }
        let text = serde_json::to_string(&all.sessions).unwrap();
        assert_eq!(serde_json::from_str::<Vec<SessionRow>>(&text).unwrap(), all.sessions);
        store.rebuild().await.unwrap();
        assert_eq!(everything(&store).await, all);
    });
}

#[test]
fn a_log_id_chosen_to_look_like_a_meta_key_does_no_harm() {
    with_store(|store| async move {
        let mut ids = vec![[b'h'; 16], [b'g'; 16], [b't'; 16], [0; 16], [0xff; 16]];
        let mut close = [b'h'; 16];
        close[15] = 0;
        ids.push(close);
        for (n, id) in (0..).zip(&ids) {
            let mut node = Node::new(&format!("n{n}"), "lab", 0);
            node.log = LogId(*id);
            for round in 0..3 {
                let at = T0 + round * SECOND;
                let batch = node.visit(&visit(session_id(at, n * 3 + round as u64), "192.0.2.7", "ssh"), at, "root").batch(at);
                store.append(batch.clone()).await.unwrap();
                store.append(batch).await.unwrap();
            }
        }
        let all = everything(&store).await;
        assert_eq!((all.sessions.len(), all.nodes.len()), (18, 6));
        assert_eq!(all_events(&store, EventQuery::default()).await.len(), 72);
        store.rebuild().await.unwrap();
        assert_eq!(everything(&store).await, all);
    });
}
