//! Detectors: judgement apart from facts. The trait, the table of all detectors, bounded windows.
//!
//! A detector sees [`Observation`]s in time order and has no other input: no clock, no file, no
//! socket, so that live packets and the same packets from a file give the same findings. Its memory
//! is bounded by [`window`]'s maps, and what they forget is counted.
//!
//! Adding one is a file with its settings, its `pub(crate) const DETECTOR: DetectorDef`, the
//! implementation and its tests, and one line in [`DETECTORS`].
#![forbid(unsafe_code)]

pub mod coverage;
mod detectors;
mod finding;
mod matter;
pub mod segment;
mod stored;
#[cfg(test)]
mod testing;
pub mod window;
mod works;

pub use coverage::{CoverageRow, coverage};
pub use finding::{Evidence, Finding, Findings};
pub use glasshive_event::Severity;
pub use segment::{Segment, Vantage};

use glasshive_event::Timestamp;
use glasshive_event::observation::Observation;
use std::sync::Arc;

/// Every detector, in the order `glasshive coverage` prints.
pub static DETECTORS: &[DetectorDef] = &[
    detectors::scan::DETECTOR,
    detectors::port_mismatch::DETECTOR,
    detectors::weak_crypto::DETECTOR,
    detectors::remote_service::DETECTOR,
    detectors::reconcile::DETECTOR,
    detectors::egress::DETECTOR,
];

/// Where a detector runs. None runs at both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// In the sensor, on packets and device lines, by packet time.
    Wire,
    /// In a controller follower, on stored events in event-time order behind a watermark.
    Fusion,
}

/// Builds a detector from its table and the segment's list.
pub type Build = fn(&toml::Table, &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError>;

/// One row of the table.
#[derive(Debug)]
pub struct DetectorDef {
    /// Name in findings and configuration.
    pub name: &'static str,
    /// Raised when the same input gives other findings; part of the finding id.
    pub version: u16,
    /// Where it runs.
    pub site: Site,
    /// ATT&CK techniques it can report, primary first, all in the pinned table.
    pub techniques: &'static [&'static str],
    /// Use cases it serves, such as `DUC0089`.
    pub use_cases: &'static [&'static str],
    /// What it looks for, in one sentence.
    pub summary: &'static str,
    /// What must be where for it to see anything, in one sentence.
    pub topology: &'static str,
    /// Builds it from its table `[detect.NAME]` (empty when not given) and the segment's list.
    pub build: Build,
}

/// Settings a detector cannot use: one line that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[detect.{detector}]: {why}")]
pub struct BuildError {
    /// The detector.
    pub detector: &'static str,
    /// The key and what would be right.
    pub why: String,
}

/// Turns observations into findings.
pub trait Detector: Send {
    /// Takes one observation. Observations come in time order, late ones excepted: a detector must
    /// not fail on an earlier time, and counts it where it still falls into a window.
    fn observe(&mut self, observation: &Observation, out: &mut Findings);

    /// Time passed without an observation: close what is due. `now` is packet or event time.
    fn tick(&mut self, now: Timestamp, out: &mut Findings) {
        let _ = (now, out);
    }

    /// Keys forgotten for want of room since the start: a finding may be missing.
    fn evicted(&self) -> u64 {
        0
    }

    /// Matters nobody can judge, because records that would tell were lost or a side was not heard.
    fn unknowable(&self) -> u64 {
        0
    }
}

/// Reads a detector's settings into its type, naming the detector in the error.
///
/// # Errors
/// [`BuildError`] with serde's words on one line.
pub fn settings<T: serde::de::DeserializeOwned>(detector: &'static str, table: &toml::Table) -> Result<T, BuildError> {
    T::deserialize(toml::Value::Table(table.clone()))
        .map_err(|error| BuildError { detector, why: error.to_string().trim().replace('\n', " ") })
}

/// The definition of that name.
pub fn find(name: &str) -> Option<&'static DetectorDef> {
    DETECTORS.iter().find(|def| def.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::attack;

    /// What must hold of every row; also tried on rows that break it.
    fn fault(def: &DetectorDef) -> Option<String> {
        let named = !def.name.is_empty() && def.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !named || def.summary.is_empty() || def.topology.is_empty() || def.version == 0 || def.techniques.is_empty() {
            return Some("a row needs a snake_case name, a version, a summary, a topology and a technique".to_owned());
        }
        if let Some(id) = def.techniques.iter().find(|id| attack::technique(id).is_none()) {
            return Some(format!("{id} is not in the pinned table"));
        }
        if let Some(id) = def.use_cases.iter().find(|id| !matches!(id.strip_prefix("DUC"), Some(digits) if digits.len() == 4)) {
            return Some(format!("{id} is no use case"));
        }
        (def.build)(&toml::Table::new(), &Arc::default()).err().map(|error| error.to_string())
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    impl Detector for Nothing {
        fn observe(&mut self, _: &Observation, _: &mut Findings) {}
    }
    fn build(table: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
        Ok(Box::new(settings::<Nothing>("nothing", table)?))
    }
    const ROW: DetectorDef = DetectorDef {
        name: "nothing",
        version: 1,
        site: Site::Wire,
        techniques: &["T1595"],
        use_cases: &["DUC0159"],
        summary: "Sees nothing.",
        topology: "None.",
        build,
    };

    #[test]
    fn the_table_holds() {
        for (index, def) in DETECTORS.iter().enumerate() {
            assert_eq!(fault(def), None, "{}", def.name);
            assert!(DETECTORS.iter().skip(index + 1).all(|other| other.name != def.name), "{} twice", def.name);
            assert!(find(def.name).is_some());
        }
        assert!(find("nothing").is_none());
    }

    #[test]
    fn broken_rows_are_seen() {
        assert_eq!(fault(&ROW), None);
        for broken in [
            DetectorDef { name: "No Name", ..ROW },
            DetectorDef { version: 0, ..ROW },
            DetectorDef { techniques: &[], ..ROW },
            DetectorDef { techniques: &["T9999"], ..ROW },
            DetectorDef { use_cases: &["DUC1"], ..ROW },
            DetectorDef { summary: "", ..ROW },
            DetectorDef { topology: "", ..ROW },
        ] {
            assert!(fault(&broken).is_some(), "{broken:?}");
        }
    }

    #[test]
    fn settings_faults_are_one_line_with_the_detector() {
        let table = "treshold = 5".parse().unwrap();
        let error = (ROW.build)(&table, &Arc::default()).err().unwrap().to_string();
        assert!(error.starts_with("[detect.nothing]: unknown field `treshold`") && !error.contains('\n'), "{error}");
        let mut detector = (ROW.build)(&toml::Table::new(), &Arc::default()).unwrap();
        detector.tick(Timestamp(1), &mut Findings::new(1));
        assert_eq!(detector.evicted(), 0);
    }
}
