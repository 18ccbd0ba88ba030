//! What days of records leave behind where records are deleted by age.

use crate::{soak, turn};
use glasshive_journal::store::{NodeBatch, StoreConfig};
use glasshive_tests::bench::records::Node;
use glasshive_tests::bench::tree::Tree;
use std::time::Duration;

/// Days of records, hour by hour, through a store that keeps eight hours: what lies on disk on the
/// last day is what lay there on the third, and memory too.
#[test]
fn days_through_retention_leave_disk_and_memory_flat() {
    let _turn = turn();
    const HOUR_NS: i64 = 3_600_000_000_000;
    const VISITS: u64 = 150;
    let days: u64 = if soak() { 30 } else { 6 };
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_bytes: 1 << 20,
        max_age: Some(Duration::from_secs(8 * 3_600)),
        // The test looks itself, at its own time.
        check_every: Duration::from_secs(86_400),
        ..StoreConfig::new(dir.path().join("store"))
    };
    let (store, handle, _) = glasshive_journal::store::open(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = 1_767_225_600_000_000_000;
    let own = Tree(std::process::id());
    let mut node = Node::new(1);
    let (mut used, mut kib, mut deleted) = (Vec::new(), Vec::new(), 0);
    for hour in 0..24 * days {
        let start = begin + i64::try_from(hour).unwrap() * HOUR_NS;
        for n in 0..VISITS {
            node.visit(hour * VISITS + n, start + i64::try_from(n).unwrap() * (HOUR_NS / i64::try_from(VISITS).unwrap())).unwrap();
            if n % 50 == 49 || n + 1 == VISITS {
                // Brought over when it happened, not when this test runs.
                let batch = NodeBatch { received_ns: start + HOUR_NS, ..node.batch() };
                runtime.block_on(handle.append(batch)).unwrap();
            }
        }
        runtime.block_on(handle.settled()).unwrap();
        let swept = runtime.block_on(handle.sweep(start + HOUR_NS)).unwrap();
        deleted += swept.segments + swept.days;
        used.push(swept.used_bytes);
        kib.push(own.own_kib());
    }
    drop(handle);
    store.close();
    let peak = |all: &[u64], day: usize| *all[day * 24..(day + 1) * 24].iter().max().unwrap();
    let last = usize::try_from(days).unwrap() - 1;
    let (before, after) = (peak(&used, 2), peak(&used, last));
    let memory: Vec<u64> = (0..=last).map(|day| peak(&kib, day) / 1024).collect();
    println!(
        "{} records in {days} days, {deleted} segments and days deleted; most on disk on day 3: {:.1} MiB, on the last: {:.1} MiB; memory by day {memory:?} MiB",
        24 * days * VISITS * 10,
        before as f64 / 1_048_576.0,
        after as f64 / 1_048_576.0,
    );
    assert!(deleted > 0 && after <= before + before / 4, "disk grows from day to day: {used:?}");
    // Its caches fill until the ninth day.
    assert!(!soak() || peak(&kib, last) <= peak(&kib, 11) + (48 << 10), "memory grows from day to day: {kib:?}");
}
