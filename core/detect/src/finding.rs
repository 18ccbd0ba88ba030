//! What a detector says: a judgement with its evidence.

use glasshive_event::{FindingId, FlowId, PacketScope, SessionId, Severity, Timestamp};
use serde::Serialize;
use std::net::IpAddr;

/// One measured fact behind a finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// What was measured.
    pub metric: &'static str,
    /// The value.
    pub value: f64,
    /// The value it had to reach.
    pub threshold: f64,
    /// Window it was measured over, in seconds; 0 when there is none.
    pub window_s: u64,
    /// Examples, at most [`Evidence::MAX_SAMPLES`], as the visitor sent them.
    pub samples: Vec<String>,
}

impl Evidence {
    /// Examples kept of one metric.
    pub const MAX_SAMPLES: usize = 32;
}

/// One judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Time of the observation that made it.
    pub at: Timestamp,
    /// Time of the earliest evidence.
    pub first: Timestamp,
    /// Same key, same matter: a later finding with it updates the earlier one.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// How sure, 0 to 100.
    pub confidence: u8,
    /// Techniques, primary for the net's vantage first.
    pub techniques: Vec<&'static str>,
    /// Use cases.
    pub use_cases: Vec<&'static str>,
    /// Who did it.
    pub actor: Option<IpAddr>,
    /// To whom.
    pub target: Option<IpAddr>,
    /// The reason in one sentence, without visitor bytes.
    pub summary: String,
    /// Why.
    pub evidence: Vec<Evidence>,
    /// Sessions it rests on, at most [`Finding::MAX_SESSIONS`].
    pub sessions: Vec<SessionId>,
    /// Flows it rests on, at most [`Finding::MAX_FLOWS`].
    pub flows: Vec<FlowId>,
    /// How many flows it rests on in all.
    pub flow_count: u64,
    /// The packets that show it: what an export of this finding carves, and what its tshark line shows.
    pub scope: PacketScope,
}

impl Finding {
    /// Sessions kept of one finding.
    pub const MAX_SESSIONS: usize = 64;
    /// Flows kept of one finding.
    pub const MAX_FLOWS: usize = 64;
    /// Parts of the packet selection kept of one finding.
    pub const MAX_MATCHES: usize = 64;

    /// Its id: the same from live capture and from the exported file.
    pub fn id(&self, detector: &super::DetectorDef) -> FindingId {
        FindingId::derive(detector.name, detector.version, &self.key, self.first)
    }
}

/// Where detectors put findings: bounded, and what does not fit is counted.
#[derive(Debug)]
pub struct Findings {
    list: Vec<Finding>,
    room: usize,
    dropped: u64,
}

impl Findings {
    /// Holds at most `room` findings between two [`Self::drain`].
    pub fn new(room: usize) -> Self {
        Self { list: Vec::new(), room, dropped: 0 }
    }

    /// Adds one, with its evidence cut to the bounds.
    pub fn push(&mut self, mut finding: Finding) {
        if self.list.len() >= self.room {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        finding.sessions.truncate(Finding::MAX_SESSIONS);
        finding.flows.truncate(Finding::MAX_FLOWS);
        finding.scope.0.truncate(Finding::MAX_MATCHES);
        finding.confidence = finding.confidence.min(100);
        finding.evidence.iter_mut().for_each(|evidence| evidence.samples.truncate(Evidence::MAX_SAMPLES));
        self.list.push(finding);
    }

    /// Takes all out, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Finding> + '_ {
        self.list.drain(..)
    }

    /// Findings waiting.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Findings that did not fit, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_counted() {
        let evidence = Evidence { metric: "ports", value: 9.0, threshold: 5.0, window_s: 60, samples: vec!["22".into(); 100] };
        let finding = Finding {
            at: Timestamp(2),
            first: Timestamp(1),
            key: "k".into(),
            severity: Severity::High,
            confidence: 255,
            techniques: vec!["T1595"],
            use_cases: vec![],
            actor: None,
            target: None,
            summary: "s".into(),
            evidence: vec![evidence],
            sessions: vec![SessionId([0; 16]); 100],
            flows: vec![FlowId([0; 16]); 100],
            flow_count: 100,
            scope: PacketScope::default(),
        };
        let mut findings = Findings::new(2);
        (0..5).for_each(|_| findings.push(finding.clone()));
        assert_eq!((findings.len(), findings.dropped()), (2, 3));
        let kept: Vec<Finding> = findings.drain().collect();
        assert_eq!((kept[0].sessions.len(), kept[0].evidence[0].samples.len(), kept[0].confidence), (64, 32, 100));
        assert!(findings.is_empty() && Severity::Critical > Severity::High);
    }
}
