//! Fusion: detectors over what all nodes of a net stored, in the order of event time.
//!
//! A follower reads every node's log behind its own durable checkpoint ([`checkpoint`]), turns records
//! into observations ([`observe`]), and merges them by time up to a watermark ([`watermark`]): before
//! it nothing more is expected. Detectors run per net ([`panel`]); what they find becomes a `finding`
//! record of the controller's own log, once ([`teller`]). Records that come after their time was
//! looked at start a second pass over their surroundings ([`late`]), whose findings are marked.
//!
//! Memory is bounded: one window of records a log, bounded detectors, bounded lists. Everything that
//! is skipped, repeated, evicted or late is counted in [`Status`], which `doctor` shows.
//!
//! It must never write anything but findings, and never change what a node said.

mod checkpoint;
mod follower;
mod lanes;
mod late;
pub mod observe;
mod panel;
mod past;
mod teller;
pub mod watermark;

pub use follower::{Follower, Parts};

use crate::config::{Config, Vantage};
use crate::fail::Failure;
use glasshive_detect::{BuildError, DETECTORS, Detector, DetectorDef, Segment, Site};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the follower did and where it stands. Counts are since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it runs.
    pub running: bool,
    /// Everything before this was looked at, nanoseconds UTC; 0 = nothing yet.
    pub frontier_ns: i64,
    /// How far behind now that was at the last turn.
    pub lag_ns: i64,
    /// Records stored that were not looked at yet.
    pub behind: u64,
    /// Records read.
    pub read: u64,
    /// Those that became observations.
    pub observed: u64,
    /// Records this build cannot read, or whose detail is not what its kind says.
    pub unreadable: u64,
    /// Records that retention deleted before they were looked at.
    pub missing: u64,
    /// Findings told for the first time.
    pub told: u64,
    /// Findings told again because there is more to them.
    pub updated: u64,
    /// Findings that were told before; nothing was written.
    pub repeated: u64,
    /// Records that came after their time was looked at.
    pub late: u64,
    /// Nets waiting for a second pass.
    pub waiting: u64,
    /// Second passes made.
    pub second_passes: u64,
    /// Findings told by second passes.
    pub told_late: u64,
    /// Findings that did not fit between two turns.
    pub dropped: u64,
    /// Observations of nets over the limit.
    pub skipped: u64,
    /// Matters nobody can judge, because records that would tell were lost.
    pub unknowable: u64,
    /// Keys detectors forgot for want of room, by detector.
    pub evicted: BTreeMap<String, u64>,
    /// Why the last turn failed; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the follower's status is read.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Status>>);

impl Board {
    /// As it is now.
    pub fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The detectors that run here.
pub fn table(all: &'static [DetectorDef]) -> Vec<&'static DetectorDef> {
    all.iter().filter(|def| def.site == Site::Fusion).collect()
}

/// Settings of detectors and nets.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `[detect.NAME]` tables.
    pub detect: BTreeMap<String, toml::Table>,
    /// What is open on each net's segment, and where the net stands.
    pub segments: BTreeMap<String, Arc<Segment>>,
}

impl Settings {
    /// From `controller.toml`, with the segment lists it names.
    ///
    /// # Errors
    /// A list cannot be read: one line with its file.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        let mut segments = BTreeMap::new();
        for (name, net) in &config.net {
            let vantage = match net.vantage {
                Vantage::Edge => glasshive_detect::Vantage::Edge,
                Vantage::Inside => glasshive_detect::Vantage::Inside,
            };
            let list = match &net.segment {
                None => Segment::default(),
                Some(path) => {
                    let fail = |why: String| {
                        Failure::usage(format!(
                            "net.{name}.segment: {}: {why}; print one with: glasshive-decoys check --segment",
                            path.display()
                        ))
                    };
                    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
                    Segment::parse(&text).map_err(fail)?
                }
            };
            segments.insert(name.clone(), Arc::new(Segment { vantage, ..list }));
        }
        Ok(Self { detect: config.detect.clone(), segments })
    }

    /// Builds a detector for a net.
    ///
    /// # Errors
    /// Its settings cannot be used.
    pub fn build(&self, def: &DetectorDef, net: &str) -> Result<Box<dyn Detector>, BuildError> {
        let table = self.detect.get(def.name).cloned().unwrap_or_default();
        let segment = self.segments.get(net).cloned().unwrap_or_default();
        (def.build)(&table, &segment)
    }
}

/// Checks `[detect.NAME]` tables: the name, and that the detector takes the settings.
///
/// # Errors
/// The name and what is wrong, in one line.
pub fn check(detect: &BTreeMap<String, toml::Table>) -> Result<(), (String, String)> {
    let here = table(DETECTORS);
    for name in detect.keys() {
        let Some(def) = here.iter().find(|def| def.name == name) else {
            let names: Vec<_> = here.iter().map(|def| def.name).collect();
            let why =
                if names.is_empty() { "this build has no detectors here".to_owned() } else { format!("there are {}", names.join(", ")) };
            return Err((name.clone(), format!("no detector of that name runs at the controller: {why}")));
        };
        let settings = Settings { detect: detect.clone(), ..Settings::default() };
        settings.build(def, "").map_err(|error| (name.clone(), error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn settings(list: Option<&str>) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("controller.toml"), dir.path().join("segment.toml"));
        if let Some(list) = list {
            std::fs::write(&file, list).unwrap();
        }
        let net = "vantage = \"inside\"\nowner = \"o\"\npurpose = \"p\"\nlegal_basis = \"l\"\nretention = \"90d\"\n";
        std::fs::write(&path, format!("[net.dmz]\nsegment = {file:?}\n{net}[net.office]\n{net}")).unwrap();
        let config = Config::load(&Overrides { config: Some(path), ..Overrides::default() }).unwrap();
        Settings::of(&config).map_err(|failure| failure.to_string().replace(&dir.path().display().to_string(), "/d"))
    }

    #[test]
    fn a_net_has_its_list_and_vantage() {
        let settings = settings(Some("version = 1\ndecoys = [\"10.0.0.7\"]\n")).unwrap();
        let (dmz, office) = (&settings.segments["dmz"], &settings.segments["office"]);
        assert!(dmz.is_decoy("10.0.0.7".parse().unwrap()) && office.is_empty());
        assert_eq!((dmz.vantage, office.vantage), (glasshive_detect::Vantage::Inside, glasshive_detect::Vantage::Inside));
    }

    #[test]
    fn a_list_that_cannot_be_read_names_key_file_and_remedy() {
        for (list, why) in [
            (None, "No such file"),
            (Some("version = 2\n"), "version 2 is not known to this build; it reads 1"),
            (Some("version = 1\ndecoy = []\n"), "unknown field `decoy`"),
            (Some("{"), "TOML"),
        ] {
            let error = settings(list).unwrap_err();
            assert!(error.starts_with("net.dmz.segment: /d/segment.toml: ") && error.contains(why), "{error}");
            assert!(error.ends_with("glasshive-decoys check --segment") && !error.contains('\n'), "{error}");
        }
    }
}
