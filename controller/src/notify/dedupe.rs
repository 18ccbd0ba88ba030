//! Each matter once: of findings of one detector and net the first is told, those that follow within
//! the window are told together at its end; a worse one than any told in it is told at once. Troubles
//! are told when they are seen twice, and again when they are over.

use super::{MAX_IDS, Note, NoteKind};
use crate::query::doctor::Trouble;
use glasshive_detect::window::Keyed;
use glasshive_event::{FindingId, Severity, StoredFinding, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Findings remembered, so that a later record of one is no news.
const KNOWN: usize = 65_536;
const KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Detectors and nets with an open window.
const MAX_WINDOWS: usize = 4_096;
/// Names listed of troubles of one kind.
const MAX_NAMES: usize = 8;

struct Window {
    ends_ns: i64,
    worst_told: Severity,
    waiting: u64,
    worst: Option<(Severity, StoredFinding)>,
    ids: Vec<String>,
}

/// What one channel was told.
pub(super) struct Findings {
    window_ns: i64,
    known: Keyed<FindingId, Severity>,
    windows: BTreeMap<(String, String), Window>,
}

impl Findings {
    pub(super) fn new(window: Duration) -> Self {
        let window_ns = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
        Self { window_ns, known: Keyed::new(KNOWN, KEEP), windows: BTreeMap::new() }
    }

    /// Takes a finding that passed the channel's filter.
    pub(super) fn add(&mut self, net: &str, finding: &StoredFinding, now_ns: i64) -> Option<Note> {
        let now = Timestamp(now_ns);
        let mut new = false;
        let severity = self.known.touch(&finding.finding, now, || {
            new = true;
            finding.severity
        });
        if !new && finding.severity <= *severity {
            return None;
        }
        *severity = finding.severity;
        let key = (net.to_owned(), finding.detector.clone());
        let full = self.windows.len() >= MAX_WINDOWS;
        match self.windows.get_mut(&key) {
            Some(window) if finding.severity <= window.worst_told => {
                window.waiting = window.waiting.saturating_add(1);
                if window.ids.len() < MAX_IDS {
                    window.ids.push(finding.finding.to_string());
                }
                if window.worst.as_ref().is_none_or(|(worst, _)| finding.severity > *worst) {
                    window.worst = Some((finding.severity, finding.clone()));
                }
                None
            }
            Some(window) => {
                window.worst_told = finding.severity;
                Some(note(net, finding, 1, vec![finding.finding.to_string()], now_ns))
            }
            None => {
                let ends_ns = now_ns.saturating_add(self.window_ns);
                let window = Window { ends_ns, worst_told: finding.severity, waiting: 0, worst: None, ids: Vec::new() };
                // Without room nothing is put together, and nothing is lost.
                if !full {
                    self.windows.insert(key, window);
                }
                Some(note(net, finding, 1, vec![finding.finding.to_string()], now_ns))
            }
        }
    }

    /// Windows that end: what waited is told, and the next one begins.
    pub(super) fn tick(&mut self, now_ns: i64) -> Vec<Note> {
        let window_ns = self.window_ns;
        let mut told = Vec::new();
        self.windows.retain(|(net, _), window| {
            if now_ns < window.ends_ns {
                return true;
            }
            let Some((severity, worst)) = window.worst.take() else { return false };
            told.push(note(net, &worst, window.waiting, std::mem::take(&mut window.ids), now_ns));
            *window = Window { ends_ns: now_ns.saturating_add(window_ns), worst_told: severity, waiting: 0, worst: None, ids: Vec::new() };
            true
        });
        while self.known.pop_due(Timestamp(now_ns)).is_some() {}
        told
    }
}

fn note(net: &str, finding: &StoredFinding, count: u64, ids: Vec<String>, now_ns: i64) -> Note {
    let mut note = Note::new(NoteKind::Finding, finding.severity, finding.detector.clone(), finding.summary.clone(), now_ns);
    note.net = (!net.is_empty()).then(|| net.to_owned());
    note.count = count;
    note.findings = ids;
    note.techniques = finding.techniques.clone();
    note.actor = finding.actor.map(|actor| actor.to_string());
    note
}

type Key = (&'static str, String);

/// Troubles told; the same for all channels.
#[derive(Default)]
pub(super) struct Troubles {
    /// Seen once.
    fresh: BTreeSet<Key>,
    /// Told, and in how many looks in a row it was not seen.
    told: BTreeMap<Key, (String, u8)>,
}

impl Troubles {
    /// Takes what the doctor sees now.
    pub(super) fn look(&mut self, troubles: &[Trouble], now_ns: i64) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut news: BTreeMap<&'static str, Vec<&Trouble>> = BTreeMap::new();
        let now: BTreeSet<Key> = troubles.iter().map(|trouble| (trouble.code, trouble.about.clone())).collect();
        for trouble in troubles {
            let key = (trouble.code, trouble.about.clone());
            if let Some(told) = self.told.get_mut(&key) {
                told.1 = 0;
            } else if self.fresh.contains(&key) {
                news.entry(trouble.code).or_default().push(trouble);
                self.told.insert(key, (trouble.what.clone(), 0));
            }
        }
        self.fresh = now.iter().filter(|key| !self.told.contains_key(key)).cloned().collect();
        for same in news.into_values() {
            let Some(first) = same.first() else { continue };
            let names: Vec<_> = same.iter().take(MAX_NAMES).map(|trouble| trouble.about.as_str()).collect();
            let mut note = Note::new(NoteKind::Trouble, first.severity(), names.join(", "), first.what.clone(), now_ns);
            note.remedy = Some(first.remedy.clone());
            note.count = same.len() as u64;
            notes.push(note);
        }
        self.told.retain(|key, (what, missed)| {
            if now.contains(key) {
                return true;
            }
            *missed = missed.saturating_add(1);
            if *missed < 2 {
                return true;
            }
            notes.push(Note::new(NoteKind::Cleared, Severity::Info, key.1.clone(), format!("over: {what}"), now_ns));
            false
        });
        notes
    }
}
