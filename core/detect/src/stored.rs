//! A finding as it is stored: the detail of a `finding` event, from either site.

use crate::{DetectorDef, Evidence, Finding};
use glasshive_event::StoredFinding;
use glasshive_event::finding::StoredEvidence;

impl Finding {
    /// The detail of its event: with its id and its detector, and cut so that it fits a record.
    pub fn stored(self, detector: &DetectorDef) -> StoredFinding {
        let finding = self.id(detector);
        let owned = |names: Vec<&'static str>| names.into_iter().map(str::to_owned).collect();
        StoredFinding {
            finding,
            detector: detector.name.to_owned(),
            version: detector.version,
            at: self.at,
            first: self.first,
            key: self.key,
            severity: self.severity,
            confidence: self.confidence,
            techniques: owned(self.techniques),
            use_cases: owned(self.use_cases),
            actor: self.actor,
            target: self.target,
            summary: self.summary,
            evidence: self.evidence.into_iter().map(evidence).collect(),
            sessions: self.sessions,
            flows: self.flows,
            flow_count: self.flow_count,
            scope: self.scope,
            late: false,
            cut: 0,
        }
        .fit()
    }
}

fn evidence(from: Evidence) -> StoredEvidence {
    let Evidence { metric, value, threshold, window_s, samples } = from;
    StoredEvidence { metric: metric.to_owned(), value, threshold, window_s, samples }
}
