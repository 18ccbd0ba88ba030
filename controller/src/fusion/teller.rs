//! Writes findings into the controller's own log, each once.
//!
//! A finding is known by its id. One that was told and says nothing newer is not written again; one
//! of the same matter (detector, net, key) that overlaps in time with a told one takes its id, so that
//! a detector that was started in the middle does not double it.

use super::Status;
use crate::desk::{self, Desk};
use crate::fail::Failure;
use glasshive_detect::window::Keyed;
use glasshive_detect::{DetectorDef, Finding};
use glasshive_event::{Envelope, FindingId, Kind, StoredFinding, Timestamp};
use glasshive_journal::store::{Cursor, FindingQuery, FindingRow, Lookup, StoreHandle};
use std::sync::Arc;
use std::time::Duration;

/// Matters and ids remembered.
const KNOWN: usize = 65_536;
/// How long.
const KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Findings read back at the start.
const READ_BACK: usize = 20_000;

type Matter = (String, String, String);

#[derive(Clone, Copy, Debug)]
struct Known {
    id: FindingId,
    first: Timestamp,
    at: Timestamp,
}

/// A finding waiting to be written.
pub(super) struct Untold {
    pub(super) net: String,
    pub(super) def: &'static DetectorDef,
    pub(super) finding: Finding,
    pub(super) late: bool,
}

/// The writer of findings.
pub(super) struct Teller {
    store: StoreHandle,
    desk: Arc<Desk>,
    matters: Keyed<Matter, Known>,
    ids: Keyed<FindingId, Timestamp>,
}

impl Teller {
    /// Reads back what was told since `since_ns`.
    pub(super) async fn open(store: StoreHandle, desk: Arc<Desk>, since_ns: i64) -> Result<Self, Failure> {
        let mut teller = Self { store, desk, matters: Keyed::new(KNOWN, KEEP), ids: Keyed::new(KNOWN, KEEP) };
        let mut query = FindingQuery { since: Some(since_ns), node: Some(desk::NODE.to_owned()), limit: 1_000, ..FindingQuery::default() };
        let mut rows: Vec<FindingRow> = Vec::new();
        loop {
            let page = teller.store.findings(query.clone()).await?;
            rows.extend(page.rows);
            match page.next {
                Some(Cursor(next)) if rows.len() < READ_BACK => query.cursor = Some(Cursor(next)),
                _ => break,
            }
        }
        // Oldest first, so that of one matter the newest stands.
        for row in rows.into_iter().rev() {
            let known = Known { id: row.finding, first: Timestamp(row.first_ns), at: Timestamp(row.at_ns) };
            teller.know((row.detector, row.net, row.key), known);
        }
        Ok(teller)
    }

    /// Writes a finding, durably, unless it was told before.
    pub(super) async fn tell(&mut self, untold: &Untold, status: &mut Status) -> Result<(), Failure> {
        let mut finding = untold.finding.clone().stored(untold.def);
        finding.late = untold.late;
        let matter = (finding.detector.clone(), untold.net.clone(), finding.key.clone());
        if let Some(known) = self.matters.get(&matter)
            && known.first < finding.first
            && finding.first <= known.at
        {
            (finding.finding, finding.first) = (known.id, known.first);
        }
        let known = match self.ids.get(&finding.finding) {
            Some(at) => Some(*at),
            None => self.stored(&finding.finding).await?,
        };
        if known.is_some_and(|at| finding.at <= at) {
            status.repeated = status.repeated.saturating_add(1);
            return Ok(());
        }
        let envelope = Envelope { kind: Kind::Finding.number(), ..Envelope::default() };
        self.desk.record(&untold.net, &envelope, &finding).await?;
        tracing::info!(detector = untold.def.name, net = untold.net, severity = %finding.severity, finding = %finding.finding, "finding");
        if known.is_some() {
            status.updated = status.updated.saturating_add(1);
        } else {
            status.told = status.told.saturating_add(1);
            status.told_late = status.told_late.saturating_add(u64::from(finding.late));
        }
        self.remember(matter, &finding);
        Ok(())
    }

    /// When a finding of that id was told last, by the summary. It may be of before the last start.
    async fn stored(&self, id: &FindingId) -> Result<Option<Timestamp>, Failure> {
        Ok(match self.store.finding(&id.to_string()).await? {
            Lookup::Found(row) => Some(Timestamp(row.at_ns)),
            _ => None,
        })
    }

    fn remember(&mut self, matter: Matter, finding: &StoredFinding) {
        self.know(matter, Known { id: finding.finding, first: finding.first, at: finding.at });
    }

    fn know(&mut self, matter: Matter, known: Known) {
        let now = known.at;
        let at = self.ids.touch(&known.id, now, || known.at);
        *at = known.at.max(*at);
        let slot = self.matters.touch(&matter, now, || known);
        if (known.first, known.at) >= (slot.first, slot.at) {
            *slot = known;
        }
    }
}
