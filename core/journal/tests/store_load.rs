//! A quick load, for its printed numbers: nothing about time is asserted.
//! `GLASSHIVE_LOAD` sets the number of events (100 000).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::Kind;
use glasshive_journal::store::*;
use serde_json::json;
use std::time::Instant;
use support::*;

/// Resident memory in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn load() {
    let events: u64 = std::env::var("GLASSHIVE_LOAD").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(StoreConfig::new(dir.path())).unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Four nodes, visits of 10 events a second apart each, batches of 250 events.
    let mut nodes: Vec<Node> = (0..4).map(|n| Node::new(&format!("n{n}"), "lab", n as u8 + 1)).collect();
    let visits = events / 10;
    let mut batches: Vec<Vec<NodeBatch>> = vec![Vec::new(); 4];
    for n in 0..visits {
        let node = &mut nodes[(n % 4) as usize];
        let at = T0 + n as i64 * (4 * DAY / visits.max(1) as i64);
        let source = format!("10.{}.{}.{}", n % 7, n * n % 251, n * 31 % 200);
        let visitor = visit(session_id(at, n), &source, ["ssh", "http", "ftp", "telnet"][(n % 4) as usize]);
        node.event(Kind::Hello, at, Some(&visitor), json!({"protocol": "ssh", "hassh": format!("h{}", n % 40)}));
        node.visit(&visitor, at, &format!("user{}", n * 17 % 500));
        for k in 0..5 {
            node.event(Kind::Stream, at + k, Some(&visitor), json!({"channel": 0, "direction": "in", "offset": k, "chunks": [[1, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w".repeat(3)]]}));
        }
        if n / 4 % 25 == 24 {
            batches[(n % 4) as usize].push(node.batch(at));
        }
    }
    for (node, batches) in nodes.iter_mut().zip(&mut batches) {
        batches.extend(Some(node.batch(T0 + 4 * DAY)).filter(|batch| !batch.bytes.is_empty()));
    }
    let bytes: usize = batches.iter().flatten().map(|batch| batch.bytes.len()).sum();
    eprintln!("resident before: {} MiB, of which batches {} MiB", resident(), bytes >> 20);
    let start = Instant::now();
    rt.block_on(async {
        let tasks: Vec<_> = batches
            .into_iter()
            .map(|batches| {
                let handle = handle.clone();
                // Eight batches in flight a node, as the link's credit allows.
                tokio::spawn(async move {
                    let mut waiting = std::collections::VecDeque::new();
                    for batch in batches {
                        let handle = handle.clone();
                        let mut append = Box::pin(async move { handle.append(batch).await.unwrap() });
                        // Polled once, so that it is queued in order.
                        if std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx))).await.is_pending() {
                            waiting.push_back(append);
                        }
                        if waiting.len() >= 8
                            && let Some(first) = waiting.pop_front()
                        {
                            first.await;
                        }
                    }
                    for append in waiting {
                        append.await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let durable = start.elapsed();
    rt.block_on(handle.settled()).unwrap();
    let settled = start.elapsed();
    let total = visits * 10;
    eprintln!(
        "{total} events, {} B each: durable {:.0}/s, in the summary {:.0}/s",
        bytes as u64 / total.max(1),
        total as f64 / durable.as_secs_f64(),
        total as f64 / settled.as_secs_f64()
    );
    eprintln!("resident after: {} MiB", resident());
    let time = |name: &str, what: &mut dyn FnMut() -> usize| {
        let mut times: Vec<_> = (0..15)
            .map(|_| {
                let start = Instant::now();
                let rows = what();
                (start.elapsed(), rows)
            })
            .collect();
        let first = times[0].0;
        times.sort();
        eprintln!("{name}: median {:?}, worst {:?}, first {first:?} ({} rows)", times[7].0, times[14].0, times[7].1);
    };
    let sessions = |query: SessionQuery| rt.block_on(handle.sessions(query)).unwrap().rows.len();
    time("sessions", &mut || sessions(SessionQuery::default()));
    time("sessions --service", &mut || sessions(SessionQuery { service: Some("ftp".into()), ..SessionQuery::default() }));
    time("sessions --source", &mut || sessions(SessionQuery { source: Some("10.3.0.93".parse().unwrap()), ..SessionQuery::default() }));
    time("sessions --source /8", &mut || sessions(SessionQuery { source: Some("10.0.0.0/8".parse().unwrap()), ..SessionQuery::default() }));
    time("sessions --user --fingerprint", &mut || {
        sessions(SessionQuery { user: Some("user17".into()), fingerprint: Some("h1".into()), ..SessionQuery::default() })
    });
    time("credentials", &mut || rt.block_on(handle.credentials(CredentialQuery::default())).unwrap().rows.len());
    time("stats", &mut || rt.block_on(handle.stats(StatsQuery::default())).unwrap().hours.len());
    time("nodes", &mut || rt.block_on(handle.nodes(None)).unwrap().len());
    let row = rt.block_on(handle.sessions(SessionQuery::default())).unwrap().rows[0].clone();
    time("session by its end", &mut || usize::from(matches!(rt.block_on(handle.session(&row.session.short())).unwrap(), Lookup::Found(_))));
    time("session_events", &mut || rt.block_on(handle.session_events(&row, 0)).unwrap().len());
    let start = Instant::now();
    assert_eq!(rt.block_on(all_events(&handle, EventQuery::default())).len() as u64, total);
    eprintln!("all events: {:.0}/s", total as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    store.close();
    eprintln!("close: {:?}", start.elapsed());
    let start = Instant::now();
    let (store, handle, _) = open(StoreConfig::new(dir.path())).unwrap();
    eprintln!("open: {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(rt.block_on(handle.sessions(SessionQuery::default())).unwrap().rows.len(), 50);
    eprintln!("first sessions after it: {:?}", start.elapsed());
    assert_eq!(rt.block_on(handle.stats(StatsQuery::default())).unwrap().total.events, total);
    store.close();
}
