//! What the daemon records about itself: start, stop, heartbeats, clock steps, losses, and what an
//! unclean stop left open.

use crate::listener::{Counts, Entry};
use crate::recorder::Clock;
use glasshive_daemon::lockdown::Report;
use glasshive_event::detail::{Gap, Health as HealthDetail, Loss, SessionClose};
use glasshive_event::{Body, Envelope, Kind};
use glasshive_journal::{JournalHandle, OpenReport, Pending, build};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time between heartbeats; losses and clock steps are looked at in the same rhythm.
const BEAT: Duration = Duration::from_secs(10);
/// Wall clock against monotonic clock: more is a step.
const STEP_NS: i64 = 500_000_000;

/// Writes the daemon's own events.
#[derive(Clone)]
pub(super) struct Health {
    journal: JournalHandle,
    clock: Arc<dyn Clock>,
    /// Losses already written, by place.
    reported: Arc<Mutex<HashMap<&'static str, u64>>>,
    /// How the wall stands, when one is looked for.
    wall: Option<super::wall::Standing>,
}

impl Health {
    pub(super) fn new(journal: JournalHandle, clock: Arc<dyn Clock>, wall: Option<super::wall::Standing>) -> Self {
        Self { journal, clock, reported: Arc::default(), wall }
    }

    /// Writes one record in the daemon's own name; waits for room in the journal.
    pub(super) async fn write<D: Serialize + Sync>(&self, envelope: Envelope, detail: &D) {
        match Body::encode(&envelope, detail) {
            Ok(body) => {
                let pending = Pending { wall_ns: self.clock.wall_ns(), mono_ns: self.clock.mono_ns(), body };
                if self.journal.append_reserved(pending).await.is_err() {
                    tracing::error!("the journal is closed; a record about this daemon is lost");
                }
            }
            Err(error) => tracing::error!(%error, "a record about this daemon could not be encoded"),
        }
    }

    fn kind(kind: Kind) -> Envelope {
        Envelope { kind: kind.number(), ..Envelope::default() }
    }

    /// Wall and monotonic time, nanoseconds.
    pub(super) fn now(&self) -> (i64, u64) {
        (self.clock.wall_ns(), self.clock.mono_ns())
    }

    pub(super) async fn health(&self, what: &str, message: String, fields: serde_json::Map<String, serde_json::Value>) {
        self.write(Self::kind(Kind::Health), &HealthDetail { what: what.to_owned(), message, fields }).await;
    }

    /// After an unclean stop: a gap, and a close for every session that was open.
    pub(super) async fn recovered(&self, opened: &OpenReport) {
        for lost in &opened.lost {
            let gap = Gap { from: Some(lost.from), to: Some(lost.to), log: Some(lost.log.to_string()), why: lost.why.clone() };
            self.write(Self::kind(Kind::Gap), &gap).await;
        }
        if !opened.clean && !opened.was_new {
            let what = opened.replaced.as_ref().map_or_else(|| "unclean stop".to_owned(), |why| format!("a new log is begun: {why}"));
            let why = format!("{what}; {} sessions were open", opened.open_sessions.len());
            self.write(Self::kind(Kind::Gap), &Gap { why, ..Gap::default() }).await;
        }
        for path in &opened.quarantined {
            tracing::error!(path = %path.display(), "a damaged part of the journal was put aside; look at it, then delete it");
        }
        for open in &opened.open_sessions {
            let envelope = Envelope { kind: Kind::SessionClose.number(), ..open.envelope.clone() };
            self.write(envelope, &SessionClose { reason: "node_crash".into(), ..SessionClose::default() }).await;
        }
    }

    pub(super) async fn started(&self, node: &str, net: &str, transparent: bool, linked: bool, report: &Report) {
        let mut fields = serde_json::Map::new();
        fields.insert("version".into(), build::version().into());
        fields.insert("schema".into(), build::schema().into());
        fields.insert("net".into(), net.into());
        fields.insert("entry".into(), if transparent { "tproxy" } else { "plain" }.into());
        fields.insert("linked".into(), linked.into());
        fields.insert("lockdown".into(), serde_json::to_value(report).unwrap_or_default());
        self.health("start", format!("{node} serves"), fields).await;
    }

    pub(super) async fn stopped(&self, entry: &Entry) {
        self.losses(&entry.counts).await;
        self.health("stop", "told to stop".into(), counts(&entry.counts)).await;
    }

    /// Heartbeats until the daemon stops.
    pub(super) async fn heartbeat(self, entry: Arc<Entry>, cancel: CancellationToken) {
        let offset = || self.clock.wall_ns().saturating_sub(i64::try_from(self.clock.mono_ns()).unwrap_or(i64::MAX));
        let mut before = offset();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.tick().await;
        let mut beats = 0u64;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = offset();
            let step = now.saturating_sub(before);
            if step.abs() > STEP_NS {
                let mut fields = serde_json::Map::new();
                fields.insert("step_ns".into(), step.into());
                self.health("clock_step", format!("the wall clock was moved by {} ms", step / 1_000_000), fields).await;
            }
            before = now;
            self.losses(&entry.counts).await;
            beats += 1;
            // Once a minute is enough for the record; the other beats only look for trouble.
            if beats % 6 == 1 {
                let mut fields = counts(&entry.counts);
                // A pause is told by the journal itself; this record would come after it.
                if let glasshive_journal::Pressure::Crowded { why } = &*self.journal.pressure().borrow() {
                    fields.insert("paused".to_owned(), why.to_string().into());
                }
                if let Some(wall) = &self.wall {
                    let stands = wall.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    fields.insert("wall".to_owned(), stands.into());
                }
                self.health("heartbeat", "alive".into(), fields).await;
                let _ = tokio::task::spawn_blocking(glasshive_daemon::memory::trim).await;
            }
        }
    }

    /// Writes a `loss` for every counter that grew.
    async fn losses(&self, counts: &Counts) {
        let places: [(&'static str, &AtomicU64, &str); 3] = [
            ("udp_queue", &counts.datagrams_dropped, "first datagrams came faster than the journal could take them"),
            ("udp_session", &counts.datagrams_skipped, "a datagram session did not read as fast as its visitor sent"),
            ("accept", &counts.unrecorded, "connections were accepted while the journal was closing"),
        ];
        for (place, counter, why) in places {
            let now = counter.load(Ordering::Relaxed);
            let before = self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(place, now).unwrap_or(0);
            if now > before {
                let loss = Loss { place: place.to_owned(), count: now - before, why: why.to_owned(), ..Loss::default() };
                self.write(Self::kind(Kind::Loss), &loss).await;
            }
        }
    }
}

fn counts(counts: &Counts) -> serde_json::Map<String, serde_json::Value> {
    let get = |counter: &AtomicU64| serde_json::Value::from(counter.load(Ordering::Relaxed));
    [
        ("accepted", get(&counts.accepted)),
        ("datagram_sessions", get(&counts.datagram_sessions)),
        ("datagrams_dropped", get(&counts.datagrams_dropped)),
        ("datagrams_skipped", get(&counts.datagrams_skipped)),
        ("over_source", get(&counts.over_source)),
        ("unrecorded", get(&counts.unrecorded)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
