//! The busiest sources and account names: what the days' own lists answer is what reading every row answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::Kind;
use glasshive_journal::store::*;
use serde_json::json;
use std::path::Path;
use support::*;

/// More than a day's list has.
const SOURCES: u64 = 1_500;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sessions and attempts of one day; which sources come more often is decided by `skew`.
fn day(rt: &tokio::runtime::Runtime, store: &StoreHandle, node: &mut Node, start: i64, visits: u64, skew: u32) {
    for n in 0..visits {
        let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (start as u64 >> 20);
        let spread = (mix >> 33) % SOURCES;
        let who = (0..skew).fold(spread, |who, turn| who.min((mix >> (7 * turn)) % SOURCES));
        let at = start + n as i64 * 10 * MS;
        let visit = visit(session_id(at, n), &format!("10.0.{}.{}", who >> 8, who & 255), "ssh");
        node.event(Kind::SessionOpen, at, Some(&visit), json!({"persona": "debian"}));
        node.event(
            Kind::Login,
            at + 1,
            Some(&visit),
            json!({"user": format!("u{}", who / 2), "secret_kind": "plain", "secret_pivot": "p"}),
        );
        if n % 50 == 49 || n + 1 == visits {
            rt.block_on(store.append(node.batch(at))).unwrap();
        }
    }
    rt.block_on(store.settled()).unwrap();
}

fn stats(rt: &tokio::runtime::Runtime, store: &StoreHandle, top: usize) -> Stats {
    rt.block_on(store.stats(StatsQuery { top, ..StatsQuery::default() })).unwrap()
}

fn lists(dir: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(dir.join("summary")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|ending| ending == "tops")).collect()
}

/// What every row says: all of them, ranked here.
fn all_rows(rt: &tokio::runtime::Runtime, store: &StoreHandle) -> (Vec<u64>, Vec<u64>) {
    let all = stats(rt, store, MAX_LIMIT);
    let mut sessions: Vec<u64> = all.sources.iter().map(|row| row.counts.sessions).collect();
    let mut logins: Vec<u64> = all.users.iter().map(|row| row.logins).collect();
    sessions.sort_unstable_by(|a, b| b.cmp(a));
    logins.sort_unstable_by(|a, b| b.cmp(a));
    (sessions, logins)
}

#[test]
fn the_busiest_are_the_same_with_and_without_the_days_lists() {
    let rt = runtime();
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let (mut node, mut other) = (Node::new("n1", "lab", 1), Node::new("n2", "lab", 2));
    day(&rt, &handle, &mut node, T0, 6_000, 2);
    day(&rt, &handle, &mut node, T0 + DAY, 6_000, 0);
    // Late events of a day behind which another has begun.
    day(&rt, &handle, &mut other, T0 + HOUR / 10, 3_000, 4);
    let (sessions, logins) = all_rows(&rt, &handle);
    assert!(sessions.len() as u64 > SOURCES * 9 / 10 && sessions.iter().sum::<u64>() == 15_000, "{}", sessions.len());
    let check = |handle: &StoreHandle| -> Vec<Stats> {
        let of = |top| {
            let stats = stats(&rt, handle, top);
            assert_eq!(stats.sources.iter().map(|row| row.counts.sessions).collect::<Vec<_>>(), sessions[..top], "{top}");
            assert_eq!(stats.users.iter().map(|row| row.logins).collect::<Vec<_>>(), logins[..top], "{top}");
            stats
        };
        [1, 10, 100, 600].map(of).into()
    };
    let live = check(&handle);
    assert!(lists(dir.path()).is_empty(), "both days are being written");
    store.close();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    assert_eq!(lists(dir.path()).len(), 2);
    assert!(check(&handle) == live, "stored lists");
    // Lists that say nothing: each answer is from the rows.
    for path in lists(dir.path()) {
        std::fs::write(path, b"?").unwrap();
    }
    assert!(check(&handle) == live, "every row");
    // Without a stored list whoever writes makes it from the rows.
    day(&rt, &handle, &mut node, T0 + DAY + HOUR / 10, 10, 0);
    let more = all_rows(&rt, &handle);
    assert_eq!(more.0.iter().sum::<u64>(), 15_010);
    assert_eq!(stats(&rt, &handle, 3).sources.iter().map(|row| row.counts.sessions).collect::<Vec<_>>(), more.0[..3]);
    assert_eq!(lists(dir.path()).len(), 1, "the list of the day being written is gone");
    // After an unclean stop nothing beside the day is believed.
    drop((store, handle));
    let path = dir.path().join("summary/2023-11-15.tops");
    std::fs::copy(lists(dir.path()).pop().unwrap(), &path).unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    assert!(!path.exists());
    assert!(all_rows(&rt, &handle) == more);
    store.close();
}
