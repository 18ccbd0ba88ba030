//! A file system of 60 MB that really fills up. As root on a tmpfs; otherwise only the quota is
//! exercised here, and the test says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::*;
use glasshive_event::detail::Loss;
use glasshive_event::{Kind, RecordView};
use glasshive_journal::{JournalConfig, JournalHandle, Pressure, disk::Space, open};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A mounted tmpfs, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=60m", "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                println!("NOT RUN on a small file system (mounting needs root): only the quota is exercised");
                None
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn hog(&self) -> PathBuf {
        self.0.path().join("hog")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Fills the file system to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [65_536, 4096, 512, 1] {
        while file.write_all(&vec![0x55; size]).is_ok() {}
    }
}

fn plain(dir: &Path) -> JournalConfig {
    JournalConfig { segment_bytes: 128 << 20, ..config(dir) }
}

/// Appends numbers from 1 on until told to stop; gives how many were accepted.
fn feeder(handle: &JournalHandle, stop: &Arc<AtomicBool>) -> (tokio::task::JoinHandle<()>, Arc<AtomicU64>) {
    let (handle, stop, accepted) = (handle.clone(), stop.clone(), Arc::new(AtomicU64::new(0)));
    let count = accepted.clone();
    let task = tokio::spawn(async move {
        for n in 1.. {
            if stop.load(Ordering::Acquire) || handle.append(numbered(n)).await.is_err() {
                return;
            }
            count.store(n, Ordering::Release);
        }
    });
    (task, accepted)
}

fn numbers(all: &[Vec<u8>]) -> Vec<u64> {
    all.iter().filter_map(|record| number(record)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_at_the_floor_keeps_everything_and_goes_on() {
    let Some(small) = Small::mount() else { return };
    let (journal, handle, _) = open(plain(&small.dir())).unwrap();
    let floor = Space::of(small.0.path()).unwrap().floor();
    let mut pressure = handle.pressure();
    let stop = Arc::new(AtomicBool::new(false));
    let (feed, accepted) = feeder(&handle, &stop);
    pressure.wait_for(|now| matches!(now, Pressure::Paused { why } if why.contains("must stay free"))).await.unwrap();
    assert!(segments(&small.dir()).len() >= 4, "segments are fitted to the disk");
    assert!(Space::of(small.0.path()).unwrap().free > floor / 4);
    // Now somebody else takes the rest.
    fill(&small.hog());
    assert_eq!(handle.first(), 1);
    // The controller fetches and acknowledges: the reserve is enough to begin, and that makes room.
    let (mut next, mut found) = (1, Vec::new());
    let mut durable = handle.durable();
    let paused_at = durable.borrow().seq;
    while !feed.is_finished() || next <= durable.borrow().seq {
        let blocks = handle.read(next, 256 * 1024).await.unwrap();
        assert!(!blocks.is_empty() || next > paused_at, "nothing at {next} of {paused_at}");
        for block in blocks {
            assert_eq!(block.first, next, "no hole");
            found.extend(glasshive_journal::block::records(&block.bytes).map(|record| record.unwrap().to_vec()));
            next = block.last + 1;
        }
        handle.acknowledged(next - 1).await.unwrap();
        if next > paused_at + 1000 {
            stop.store(true, Ordering::Release);
        }
        let _ = tokio::time::timeout(Duration::from_millis(5), durable.changed()).await;
    }
    std::fs::remove_file(small.hog()).unwrap();
    let accepted = accepted.load(Ordering::Acquire);
    journal.close().unwrap();
    let (journal, handle, report) = open(plain(&small.dir())).unwrap();
    assert!(report.clean && report.lost.is_empty());
    let (rest, _) = read_all(&handle, next).await;
    found.extend(rest);
    assert_eq!(numbers(&found), (1..=accepted).collect::<Vec<_>>());
    let kinds: Vec<u16> = found.iter().map(|record| RecordView::parse(record).unwrap().split().unwrap().0.kind).collect();
    assert!(kinds.contains(&Kind::Loss.number()), "the pause is in the log");
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_under_the_journal_loses_nothing_accepted() {
    let Some(small) = Small::mount() else { return };
    let (journal, handle, _) = open(plain(&small.dir())).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (feed, accepted) = feeder(&handle, &stop);
    // Somebody takes the last bytes again and again, so that writes fail in the middle of commits.
    let (hog, done) = (small.hog(), stop.clone());
    let hogging = std::thread::spawn(move || {
        while !done.load(Ordering::Acquire) {
            fill(&hog);
            std::fs::remove_file(&hog).unwrap();
        }
    });
    let mut durable = handle.durable();
    for _ in 0..15 {
        let target = durable.borrow().seq + 2500;
        let Ok(seq) = durable.wait_for(|now| now.seq >= target).await.map(|now| now.seq) else {
            panic!("the journal ended: {:?}", journal.close());
        };
        handle.acknowledged(seq.saturating_sub(20_000)).await.unwrap();
    }
    stop.store(true, Ordering::Release);
    hogging.join().unwrap();
    feed.await.unwrap();
    let accepted = accepted.load(Ordering::Acquire);
    journal.close().unwrap();
    let (journal, handle, report) = open(plain(&small.dir())).unwrap();
    assert!(report.lost.is_empty() && report.quarantined.is_empty(), "{report:?}");
    let (all, holes) = read_all(&handle, handle.first()).await;
    let found = numbers(&all);
    assert!(holes.is_empty() && found.last() == Some(&accepted));
    assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    let losses: Vec<Loss> = all.iter().filter_map(|record| RecordView::parse(record).unwrap().detail::<Loss>().ok()).collect();
    let failed = losses.iter().filter(|loss| loss.why.contains("is full")).count();
    println!(
        "{accepted} accepted and found; in the part kept: {} pauses, {failed} of them after a failed write",
        losses.iter().filter(|loss| loss.place == "accept_paused").count()
    );
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_on_a_full_disk_with_its_reserve() {
    let Some(small) = Small::mount() else { return };
    let (journal, handle, _) = open(plain(&small.dir())).unwrap();
    for n in 1..=5000 {
        handle.append(numbered(n)).await.unwrap();
    }
    handle.append_durable(numbered(5001)).await.unwrap();
    assert!(small.dir().join("reserve").exists());
    journal.close().unwrap();
    fill(&small.hog());
    let (journal, handle, report) = open(plain(&small.dir())).unwrap();
    assert!(report.clean && !small.dir().join("reserve").exists());
    assert_eq!(numbers(&read_all(&handle, 1).await.0).len(), 5001);
    handle.append(numbered(5002)).await.unwrap();
    handle.pressure().wait_for(|now| *now != Pressure::Normal).await.unwrap();
    std::fs::remove_file(small.hog()).unwrap();
    handle.durable().wait_for(|now| now.seq > 5001).await.unwrap();
    journal.close().unwrap();
    let (journal, handle, _) = open(plain(&small.dir())).unwrap();
    assert_eq!(numbers(&read_all(&handle, 1).await.0), (1..=5002).collect::<Vec<_>>());
    journal.close().unwrap();
}
