//! Append, read, reopen, retention, recovery of a journal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::*;
use glasshive_event::detail::{Gap, Health, Loss};
use glasshive_event::{Kind, RecordView};
use glasshive_journal::{JournalConfig, JournalError, OnFull, Pressure, TryAppendError, open};
use std::time::Duration;

fn kind(record: &[u8]) -> Kind {
    Kind::from_number(RecordView::parse(record).unwrap().split().unwrap().0.kind).unwrap()
}

#[tokio::test]
async fn append_read_close_reopen() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert!(report.was_new && report.clean && report.open_sessions.is_empty() && report.recovered_last == 0);
    assert_eq!(std::fs::read_to_string(tmp.path().join("schema")).unwrap(), "1\n");
    let log = handle.log_id();
    assert_eq!(handle.append_durable(numbered(1)).await.unwrap(), 1);
    for n in 2..=2000 {
        handle.append(numbered(n)).await.unwrap();
    }
    handle.try_append(numbered(2001)).unwrap();
    handle.append_reserved(numbered(2002)).await.unwrap();
    journal.close().unwrap();
    assert!(handle.append(numbered(0)).await.is_err());
    assert!(matches!(handle.try_append(numbered(0)), Err(TryAppendError::Closed(_))));
    assert!(handle.read(1, 10).await.is_err());
    // Accepted before the close is stored by it.
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert!(report.clean && !report.was_new && report.log == log && report.recovered_last == 2002);
    let (all, holes) = read_all(&handle, 1).await;
    assert!(holes.is_empty());
    assert_eq!(all.iter().map(|record| number(record).unwrap()).collect::<Vec<_>>(), (1..=2002).collect::<Vec<_>>());
    assert_eq!(RecordView::parse(&all[4]).unwrap().header.boot, [7; 16]);
    // From the middle of a block: the block that holds it.
    let blocks = handle.read(1001, 1).await.unwrap();
    assert!(blocks.len() == 1 && blocks[0].first <= 1001 && blocks[0].last >= 1001);
    assert!(handle.read(2003, 1000).await.unwrap().is_empty());
    journal.close().unwrap();
}

#[tokio::test]
async fn rolls_and_reads_closed_segments_without_harm() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    for n in 1..=12_000 {
        handle.append(numbered(n)).await.unwrap();
    }
    handle.append_durable(numbered(12_001)).await.unwrap();
    let count = segments(tmp.path()).len();
    assert!(count >= 4, "{count} segments");
    let (all, holes) = read_all(&handle, 1).await;
    assert!(all.len() == 12_001 && holes.is_empty());
    journal.close().unwrap();
    for segment in segments(tmp.path()) {
        assert!(segment.join("CLEAN").exists(), "{}", segment.display());
    }
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert!(report.clean && report.lost.is_empty() && report.quarantined.is_empty());
    assert_eq!(read_all(&handle, 1).await.0.len(), 12_001);
    journal.close().unwrap();
}

#[tokio::test]
async fn second_open_names_the_holder() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    let error = open(config(tmp.path())).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    let text = error.to_string();
    assert!(text.contains("in use by process") && !text.contains('\n'), "{text}");
    handle.append_durable(numbered(1)).await.unwrap();
    journal.close().unwrap();
    open(config(tmp.path())).unwrap().0.close().unwrap();
}

#[test]
fn an_unusable_directory_is_named_with_a_remedy() {
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let text = open(config(&file)).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains(&*file.to_string_lossy()) && text.contains("state directory"), "{text}");
    let text = open(JournalConfig { quota_bytes: 1 << 20, ..config(tmp.path()) }).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("8 MiB"), "{text}");
}

