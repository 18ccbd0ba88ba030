//! A busy day goes on in parts: what is asked of it does not notice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::Kind;
use glasshive_journal::store::*;
use serde_json::json;
use std::collections::BTreeSet;
use support::*;

const VISITS: u64 = 300;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn parts(dir: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("summary")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("20") && !name.contains('.')).collect();
    names.sort();
    names
}

/// The second three hundred fall between the first.
fn at(n: u64) -> i64 {
    T0 + (n % VISITS * 100 + n / VISITS * 50) as i64 * MS
}

fn visitor(n: u64) -> Visit {
    visit(session_id(at(n), n), &format!("192.0.2.{}", n % 7), ["ssh", "ftp"][n as usize % 2])
}

/// Visits in the order of time, each of which closes when the next hundred have come.
fn fill(rt: &tokio::runtime::Runtime, store: &StoreHandle, from: u64) -> Node {
    let mut node = Node::new("n1", "lab", from as u8 + 1);
    for n in from..from + VISITS {
        let at = at(n);
        let login = json!({"user": format!("u{}", n % 5), "secret_kind": "plain", "secret_pivot": "p", "secret_sealed": "s"});
        node.event(Kind::SessionOpen, at, Some(&visitor(n)), json!({"persona": "debian"}));
        node.event(Kind::Login, at + 1, Some(&visitor(n)), login);
        if n >= from + 100 {
            node.event(Kind::SessionClose, at + 2, Some(&visitor(n - 100)), json!({"reason": "client", "bytes_in": 5, "bytes_out": 7}));
        }
        if n % 10 == 9 {
            rt.block_on(store.append(node.batch(at))).unwrap();
            rt.block_on(store.settled()).unwrap();
        }
    }
    node
}

#[test]
fn a_busy_day_in_parts_answers_as_one_does() {
    let rt = runtime();
    let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, mut whole_store, _) = open(config(one.path())).unwrap();
    let divided = StoreConfig { part_entries: 400, ..config(many.path()) };
    let (store, mut handle, _) = open(divided.clone()).unwrap();
    let (mut whole, mut store) = (Some(whole), Some(store));
    fill(&rt, &whole_store, 0);
    fill(&rt, &handle, 0);
    let names = parts(many.path());
    assert!(names.len() >= 4 && names[1..].iter().all(|name| name.starts_with("2023-11-14+")), "{names:?}");
    assert_eq!(parts(one.path()), ["2023-11-14"]);
    let compare = |handle: &StoreHandle, whole_store: &StoreHandle| {
        assert!(rt.block_on(everything(handle)) == rt.block_on(everything(whole_store)));
        let queries = [
            SessionQuery::default(),
            SessionQuery { source: Some("192.0.2.3/32".parse().unwrap()), ..SessionQuery::default() },
            SessionQuery { source: Some("192.0.2.0/29".parse().unwrap()), ..SessionQuery::default() },
            SessionQuery { user: Some("u3".into()), service: Some("ftp".into()), ..SessionQuery::default() },
            SessionQuery { since: Some(T0 + 9_050 * MS), until: Some(T0 + 21_050 * MS), ..SessionQuery::default() },
        ];
        for query in queries {
            let all = |store: &StoreHandle, limit| rt.block_on(all_sessions(store, query.clone(), limit));
            assert_eq!(all(handle, 7), all(whole_store, 1_000), "{query:?}");
            assert!(!all(handle, 7).is_empty());
        }
        for n in [0, 123, VISITS - 1] {
            let id = visitor(n).id.to_string();
            for name in [id.as_str(), &id[id.len() - 8..], &id[..18]] {
                assert_eq!(rt.block_on(handle.session(name)).unwrap(), rt.block_on(whole_store.session(name)).unwrap(), "{name}");
            }
        }
    };
    compare(&handle, &whole_store);
    assert_eq!(rt.block_on(everything(&handle)).sessions.iter().filter(|row| row.close_ns.is_some()).count() as u64, VISITS - 100);
    // A stop of either kind forgets no boundary.
    for clean in [true, false] {
        let mut reports = Vec::new();
        for (store, handle, config) in [(&mut whole, &mut whole_store, config(one.path())), (&mut store, &mut handle, divided.clone())] {
            if clean {
                store.take().unwrap().close()
            } else {
                drop(store.take().unwrap())
            }
            let opened = open(config).unwrap();
            (*store, *handle) = (Some(opened.0), opened.1);
            reports.push(opened.2);
        }
        let report = reports.pop().unwrap();
        assert_eq!((report.quarantined, report.days, parts(many.path())), (vec![], 1, names.clone()));
        assert!(!clean || report.reindexed == 0);
        compare(&handle, &whole_store);
    }
    // Late records of another log go where their time belongs.
    fill(&rt, &whole_store, VISITS);
    fill(&rt, &handle, VISITS);
    compare(&handle, &whole_store);
    rt.block_on(handle.rebuild()).unwrap();
    compare(&handle, &whole_store);
    store.unwrap().close();
    whole.unwrap().close();
}

#[test]
fn a_day_is_deleted_with_its_parts() {
    let rt = runtime();
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { part_entries: 400, max_age: Some(std::time::Duration::from_secs(86_400)), ..config(dir.path()) };
    let (store, handle, _) = open(config).unwrap();
    let mut node = fill(&rt, &handle, 0);
    assert!(parts(dir.path()).len() >= 4);
    let later = T0 + 3 * DAY;
    let last = visit(session_id(later, 1), "192.0.2.200", "ssh");
    rt.block_on(handle.append(node.visit(&last, later, "root").batch(later))).unwrap();
    rt.block_on(handle.settled()).unwrap();
    let swept = rt.block_on(handle.sweep(later)).unwrap();
    assert_eq!(swept.days, 1, "{swept:?}");
    assert_eq!(parts(dir.path()), ["2023-11-17"]);
    let left: BTreeSet<_> = rt.block_on(everything(&handle)).sessions.into_iter().map(|row| row.session).collect();
    assert_eq!(left, BTreeSet::from([last.id]));
    store.close();
}
