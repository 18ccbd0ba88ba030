//! What is told, what is told once, what is not; and the workers against receivers.
#![allow(clippy::unwrap_used)]

use super::config::Notify;
use super::dedupe::{Findings, Troubles};
use super::worker::{Board, Channels};
use super::*;
use crate::query::doctor::Trouble;
use glasshive_event::{FindingId, StoredFinding};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SECOND: i64 = 1_000_000_000;

fn finding(number: u8, severity: Severity) -> StoredFinding {
    StoredFinding {
        finding: FindingId([number; 16]),
        detector: "scan".into(),
        severity,
        summary: format!("the {number}."),
        ..StoredFinding::default()
    }
}

#[test]
fn of_a_flood_the_first_and_a_count() {
    let mut told = Findings::new(Duration::from_secs(600));
    let mut notes: Vec<Note> = (0..200).filter_map(|number| told.add("dmz", &finding(number, Severity::High), SECOND)).collect();
    assert_eq!((notes.len(), notes[0].count, notes[0].summary.as_str()), (1, 1, "the 0."));
    assert!(told.tick(599 * SECOND).is_empty());
    notes = told.tick(601 * SECOND);
    assert_eq!((notes.len(), notes[0].count, notes[0].findings.len()), (1, 199, MAX_IDS));
    assert!(notes[0].line().contains("(199 in all)"), "{}", notes[0].line());
    // The next window began with that; quiet, it ends without a word, and then the next is told at once.
    assert!(told.add("dmz", &finding(201, Severity::High), 700 * SECOND).is_none());
    assert_eq!(told.tick(1_202 * SECOND).len(), 1);
    assert!(told.tick(1_803 * SECOND).is_empty());
    assert!(told.add("dmz", &finding(202, Severity::High), 1_804 * SECOND).is_some());
}

#[test]
fn a_later_record_of_a_finding_is_no_news_and_a_worse_one_is() {
    let mut told = Findings::new(Duration::from_secs(600));
    assert!(told.add("dmz", &finding(1, Severity::Medium), 0).is_some());
    assert!(told.add("dmz", &finding(1, Severity::Medium), SECOND).is_none());
    assert!(told.add("dmz", &finding(1, Severity::Critical), SECOND).is_some(), "it grew");
    assert!(told.add("dmz", &finding(2, Severity::Critical), SECOND).is_none(), "no worse than what was told in this window");
    assert!(told.add("lab", &finding(3, Severity::Medium), SECOND).is_some(), "another net");
    assert_eq!(told.tick(601 * SECOND).iter().map(|note| note.count).sum::<u64>(), 1);
}

#[test]
fn filters() {
    let settings: Notify =
        toml::from_str("min_severity = \"high\"\nnets = [\"dmz\"]\n[syslog]\naddress = \"127.0.0.1:514\"\nmin_severity = \"critical\"\n")
            .unwrap();
    let channels = settings.channels().unwrap();
    let filter = &channels[0].1;
    assert!(filter.passes("dmz", Severity::Critical) && !filter.passes("dmz", Severity::High) && !filter.passes("lab", Severity::Critical));
    let nets = ["dmz".to_owned()];
    assert!(settings.check(nets.iter()).is_ok());
    assert_eq!(settings.check([].iter()).unwrap_err().0, "notify.nets");
    for (bad, key) in [
        ("check = \"0s\"", "notify.check"),
        ("[syslog]\naddress = \"h:1\"\nfacility = 24", "notify.syslog.facility"),
        ("[webhook]\nurl = \"gopher://h/\"\nsecret_file = \"/x\"", "notify.webhook.url"),
    ] {
        assert_eq!(toml::from_str::<Notify>(bad).unwrap().check([].iter()).unwrap_err().0, key);
    }
}

fn trouble(code: &'static str, about: &str, what: &str) -> Trouble {
    Trouble { code, about: about.into(), what: what.into(), remedy: "do".into() }
}

#[test]
fn troubles_are_told_when_seen_twice_and_when_over() {
    let mut told = Troubles::default();
    let away = trouble("away", "node a", "not connected");
    assert!(told.look(std::slice::from_ref(&away), 0).is_empty(), "a restart is none");
    assert!(told.look(&[], 1).is_empty() && told.look(&[], 2).is_empty());
    assert!(told.look(std::slice::from_ref(&away), 3).is_empty());
    let notes = told.look(&[trouble("away", "node a", "not connected: refused")], 4);
    assert_eq!((notes.len(), notes[0].kind, notes[0].about.as_str()), (1, NoteKind::Trouble, "node a"));
    for now in 5..50 {
        assert!(told.look(std::slice::from_ref(&away), now).is_empty(), "told once, in whatever words");
    }
    assert!(told.look(&[], 50).is_empty());
    let notes = told.look(&[], 51);
    assert_eq!((notes.len(), notes[0].kind), (1, NoteKind::Cleared));
    assert!(told.look(&[], 52).is_empty());
    // Fifty nodes at once are one note.
    let all: Vec<_> = (0..50).map(|number| trouble("away", &format!("node {number}"), "not connected")).collect();
    assert!(told.look(&all, 60).is_empty());
    let notes = told.look(&all, 61);
    assert_eq!((notes.len(), notes[0].count), (1, 50));
}

/// Fails as often as told, then takes.
struct Fails(AtomicU32, Arc<Mutex<Vec<Note>>>);

impl Channel for Fails {
    fn name(&self) -> &'static str {
        "fails"
    }
    fn target(&self) -> String {
        "nowhere".into()
    }
    fn send<'a>(&'a self, note: &'a Note) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let fail = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if fail {
                return Err("refused".to_owned());
            }
            self.1.lock().unwrap().push(note.clone());
            Ok(())
        })
    }
}

fn note(number: usize) -> Note {
    Note::new(NoteKind::Test, Severity::High, "x", number.to_string(), 0)
}

async fn channels(fails: u32, count: usize) -> (Vec<Note>, ChannelStatus) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let board = Board::default();
    let filter = toml::from_str::<Notify>("[syslog]\naddress = \"h:1\"").unwrap().channels().unwrap().remove(0).1;
    let stop = CancellationToken::new();
    let channels = Channels::start(vec![(Arc::new(Fails(fails.into(), Arc::clone(&got))), filter)], board.clone(), &stop);
    (0..count).for_each(|number| channels.offer(0, note(number)));
    channels.finish().await;
    let got = got.lock().unwrap().clone();
    (got, board.status().remove(0))
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_sent_again_in_order_with_the_same_id() {
    let (got, status) = channels(3, 2).await;
    assert_eq!(got.iter().map(|note| note.summary.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!((status.sent, status.failed, status.dropped, status.queued, status.error), (2, 3, 0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_counts_and_says_so() {
    let (got, status) = channels(0, 300).await;
    assert_eq!((got.len(), status.dropped), (256, 44));
    assert_eq!(got.iter().map(|note| note.dropped).sum::<u64>(), 44, "told once");
    assert!(got.iter().find(|note| note.dropped > 0).unwrap().line().contains("44 notes before this did not arrive"));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_never_works_gives_up_and_goes_on() {
    let (got, status) = channels(21, 2).await;
    assert_eq!((got.len(), got[0].summary.as_str(), got[0].dropped), (1, "1", 1));
    assert_eq!((status.sent, status.failed, status.dropped), (1, 21, 1));
}
