//! A finding as it is stored: a detector's judgement with its evidence, bounded so that it always
//! fits a record.

use crate::id::{FindingId, FlowId, SessionId};
use crate::scope::{PacketMatch, PacketScope};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    #[default]
    Info,
    /// Seen everywhere.
    Low,
    /// Someone tries.
    Medium,
    /// Someone gets somewhere.
    High,
    /// Someone is in.
    Critical,
}

impl Severity {
    /// All, the mildest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
impl FromStr for Severity {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|severity| severity.name() == text).ok_or_else(|| format!("no such severity; there are {}", names()))
    }
}

/// One measured fact behind a finding.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredEvidence {
    /// What was measured.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// The value it had to reach.
    pub threshold: f64,
    /// Window it was measured over, in seconds; 0 when there is none.
    pub window_s: u64,
    /// Examples, as the visitor sent them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
}

/// One judgement, owned: the detail of a `finding` event, whichever site made it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StoredFinding {
    /// Finding id; a later record with it updates this one.
    pub finding: FindingId,
    /// Detector.
    #[serde(default)]
    pub detector: String,
    /// Version of the detector.
    #[serde(default)]
    pub version: u16,
    /// Time of the observation that made it.
    pub at: Timestamp,
    /// Time of the earliest evidence.
    pub first: Timestamp,
    /// Same key, same matter.
    #[serde(default)]
    pub key: String,
    /// How bad.
    #[serde(default)]
    pub severity: Severity,
    /// How sure, 0 to 100.
    #[serde(default)]
    pub confidence: u8,
    /// Techniques, primary for the net's vantage first.
    #[serde(default)]
    pub techniques: Vec<String>,
    /// Use cases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub use_cases: Vec<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<IpAddr>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<IpAddr>,
    /// The reason in one sentence.
    #[serde(default)]
    pub summary: String,
    /// Why.
    #[serde(default)]
    pub evidence: Vec<StoredEvidence>,
    /// Sessions it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionId>,
    /// Flows it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<FlowId>,
    /// How many flows it rests on in all.
    #[serde(default)]
    pub flow_count: u64,
    /// The packets that show it.
    #[serde(default)]
    pub scope: PacketScope,
    /// Found in the second pass: records it rests on came after their time had been looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// Samples, flows, sessions and packet matches left out or widened so that it fits a record.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl StoredFinding {
    /// Bytes of JSON a finding may take: a record's body less room for the envelope.
    pub const MAX_JSON: usize = 15 * 1024;

    /// Cuts what makes it too large for a record, the least telling first. Packet matches are never
    /// dropped but widened (to pairs of hosts, then to the actor), so that what is carved for it still
    /// holds all its packets.
    #[must_use]
    pub fn fit(mut self) -> Self {
        self.clip();
        let steps: [fn(&mut Self); 9] = [
            |f| f.samples(8),
            Self::pairs,
            |f| f.samples(3),
            |f| f.lists(16),
            Self::hosts,
            |f| f.lists(4),
            |f| f.samples(0),
            |f| f.evidence.truncate(8),
            |f| f.summary.clear(),
        ];
        for step in steps {
            if self.json_len() <= Self::MAX_JSON {
                break;
            }
            step(&mut self);
        }
        self
    }

    fn json_len(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len())
    }

    /// Every text and list within a bound of its own.
    fn clip(&mut self) {
        clip(&mut self.detector, 64);
        clip(&mut self.key, 512);
        clip(&mut self.summary, 512);
        for names in [&mut self.techniques, &mut self.use_cases] {
            names.truncate(16);
            names.iter_mut().for_each(|name| clip(name, 32));
        }
        self.evidence.truncate(32);
        for evidence in &mut self.evidence {
            clip(&mut evidence.metric, 64);
            // JSON has no other numbers; one of these would make the record unreadable.
            for number in [&mut evidence.value, &mut evidence.threshold] {
                if !number.is_finite() {
                    *number = 0.0;
                }
            }
            evidence.samples.iter_mut().for_each(|sample| clip(sample, 256));
        }
        self.samples(32);
        self.lists(64);
        if self.scope.0.len() > 64 {
            self.pairs();
        }
    }

    fn samples(&mut self, most: usize) {
        for evidence in &mut self.evidence {
            let over = evidence.samples.len().saturating_sub(most);
            evidence.samples.truncate(most);
            self.cut = self.cut.saturating_add(over as u64);
        }
    }

    fn lists(&mut self, most: usize) {
        let over = self.sessions.len().saturating_sub(most).saturating_add(self.flows.len().saturating_sub(most));
        self.sessions.truncate(most);
        self.flows.truncate(most);
        self.cut = self.cut.saturating_add(over as u64);
    }

    /// One match a pair of hosts, over all ports and the whole time.
    fn pairs(&mut self) {
        self.widen(|one| (one.a, one.b));
    }

    /// One match: everything of the actor, or of the first host named, over the whole time.
    fn hosts(&mut self) {
        let host = self.actor.or_else(|| self.scope.0.iter().find_map(|one| one.a.or(one.b)));
        self.widen(|_| (host, None));
    }

    fn widen(&mut self, ends: impl Fn(&PacketMatch) -> (Option<IpAddr>, Option<IpAddr>)) {
        let mut wide: BTreeMap<(Option<IpAddr>, Option<IpAddr>, bool), PacketMatch> = BTreeMap::new();
        let before = self.scope.0.len();
        for one in self.scope.0.drain(..) {
            let (a, b) = ends(&one);
            let slot = wide.entry((a, b, one.arp)).or_insert_with(|| PacketMatch {
                a,
                b,
                arp: one.arp,
                since: one.since,
                until: one.until,
                ..PacketMatch::default()
            });
            slot.since = slot.since.zip(one.since).map(|(a, b)| a.min(b));
            slot.until = slot.until.zip(one.until).map(|(a, b)| a.max(b));
        }
        self.scope.0.extend(wide.into_values());
        self.cut = self.cut.saturating_add(before.saturating_sub(self.scope.0.len()) as u64);
    }
}

