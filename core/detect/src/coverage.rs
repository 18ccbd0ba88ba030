//! What is detected, from the table of detectors: `glasshive coverage` and the documents print it.

use crate::{DETECTORS, Site};
use glasshive_event::attack;
use serde::Serialize;
use std::fmt::Write as _;

/// One technique of one detector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoverageRow {
    /// Technique, as pinned.
    pub technique: &'static str,
    /// Its name in the pinned release.
    pub technique_name: &'static str,
    /// The detector.
    pub detector: &'static str,
    /// Where it runs: `wire` in the sensor, `fusion` at the controller.
    pub site: Site,
    /// Use cases it serves.
    pub use_cases: &'static [&'static str],
    /// What it looks for.
    pub summary: &'static str,
    /// What must be where for it to see anything.
    pub topology: &'static str,
}

/// All rows, by technique, then in the order of the table.
pub fn coverage() -> Vec<CoverageRow> {
    let mut rows: Vec<CoverageRow> = DETECTORS
        .iter()
        .flat_map(|def| {
            def.techniques.iter().map(|id| CoverageRow {
                technique: id,
                technique_name: attack::technique(id).map_or("", |technique| technique.name),
                detector: def.name,
                site: def.site,
                use_cases: def.use_cases,
                summary: def.summary,
                topology: def.topology,
            })
        })
        .collect();
    rows.sort_by_key(|row| row.technique);
    rows
}

/// The rows as a Markdown table, with the version of the pinned techniques.
pub fn coverage_markdown() -> String {
    let mut out = format!(
        "ATT&CK Enterprise v{}.\n\n| technique | name | detector | site | use cases | looks for | needs |\n|---|---|---|---|---|---|---|\n",
        attack::VERSION
    );
    for row in coverage() {
        let site = match row.site {
            Site::Wire => "wire",
            Site::Fusion => "fusion",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {site} | {} | {} | {} |",
            row.technique,
            row.technique_name,
            row.detector,
            row.use_cases.join(" "),
            row.summary,
            row.topology
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_technique_of_every_detector_has_a_row_with_its_name() {
        let rows = coverage();
        assert_eq!(rows.len(), DETECTORS.iter().map(|def| def.techniques.len()).sum::<usize>());
        assert!(rows.iter().all(|row| !row.technique_name.is_empty() && !row.topology.is_empty()));
        assert!(rows.is_sorted_by_key(|row| row.technique));
        let text = coverage_markdown();
        assert!(rows.iter().all(|row| text.contains(&format!("| {} | {} | {} |", row.technique, row.technique_name, row.detector))));
        assert!(text.starts_with("ATT&CK Enterprise v18"));
    }

    #[test]
    fn a_row_is_one_flat_object() {
        let row = coverage().into_iter().find(|row| row.technique == "T1571").unwrap();
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["technique_name"], "Non-Standard Port");
        assert_eq!((&json["detector"], &json["site"]), (&"port_mismatch".into(), &"wire".into()));
        assert_eq!(json["use_cases"], serde_json::json!(["DUC0159"]));
    }
}
