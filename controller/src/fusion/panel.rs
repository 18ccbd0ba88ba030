//! The detectors of one net: fed in the order of time, with a tick at every whole second between.

use super::Settings;
use glasshive_detect::{Detector, DetectorDef, Finding, Findings};
use glasshive_event::Timestamp;
use glasshive_event::observation::Observation;
use std::collections::BTreeMap;

/// Findings of one detector between two turns.
const ROOM: usize = 1_024;
/// A pause longer than this is passed over with one tick.
const MAX_TICKS: i64 = 600;
const SECOND_NS: i64 = 1_000_000_000;

struct Seat {
    def: &'static DetectorDef,
    detector: Box<dyn Detector>,
    out: Findings,
}

/// The detectors of one net.
pub(super) struct Panel {
    seats: Vec<Seat>,
    /// Last second ticked.
    ticked: Option<i64>,
    /// What the panel before this one counted.
    dropped: u64,
    unknowable: u64,
    evicted: BTreeMap<&'static str, u64>,
}

impl Panel {
    /// Builds every detector of the table; one whose settings cannot be used is left out (the
    /// configuration was checked at the start).
    pub(super) fn new(defs: &[&'static DetectorDef], settings: &Settings, net: &str) -> Self {
        let mut seats = Vec::new();
        for def in defs {
            match settings.build(def, net) {
                Ok(detector) => seats.push(Seat { def, detector, out: Findings::new(ROOM) }),
                Err(error) => tracing::error!(%error, net, "detector not built"),
            }
        }
        Self { seats, ticked: None, dropped: 0, unknowable: 0, evicted: BTreeMap::new() }
    }

    /// Takes the place of another panel: goes on with its counts.
    pub(super) fn replaces(&mut self, other: &Self) {
        self.dropped = self.dropped.saturating_add(other.dropped());
        self.unknowable = self.unknowable.saturating_add(other.unknowable());
        for (name, count) in other.evicted() {
            let sum = self.evicted.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// One observation, after the ticks of the seconds before it.
    pub(super) fn observe(&mut self, observation: &Observation) {
        self.tick_to(observation.at.0);
        for seat in &mut self.seats {
            seat.detector.observe(observation, &mut seat.out);
        }
    }

    /// Everything before `ns` was seen.
    pub(super) fn tick_to(&mut self, ns: i64) {
        let second = ns.div_euclid(SECOND_NS);
        let from = match self.ticked {
            None => second,
            Some(ticked) if second <= ticked => return,
            Some(ticked) if second.saturating_sub(ticked) > MAX_TICKS => second,
            Some(ticked) => ticked.saturating_add(1),
        };
        for tick in from..=second {
            let now = Timestamp(tick.saturating_mul(SECOND_NS));
            for seat in &mut self.seats {
                seat.detector.tick(now, &mut seat.out);
            }
        }
        self.ticked = Some(second);
    }

    /// What was found since the last time.
    pub(super) fn drain(&mut self) -> Vec<(&'static DetectorDef, Finding)> {
        self.seats.iter_mut().flat_map(|seat| seat.out.drain().map(|finding| (seat.def, finding)).collect::<Vec<_>>()).collect()
    }

    /// Whether a detector found something.
    pub(super) fn has_findings(&self) -> bool {
        self.seats.iter().any(|seat| !seat.out.is_empty())
    }

    /// Findings that did not fit.
    pub(super) fn dropped(&self) -> u64 {
        self.seats.iter().fold(self.dropped, |sum, seat| sum.saturating_add(seat.out.dropped()))
    }

    /// Matters nobody can judge.
    pub(super) fn unknowable(&self) -> u64 {
        self.seats.iter().fold(self.unknowable, |sum, seat| sum.saturating_add(seat.detector.unknowable()))
    }

    /// Keys forgotten for want of room, by detector.
    pub(super) fn evicted(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.evicted.clone();
        for seat in &self.seats {
            let sum = all.entry(seat.def.name).or_default();
            *sum = sum.saturating_add(seat.detector.evicted());
        }
        all
    }
}