/// The first `most` bytes of a text, at a character's end.
fn clip(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::{Endpoint, Tuple};
    use proptest::prelude::*;

    fn sample() -> StoredFinding {
        let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
        let wire = Tuple { source: end("192.0.2.7:40001"), destination: end("10.0.0.5:22") };
        StoredFinding {
            finding: FindingId([0x11; 16]),
            detector: "remote_service".into(),
            version: 2,
            at: Timestamp(1_700_000_000_000_000_002),
            first: Timestamp(1_700_000_000_000_000_001),
            key: "192.0.2.7 ssh".into(),
            severity: Severity::High,
            confidence: 90,
            techniques: vec!["T1021.004".into(), "T1110.001".into()],
            use_cases: vec!["DUC0159".into()],
            actor: Some("192.0.2.7".parse().unwrap()),
            target: Some("10.0.0.5".parse().unwrap()),
            summary: "30 failed logins in 5 minutes".into(),
            evidence: vec![StoredEvidence {
                metric: "failed_logins".into(),
                value: 30.0,
                threshold: 5.0,
                window_s: 300,
                samples: vec!["root".into(), "ad\u{1b}min".into()],
            }],
            sessions: vec![SessionId([0x22; 16])],
            flows: vec![FlowId([0x33; 16])],
            flow_count: 31,
            scope: PacketScope(vec![PacketMatch::tuple(6, wire, Timestamp(1), Timestamp(2))]),
            late: false,
            cut: 0,
        }
    }

    /// Golden vector of the detail: names and forms are what other programs read.
    #[test]
    fn golden() {
        let json = serde_json::to_string(&sample()).unwrap();
        let expected = concat!(
            r#"{"finding":"11111111-1111-1111-1111-111111111111","detector":"remote_service","version":2,"#,
            r#""at":1700000000000000002,"first":1700000000000000001,"key":"192.0.2.7 ssh","severity":"high","confidence":90,"#,
            r#""techniques":["T1021.004","T1110.001"],"use_cases":["DUC0159"],"actor":"192.0.2.7","target":"10.0.0.5","#,
            r#""summary":"30 failed logins in 5 minutes","evidence":[{"metric":"failed_logins","value":30.0,"threshold":5.0,"#,
            r#""window_s":300,"samples":["root","ad\u001bmin"]}],"sessions":["22222222-2222-2222-2222-222222222222"],"#,
            r#""flows":["33333333-3333-3333-3333-333333333333"],"flow_count":31,"scope":[{"protocol":6,"a":"192.0.2.7","#,
            r#""a_port":40001,"b":"10.0.0.5","b_port":22,"arp":false,"since":1,"until":2}]}"#
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<StoredFinding>(&json).unwrap(), sample());
        let late = StoredFinding { late: true, cut: 3, ..sample() };
        assert!(serde_json::to_string(&late).unwrap().ends_with(r#""late":true,"cut":3}"#));
    }

    #[test]
    fn least_said_is_read() {
        let id = FindingId([1; 16]);
        let read: StoredFinding = serde_json::from_str(&format!(r#"{{"finding":"{id}","at":2,"first":1,"later":true}}"#)).unwrap();
        assert_eq!(read, StoredFinding { finding: id, at: Timestamp(2), first: Timestamp(1), ..StoredFinding::default() });
        assert!(serde_json::from_str::<StoredFinding>(r#"{"finding":"f"}"#).is_err());
    }

    #[test]
    fn small_ones_are_left_alone_and_large_ones_fit() {
        assert_eq!(sample().fit(), sample());
        let mut large = sample();
        large.evidence = vec![StoredEvidence { value: f64::NAN, samples: vec!["\u{1}".repeat(400); 32], ..large.evidence[0].clone() }; 40];
        large.sessions = vec![SessionId([1; 16]); 90];
        large.flows = vec![FlowId([1; 16]); 90];
        let one = large.scope.0[0].clone();
        large.scope.0 =
            (0..64u16).map(|port| PacketMatch { a_port: Some(port), since: Some(Timestamp(i64::from(port))), ..one.clone() }).collect();
        let fitted = large.fit();
        assert!(fitted.json_len() <= StoredFinding::MAX_JSON && fitted.cut > 0, "{fitted:?}");
        assert_eq!((fitted.scope.0.len(), fitted.scope.span()), (1, (Some(Timestamp(0)), Some(Timestamp(2)))));
        assert_eq!(serde_json::from_str::<StoredFinding>(&serde_json::to_string(&fitted).unwrap()).unwrap(), fitted);
    }

    #[test]
    fn severities_have_names() {
        for severity in Severity::ALL {
            assert_eq!(severity.name().parse::<Severity>(), Ok(severity));
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.name());
        }
        assert!("bad".parse::<Severity>().unwrap_err().contains("critical") && Severity::Critical > Severity::High);
    }

    proptest! {
        #[test]
        fn whatever_a_detector_says_fits(text in ".{0,600}", samples in 0usize..40, evidence in 0usize..40, hosts in 0u32..80, lists in 0usize..80) {
            let finding = StoredFinding {
                key: text.clone(),
                summary: text.clone(),
                detector: text.clone(),
                techniques: vec![text.clone(); lists],
                evidence: vec![StoredEvidence { metric: text.clone(), samples: vec![text; samples], ..StoredEvidence::default() }; evidence],
                sessions: vec![SessionId([9; 16]); lists],
                flows: vec![FlowId([9; 16]); lists],
                scope: PacketScope(
                    (0..hosts)
                        .map(|host| PacketMatch { a: Some(IpAddr::V6(std::net::Ipv6Addr::from(u128::MAX - u128::from(host)))), ..PacketMatch::default() })
                        .collect(),
                ),
                ..StoredFinding::default()
            };
            prop_assert!(finding.fit().json_len() <= StoredFinding::MAX_JSON);
        }
    }
}
