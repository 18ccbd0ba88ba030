//! SIGKILL and power cuts at random moments: nothing acknowledged as durable is missing, the chain
//! holds, the open sessions are the right ones. `GLASSHIVE_KILLS` rounds, seed printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::*;
use glasshive_event::{Kind, RecordView};
use glasshive_journal::{JournalConfig, open};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "GLASSHIVE_JOURNAL_CHILD";

/// The child's: what is acknowledged goes at once. Who verifies opens with [`config`], so that nothing goes meanwhile.
fn small(dir: &Path) -> JournalConfig {
    JournalConfig { max_age: Duration::ZERO, ..config(dir) }
}

/// Not a test by itself: the process that is killed. Prints `seq number` once a record is durable.
#[test]
fn child() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let (dir, start) = spec.rsplit_once('@').unwrap();
    let start: u64 = start.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (_journal, handle, report) = open(small(Path::new(dir))).unwrap();
        assert!(report.lost.is_empty() && report.quarantined.is_empty(), "{report:?}");
        let mut tasks = Vec::new();
        for task in 0..4u64 {
            let handle = handle.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    let n = start + n * 4 + task;
                    let pending = match n % 40 {
                        0 => opening(n / 40),
                        20 => closing(n / 40),
                        k if k % 10 == 7 => large(n),
                        _ => numbered(n),
                    };
                    if n.is_multiple_of(3) {
                        let _ = handle.append(pending).await;
                    } else if let Ok(seq) = handle.append_durable(pending).await {
                        println!("durable {seq} {n}");
                    }
                    if task == 0 && n.is_multiple_of(512) {
                        let seq = handle.durable().borrow().seq.saturating_sub(3000);
                        println!("acknowledging {seq}");
                        handle.acknowledged(seq).await.unwrap();
                        let _ = handle.read(seq.max(1), 100_000).await;
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn nothing_durable_is_missing_after_sigkill() {
    let rounds: u64 = std::env::var("GLASSHIVE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let mut random = Random::new();
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("journal");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // seq -> number, of everything any child said was durable.
    let mut said: BTreeMap<u64, u64> = BTreeMap::new();
    let mut acknowledging = 0;
    let (mut log, mut verified) = (None, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD, format!("{}@{}", dir.display(), 40_000_000 * (round + 1)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = 1 + random.below(9000);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Read on after the kill: what was printed before it counts.
        while output.read_line(&mut line).unwrap() > 0 {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["durable", seq, n] => {
                    if let Some(earlier) = said.insert(seq.parse().unwrap(), n.parse().unwrap()) {
                        panic!("sequence number {seq} given twice: {earlier} and {n}");
                    }
                    lines = lines.saturating_sub(1);
                    if lines == 0 {
                        child.kill().unwrap();
                    }
                }
                ["acknowledging", seq] => acknowledging = acknowledging.max(seq.parse().unwrap()),
                _ => {}
            }
            line.clear();
        }
        child.wait().unwrap();
        assert_eq!(lines, 0, "the child ended by itself");
        // Sometimes the next child recovers instead.
        if round + 1 < rounds && random.below(2) == 0 {
            continue;
        }
        verified += 1;
        let (journal, handle, report) = open(config(&dir)).unwrap();
        assert!(!report.clean && report.lost.is_empty() && report.quarantined.is_empty(), "{report:?}");
        assert_eq!(*log.get_or_insert(report.log), report.log);
        let (all, holes) = runtime.block_on(read_all(&handle, handle.first()));
        assert!(holes.is_empty() && handle.first() <= acknowledging + 1);
        let mut open = BTreeSet::new();
        for (record, seq) in all.iter().zip(handle.first()..) {
            let (envelope, _) = RecordView::parse(record).unwrap().split().unwrap();
            match Kind::from_number(envelope.kind).unwrap() {
                Kind::SessionOpen => drop(open.insert(envelope.session.unwrap())),
                Kind::SessionClose => drop(open.remove(&envelope.session.unwrap())),
                _ => {
                    if let Some(n) = said.get(&seq) {
                        assert_eq!(number(record), Some(*n), "record {seq}");
                    }
                }
            }
        }
        let last = said.last_key_value().map_or(0, |(seq, _)| *seq);
        assert!(handle.durable().borrow().seq >= last, "{last} was durable, {} is there", handle.durable().borrow().seq);
        let reported: BTreeSet<_> = report.open_sessions.iter().map(|open| open.session).collect();
        // Sessions opened in segments already deleted are known too, from the lists.
        assert!(reported.is_superset(&open), "{} reported, {} open", reported.len(), open.len());
        for extra in reported.difference(&open) {
            let seq = report.open_sessions.iter().find(|open| open.session == *extra).unwrap().seq;
            assert!(seq < handle.first(), "session {extra} of {seq} is closed");
        }
        println!("round {round}: {} records from {}, {} sessions open", all.len(), handle.first(), reported.len());
        journal.close().unwrap();
    }
    assert!(verified > 0);
}

/// A power cut: the block device as it is at one moment, with nothing the kernel still held back. The
/// device is a file under a loop mount of ext4; the copy of the file is what a power cut leaves.
#[test]
fn nothing_durable_is_missing_after_a_power_cut() {
    let rounds: u64 = std::env::var("GLASSHIVE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5).min(50);
    let mut random = Random::new();
    // In memory: copied in a moment, and what is read is what the loop device wrote.
    let tmp = tempfile::tempdir_in("/dev/shm").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..rounds.div_ceil(2) {
        // New names each time: `mount` takes a loop device that is still there for a file of that name, and with it
        // what the kernel remembers of the round before.
        let named = |what: &str| tmp.path().join(format!("{what}-{round}"));
        let (image, copy, point) = (named("image"), named("copy"), named("point"));
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        std::fs::create_dir_all(&point).unwrap();
        let run = |program: &str, args: &[&std::ffi::OsStr]| Command::new(program).args(args).output().is_ok_and(|o| o.status.success());
        let mount = |file: &Path| run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), point.as_ref()]);
        if !run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()]) || !mount(&image) {
            println!("NOT RUN: a loop mount of ext4 needs root, mkfs.ext4 and loop devices");
            return;
        }
        let dir = point.join("journal");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD, format!("{}@{}", dir.display(), 40_000_000 * (round + 1)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = 300 + random.below(3000);
        let (mut said, mut line) = (BTreeMap::new(), String::new());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        while lines > 0 && output.read_line(&mut line).unwrap() > 0 {
            if let ["durable", seq, n] = line.split_whitespace().collect::<Vec<_>>()[..] {
                said.insert(seq.parse::<u64>().unwrap(), n.parse::<u64>().unwrap());
                lines -= 1;
            }
            line.clear();
        }
        assert_eq!(lines, 0, "the child ended by itself");
        // What was said so far was durable before the copy begins; the writer stands still while it is made.
        let pid = child.id().to_string();
        assert!(run("kill", &["-STOP".as_ref(), pid.as_ref()]));
        // The kernel may be writing on its own account; a copy over which it did is no moment a power cut could leave.
        loop {
            std::fs::copy(&image, &copy).unwrap();
            if run("cmp", &["-s".as_ref(), image.as_ref(), copy.as_ref()]) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(run("umount", &[point.as_ref()]));
        assert!(mount(&copy), "the file system recovers");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (journal, handle, report) = open(config(&dir)).unwrap();
            assert!(report.lost.is_empty() && report.quarantined.is_empty(), "{report:?}");
            let (all, holes) = runtime.block_on(read_all(&handle, handle.first()));
            // What was opened goes on making room, also while it is read.
            let expired = holes.iter().all(|(_, to)| *to < handle.first());
            assert!(expired, "{holes:?} of {:?}, first now {}", report, handle.first());
            let last = said.last_key_value().map_or(0, |(seq, _)| *seq);
            assert!(handle.durable().borrow().seq >= last, "{last} was durable, {} is there", handle.durable().borrow().seq);
            for record in &all {
                let seq = RecordView::parse(record).unwrap().header.seq;
                if let (Some(n), Some(found)) = (said.get(&seq), number(record)) {
                    assert_eq!(found, *n, "record {seq}");
                }
            }
            println!("cut {round}: {} said, {} found", said.len(), all.len());
            journal.close().unwrap();
        }));
        assert!(run("umount", &[point.as_ref()]));
        result.unwrap();
        std::fs::remove_file(&image).unwrap();
        std::fs::remove_file(&copy).unwrap();
    }
}