#[tokio::test]
async fn open_sessions_survive_rolls_and_restarts() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    for n in 1..=20 {
        handle.append(opening(n)).await.unwrap();
    }
    for n in 1..=8000 {
        handle.append(numbered(n)).await.unwrap();
    }
    for n in (1..=20).filter(|n| n % 4 != 0) {
        handle.append_reserved(closing(n)).await.unwrap();
    }
    handle.append_durable(opening(21)).await.unwrap();
    assert!(segments(tmp.path()).len() >= 3);
    journal.close().unwrap();
    for list_lost in [false, true] {
        if list_lost {
            let newest = segments(tmp.path()).pop().unwrap();
            std::fs::remove_file(newest.join("SESSIONS")).unwrap();
        }
        let (journal, _, report) = open(config(tmp.path())).unwrap();
        let open: Vec<_> = report.open_sessions.iter().map(|open| open.session).collect();
        assert_eq!(open, [4, 8, 12, 16, 20, 21].map(session));
        let envelope = &report.open_sessions[0].envelope;
        assert_eq!((envelope.kind, envelope.decoy.as_deref()), (1, Some("web-1")));
        assert_eq!(report.open_sessions[0].mono_ns, 4);
        journal.close().unwrap();
    }
}

#[tokio::test]
async fn retention_never_deletes_what_is_not_acknowledged() {
    let tmp = tempfile::tempdir().unwrap();
    // Everything is older than the largest age: only the acknowledgement protects it.
    let config = JournalConfig { max_age: Duration::ZERO, ..config(tmp.path()) };
    let (journal, handle, _) = open(config.clone()).unwrap();
    for n in 1..=8000 {
        handle.append(numbered(n)).await.unwrap();
    }
    let last = handle.append_durable(numbered(8001)).await.unwrap();
    let firsts: Vec<u64> = segments(tmp.path()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
    assert!(firsts.len() >= 3);
    assert_eq!(handle.first(), 1);
    handle.acknowledged(firsts[1] - 2).await.unwrap();
    assert_eq!(handle.first(), 1, "one record of the oldest segment is not acknowledged");
    handle.acknowledged(firsts[1] - 1).await.unwrap();
    assert_eq!(handle.first(), firsts[1]);
    let (all, holes) = read_all(&handle, 1).await;
    assert_eq!(holes, [(1, firsts[1] - 1)]);
    assert_eq!(all.len() as u64, last - firsts[1] + 1);
    journal.close().unwrap();
    let (journal, handle, report) = open(config.clone()).unwrap();
    assert_eq!((handle.first(), report.recovered_last, handle.gauges().acknowledged), (firsts[1], last, firsts[1] - 1));
    handle.acknowledged(last).await.unwrap();
    assert_eq!(handle.gauges().acknowledged, last);
    // Unless it was full: then it was closed at the opening, and a new one stands in its place.
    assert!([*firsts.last().unwrap(), last + 1].contains(&handle.first()), "the active segment stays");
    journal.close().unwrap();
    // Without a controller age alone decides.
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(JournalConfig { dir: tmp.path().into(), standalone: true, ..config }).unwrap();
    for n in 1..=8000 {
        handle.append(numbered(n)).await.unwrap();
    }
    handle.append_durable(numbered(8001)).await.unwrap();
    assert!(segments(tmp.path()).len() <= 2);
    journal.close().unwrap();
}

#[tokio::test]
async fn a_full_quota_pauses_and_the_log_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(JournalConfig { quota_bytes: 8 << 20, queue: 64, ..config(tmp.path()) }).unwrap();
    let mut pressure = handle.pressure();
    let filler = handle.clone();
    let fill = tokio::spawn(async move {
        for n in 1..=30_000 {
            filler.append(numbered(n)).await.unwrap();
        }
    });
    pressure.wait_for(|now| matches!(now, Pressure::Paused { why } if why.contains("quota"))).await.unwrap();
    let held = *handle.durable().borrow();
    assert!(!fill.is_finished());
    // Everything so far is here, and reading goes on under pressure.
    let (all, holes) = read_all(&handle, 1).await;
    assert!(all.len() as u64 >= held.seq && holes.is_empty());
    // A controller appears and keeps up.
    let mut durable = handle.durable();
    let mut acked = 0;
    while !fill.is_finished() || durable.borrow().seq > acked {
        acked = durable.borrow_and_update().seq;
        handle.acknowledged(acked).await.unwrap();
        tokio::select! {
            _ = durable.changed() => {}
            _ = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    fill.await.unwrap();
    pressure.wait_for(|now| *now == Pressure::Normal).await.unwrap();
    let (all, _) = read_all(&handle, handle.first()).await;
    assert_eq!(all.iter().filter_map(|record| number(record)).max(), Some(30_000));
    assert!(handle.gauges().used_bytes <= 9 << 20);
    journal.close().unwrap();
}

#[tokio::test]
async fn drop_oldest_writes_the_gap_before_it_deletes() {
    let tmp = tempfile::tempdir().unwrap();
    let config = JournalConfig { quota_bytes: 8 << 20, on_full: OnFull::DropOldest, ..config(tmp.path()) };
    let (journal, handle, _) = open(config).unwrap();
    for n in 1..=30_000 {
        handle.append(numbered(n)).await.unwrap();
    }
    handle.append_durable(numbered(30_001)).await.unwrap();
    assert!(handle.first() > 1 && handle.gauges().used_bytes <= 9 << 20);
    // The thread answers an append before it looks for room: what was read while it deleted is read again.
    let (first, all, holes) = loop {
        handle.read(1, 1).await.unwrap();
        let first = handle.first();
        let (all, holes) = read_all(&handle, 1).await;
        if handle.first() == first {
            break (first, all, holes);
        }
    };
    assert_eq!(holes, [(1, first - 1)]);
    let gaps: Vec<Gap> =
        all.iter().filter(|record| kind(record) == Kind::Gap).map(|record| RecordView::parse(record).unwrap().detail().unwrap()).collect();
    assert!(!gaps.is_empty());
    assert_eq!(gaps.last().unwrap().to, Some(first - 1));
    journal.close().unwrap();
}

/// Flips bytes of a file in `count` places from the middle on.
fn damage(path: &std::path::Path, random: &mut Random, count: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    for _ in 0..count {
        let at = bytes.len() / 4 + random.below(bytes.len() as u64 / 2) as usize;
        bytes[at] ^= 0xff;
    }
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_newest_segment_begins_a_new_log_and_keeps_the_old() {
    let mut random = Random::new();
    for cycle in 0..2 {
        let tmp = tempfile::tempdir().unwrap();
        let (journal, handle, _) = open(config(tmp.path())).unwrap();
        handle.append(opening(1)).await.unwrap();
        for n in 1..=6000 {
            handle.append(numbered(n)).await.unwrap();
        }
        let last = handle.append_durable(opening(2)).await.unwrap();
        handle.acknowledged(1000).await.unwrap();
        let old = handle.log_id();
        journal.close().unwrap();
        let newest = segments(tmp.path()).pop().unwrap();
        let newest_first: u64 = newest.file_name().unwrap().to_str().unwrap().parse().unwrap();
        damage(&newest.join("db"), &mut random, 400);
        let original = std::fs::read(newest.join("db")).unwrap();
        if cycle == 1 {
            std::fs::remove_file(newest.join("CLEAN")).unwrap();
        }
        let (journal, handle, report) = open(config(tmp.path())).unwrap();
        assert!(!report.clean && report.log != old && handle.log_id() == report.log);
        let [kept] = &report.quarantined[..] else { panic!("{report:?}") };
        assert!(kept.join(newest.file_name().unwrap()).exists());
        if cycle == 1 {
            let copy = kept.join(format!("copy-{}", newest.file_name().unwrap().to_str().unwrap()));
            assert_eq!(std::fs::read(copy.join("db")).unwrap(), original, "the state before recovery is kept");
        }
        let [lost] = &report.lost[..] else { panic!("{report:?}") };
        assert_eq!((lost.log, lost.to), (old, last));
        assert!(lost.from >= newest_first, "older segments are readable: {lost:?} from {newest_first}");
        // What was not acknowledged and is readable is in the new log, in order, with its own numbers.
        let (all, holes) = read_all(&handle, 1).await;
        assert!(holes.is_empty());
        assert_eq!(report.salvaged, lost.from - 1 - 1000);
        assert_eq!(all.len() as u64, report.salvaged);
        // Record 1 of the old log was the opening, so number n was record n + 1.
        let numbers: Vec<_> = all.iter().filter_map(|record| number(record)).collect();
        assert_eq!(numbers, (1000..lost.from - 1).collect::<Vec<_>>());
        assert!(report.open_sessions.iter().any(|open| open.session == session(1)));
        handle.append_durable(closing(1)).await.unwrap();
        journal.close().unwrap();
        // The next open is an ordinary one.
        let (journal, handle, report) = open(config(tmp.path())).unwrap();
        assert!(report.clean && report.lost.is_empty() && !report.open_sessions.iter().any(|open| open.session == session(1)));
        assert_eq!(read_all(&handle, 1).await.0.len(), all.len() + 1);
        journal.close().unwrap();
    }
}

#[tokio::test]
async fn a_damaged_closed_segment_is_a_hole_and_the_log_goes_on() {
    let mut random = Random::new();
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    for n in 1..=9000 {
        handle.append(numbered(n)).await.unwrap();
    }
    let last = handle.append_durable(numbered(9001)).await.unwrap();
    let log = handle.log_id();
    journal.close().unwrap();
    let list = segments(tmp.path());
    let first = |index: usize| list[index].file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    damage(&list[1].join("db"), &mut random, 400);
    std::fs::remove_file(list[1].join("CLEAN")).unwrap();
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert_eq!(report.log, log);
    let [lost] = &report.lost[..] else { panic!("{report:?}") };
    assert_eq!(lost.to, first(2) - 1);
    assert!(lost.from >= first(1));
    let (all, holes) = read_all(&handle, 1).await;
    assert_eq!(holes, [(lost.from, lost.to)]);
    assert_eq!(all.len() as u64, last - (lost.to - lost.from + 1));
    journal.close().unwrap();
}

#[tokio::test]
async fn fewer_records_than_were_durable_begin_a_new_log() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    for n in 1..=50 {
        handle.append_durable(numbered(n)).await.unwrap();
    }
    let old = handle.log_id();
    journal.close().unwrap();
    // As a restored backup would look: the state says more than the segments hold.
    let path = tmp.path().join("state");
    let state = std::fs::read_to_string(&path).unwrap().replace("\"durable\":50", "\"durable\":60");
    assert!(state.contains("60"), "{state}");
    std::fs::write(&path, state).unwrap();
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert_ne!(report.log, old);
    assert_eq!((report.lost[0].from, report.lost[0].to, report.salvaged), (51, 60, 50));
    assert_eq!(read_all(&handle, 1).await.0.len(), 50);
    assert_eq!(handle.append_durable(numbered(51)).await.unwrap(), 51);
    journal.close().unwrap();
    assert_eq!(named(tmp.path(), "quarantine-").len(), 1);
}

/// A process that dies between two segments leaves the last one closed: the stop is unclean all the same.
#[tokio::test]
async fn a_closed_segment_alone_is_no_clean_stop() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    handle.append_durable(numbered(1)).await.unwrap();
    journal.close().unwrap();
    let state = tmp.path().join("state");
    let text = std::fs::read_to_string(&state).unwrap();
    for (stopped, clean) in [("\"stopped\":false", false), ("\"stopped\":null", true), ("\"stopped\":true", true)] {
        std::fs::write(&state, text.replace("\"stopped\":true", stopped)).unwrap();
        let (journal, _, report) = open(config(tmp.path())).unwrap();
        assert_eq!((report.clean, report.recovered_last), (clean, 1), "{stopped}");
        assert!(std::fs::read_to_string(&state).unwrap().contains("\"stopped\":false"), "it runs");
        journal.close().unwrap();
        assert_eq!(std::fs::read_to_string(&state).unwrap(), text);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_closing_records_still_find_room() {
    let tmp = tempfile::tempdir().unwrap();
    let (journal, handle, _) = open(JournalConfig { queue: 64, reserved: 8, quota_bytes: 8 << 20, ..config(tmp.path()) }).unwrap();
    let mut pressure = handle.pressure();
    let filler = handle.clone();
    let fill = tokio::spawn(async move { while filler.append(numbered(1)).await.is_ok() {} });
    pressure.wait_for(|now| matches!(now, Pressure::Paused { why } if why.contains("quota"))).await.unwrap();
    while handle.try_append(numbered(2)).is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(handle.try_append(numbered(2)), Err(TryAppendError::Full(_))));
    handle.append_reserved(closing(1)).await.unwrap();
    // Closing stores even what waited, over the quota.
    let closer = tokio::task::spawn_blocking(move || journal.close());
    fill.await.unwrap();
    closer.await.unwrap().unwrap();
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    let (all, _) = read_all(&handle, 1).await;
    assert_eq!(all.iter().filter(|record| kind(record) == Kind::SessionClose).count(), 1);
    let losses: Vec<Loss> =
        all.iter().filter(|record| kind(record) == Kind::Loss).map(|record| RecordView::parse(record).unwrap().detail().unwrap()).collect();
    assert_eq!(losses.len(), 1);
    assert!(losses[0].place == "accept_paused" && losses[0].why.contains("quota"));
    // The pause was told at its beginning, ahead of everything that waited for its end.
    let begun = all.iter().position(|record| kind(record) == Kind::Health).unwrap();
    let ended = all.iter().position(|record| kind(record) == Kind::Loss).unwrap();
    let health: Health = RecordView::parse(&all[begun]).unwrap().detail().unwrap();
    assert!(health.what == "paused" && health.fields["paused"].as_str().unwrap().contains("quota"), "{health:?}");
    assert_eq!(begun + 1, ended);
    journal.close().unwrap();
}

/// A state that came back from an older copy: the controller holds more of the log than is here. What was written
/// since, over several starts, goes into a new log, and nothing of what the controller has.
#[tokio::test]
async fn a_log_the_controller_holds_more_of_is_not_continued() {
    let tmp = tempfile::tempdir().unwrap();
    let write = async |handle: &glasshive_journal::JournalHandle, numbers: std::ops::RangeInclusive<u64>| {
        for n in numbers {
            handle.append_durable(numbered(n)).await.unwrap();
        }
    };
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    write(&handle, 1..=100).await;
    handle.acknowledged(60).await.unwrap();
    let old = handle.log_id();
    journal.close().unwrap();
    // This is the copy: the journal went on to 150 elsewhere.
    for numbers in [101..=120, 121..=130] {
        let (journal, handle, report) = open(config(tmp.path())).unwrap();
        assert!(report.replaced.is_none() && handle.log_id() == old);
        write(&handle, numbers).await;
        journal.close().unwrap();
    }
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    handle.acknowledged(150).await.unwrap();
    // Their age alone would let them be deleted.
    assert_eq!(handle.gauges().acknowledged, 100, "what was written since is nowhere else");
    // Written on, until somebody starts the daemon again; then the numbers are those the controller names.
    write(&handle, 131..=170).await;
    handle.acknowledged(150).await.unwrap();
    assert_eq!(handle.gauges().acknowledged, 100);
    journal.close().unwrap();
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert!(report.log != old && report.replaced.as_ref().unwrap().contains("older copy"), "{report:?}");
    assert!((report.salvaged, report.quarantined.len(), report.clean) == (70, 1, false) && report.lost.is_empty(), "{report:?}");
    let (all, holes) = read_all(&handle, 1).await;
    assert!(holes.is_empty());
    assert_eq!(all.iter().filter_map(|record| number(record)).collect::<Vec<_>>(), (101..=170).collect::<Vec<_>>());
    handle.acknowledged(70).await.unwrap();
    // As a daemon does at every start.
    write(&handle, 171..=171).await;
    let new = handle.log_id();
    journal.close().unwrap();
    let (journal, handle, report) = open(config(tmp.path())).unwrap();
    assert!(report.replaced.is_none() && handle.log_id() == new && report.clean, "{report:?}");
    journal.close().unwrap();
}
