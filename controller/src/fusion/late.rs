//! Records that came after their time had been looked at, until a second pass looks at them.

use glasshive_detect::Finding;
use glasshive_event::observation::Observation;
use glasshive_event::{FlowId, SessionId};
use std::collections::HashSet;
use std::net::IpAddr;

/// Ids and addresses remembered of one net's late records; with more, every finding is told.
const MOST: usize = 65_536;
/// Wait this long for more before a pass.
const QUIET_NS: i64 = 2_000_000_000;
/// But not longer than this; and this long between two passes of a net.
const PATIENCE_NS: i64 = 30_000_000_000;

/// The late records of one net.
#[derive(Debug)]
pub(super) struct Late {
    /// Time of the earliest and of the last.
    pub(super) low: i64,
    pub(super) high: i64,
    /// When the first and the newest came.
    first_came: i64,
    last_came: i64,
    sessions: HashSet<SessionId>,
    flows: HashSet<FlowId>,
    hosts: HashSet<IpAddr>,
    /// What they were about is not known (any more).
    any: bool,
}

impl Late {
    /// Begins with the time of one record.
    pub(super) fn new(at: i64, now: i64) -> Self {
        Self {
            low: at,
            high: at,
            first_came: now,
            last_came: now,
            sessions: HashSet::new(),
            flows: HashSet::new(),
            hosts: HashSet::new(),
            any: false,
        }
    }

    /// As a checkpoint remembers it: the times only.
    pub(super) fn remembered(low: i64, high: i64) -> Self {
        Self { high, any: true, ..Self::new(low, 0) }
    }

    /// One more.
    pub(super) fn add(&mut self, at: i64, now: i64, seen: &Observation) {
        self.low = self.low.min(at);
        self.high = self.high.max(at);
        self.last_came = now;
        if self.sessions.len().max(self.flows.len()).max(self.hosts.len()) >= MOST {
            self.any = true;
            return;
        }
        self.sessions.extend(seen.session);
        self.flows.extend(seen.flow);
        self.hosts.extend(seen.wire.iter().flat_map(|wire| [wire.source.ip, wire.destination.ip]));
    }

    /// Whether it is time for the pass.
    pub(super) fn is_due(&self, now: i64, last_pass: Option<i64>) -> bool {
        let rested = last_pass.is_none_or(|last| now.saturating_sub(last) >= PATIENCE_NS);
        rested && (now.saturating_sub(self.last_came) >= QUIET_NS || now.saturating_sub(self.first_came) >= PATIENCE_NS)
    }

    /// Whether a finding of the second pass has to do with them. Others were found, or not, by the
    /// first pass, which knew more of what came before.
    pub(super) fn touches(&self, finding: &Finding) -> bool {
        if finding.at.0 < self.low {
            return false;
        }
        self.any
            || finding.sessions.iter().any(|session| self.sessions.contains(session))
            || finding.flows.iter().any(|flow| self.flows.contains(flow))
            || [finding.actor, finding.target].iter().flatten().any(|host| self.hosts.contains(host))
    }
}
