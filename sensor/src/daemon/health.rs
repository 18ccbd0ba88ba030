//! What the daemon records about itself: start, stop, heartbeats, losses, finished segments.

use super::analyse::Seen;
use crate::capture::{Cause, Counters};
use crate::ring::{LossSpan, Recovered, RingDir, RingWatch};
use glasshive_daemon::clock::{StepDetector, SystemClock, mono_ns, wall_ns};
use glasshive_daemon::lockdown::Report;
use glasshive_event::detail::{Gap, Health as HealthDetail, Loss};
use glasshive_event::{Body, Envelope, Kind};
use glasshive_journal::{JournalHandle, OpenReport, Pending};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time between looks at losses and new segments.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between heartbeats: the controller's watermark goes on with them.
const BEAT: u64 = 5;
/// Looks before a link without packets is called idle.
const IDLE: u64 = 60;

/// Writes the daemon's own events.
#[derive(Clone)]
pub(super) struct Health {
    journal: JournalHandle,
    counters: Arc<Counters>,
}

impl Health {
    pub(super) fn new(journal: JournalHandle, counters: Arc<Counters>) -> Self {
        Self { journal, counters }
    }

    async fn write<D: Serialize + Sync>(&self, kind: Kind, detail: &D) {
        let envelope = Envelope { kind: kind.number(), ..Envelope::default() };
        match Body::encode(&envelope, detail) {
            Ok(body) => {
                let pending = Pending { wall_ns: wall_ns(), mono_ns: mono_ns(), body };
                if self.journal.append_reserved(pending).await.is_err() {
                    tracing::error!("the journal is closed; a record about this daemon is lost");
                }
            }
            Err(error) => tracing::error!(%error, "a record about this daemon could not be encoded"),
        }
    }

    async fn health(&self, what: &str, message: String, fields: Map<String, Value>) {
        self.write(Kind::Health, &HealthDetail { what: what.to_owned(), message, fields }).await;
    }

    /// After an unclean stop: gaps, and what the ring lost by it (its bytes come as a loss).
    pub(super) async fn recovered(&self, opened: &OpenReport, ring: &Recovered) {
        for lost in &opened.lost {
            let gap = Gap { from: Some(lost.from), to: Some(lost.to), log: Some(lost.log.to_string()), why: lost.why.clone() };
            self.write(Kind::Gap, &gap).await;
        }
        if !opened.clean && !opened.was_new {
            let what = opened.replaced.as_ref().map_or_else(|| "unclean stop".to_owned(), |why| format!("a new log is begun: {why}"));
            let why = format!("{what}: flows under way then have no last record");
            self.write(Kind::Gap, &Gap { why, ..Gap::default() }).await;
        }
        for path in &opened.quarantined {
            tracing::error!(path = %path.display(), "a damaged part of the journal was put aside; look at it, then delete it");
        }
        if let Some(words) = super::recovery(ring) {
            tracing::warn!("{words}");
            self.health("ring", words, Map::new()).await;
        }
    }

    pub(super) async fn started(&self, node: &str, net: Option<&str>, interface: &str, linked: bool, report: &Report) {
        let mut fields = Map::new();
        fields.insert("version".into(), glasshive_journal::build::version().into());
        fields.insert("schema".into(), glasshive_journal::build::schema().into());
        fields.insert("net".into(), net.into());
        fields.insert("interface".into(), interface.into());
        fields.insert("linked".into(), linked.into());
        fields.insert("lockdown".into(), serde_json::to_value(report).unwrap_or_default());
        self.health("start", format!("{node} captures"), fields).await;
    }

    pub(super) async fn stopped(&self, ring: &RingWatch) {
        self.losses(ring.losses().take()).await;
        self.segments(ring.dir()).await;
        self.health("stop", "told to stop".into(), self.counts()).await;
    }

    /// Losses every second, heartbeats every few, finished segments with their hash, until the daemon stops.
    pub(super) async fn beat(self, seen: Seen, ring: RingWatch, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        let mut steps = StepDetector::new(Duration::from_millis(500));
        let (mut looks, mut quiet, mut before, mut errors) = (0u64, 0u64, 0, 0);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Some(step) = steps.sample(&SystemClock) {
                let fields = Map::from_iter([("step_ns".to_owned(), step.into())]);
                self.health("clock_step", format!("the wall clock was moved by {} ms", step / 1_000_000), fields).await;
            }
            self.losses(ring.losses().take()).await;
            self.segments(ring.dir()).await;
            let now = self.counters.snapshot();
            if now.capture_errors > errors && looks.is_multiple_of(IDLE) {
                let words = format!("the interface gave no packets {} times; it is tried again", now.capture_errors - errors);
                errors = now.capture_errors;
                self.health("listener", words, Map::new()).await;
            }
            let captured = now.captured;
            quiet = if captured == before { quiet + 1 } else { 0 };
            before = captured;
            if looks.is_multiple_of(BEAT) {
                let mut fields = self.counts();
                let counts = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                fields.insert("analysis".into(), serde_json::to_value(counts).unwrap_or_default());
                fields.insert("ring".into(), serde_json::to_value(ring.standing()).unwrap_or_default());
                let words = if quiet >= IDLE { "idle: no packets come" } else { "alive" };
                self.health("heartbeat", words.into(), fields).await;
            }
            looks += 1;
        }
    }

    async fn losses(&self, lost: Vec<(Cause, LossSpan)>) {
        for (cause, span) in lost {
            tracing::warn!(cause = cause.name(), count = span.count, bytes = span.bytes, "{}", cause.why());
            let LossSpan { from, to, cause: place, count, bytes } = span;
            let loss = Loss { place, count, bytes, why: cause.why().to_owned(), since: Some(from), until: Some(to) };
            self.write(Kind::Loss, &loss).await;
        }
    }

    /// The hash of every segment that was read through, so that the log vouches for the packets.
    async fn segments(&self, ring: &RingDir) {
        let told = ring.told();
        for segment in ring.segments().unwrap_or_default() {
            if told.is_some_and(|last| segment.serial <= last) || segment.hidden {
                continue;
            }
            // In order: a later one waits for the one before.
            let Some(meta) = ring.meta(segment.serial) else { return };
            let message = format!("segment {:020}.pcapng: {} packets", meta.segment, meta.packets);
            if let Ok(Value::Object(fields)) = serde_json::to_value(&meta) {
                self.health("segment", message, fields).await;
            }
            // On a full disk it is told again: twice is better than not at all.
            let _ = ring.set_told(segment.serial);
        }
    }

    fn counts(&self) -> Map<String, Value> {
        match serde_json::to_value(self.counters.snapshot()) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }
}
