//! The pinned ATT&CK table: Enterprise v18 (November 2025).
//!
//! Exports carry [`VERSION`]; names of later releases are accepted as aliases by the reader.

/// ATT&CK Enterprise release the table was taken from.
pub const VERSION: &str = "18";

const TABLE: &str = include_str!("../data/attack-v18.tsv");

/// One technique or sub-technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Technique {
    /// `T1021` or `T1021.004`.
    pub id: &'static str,
    /// Name in the pinned release.
    pub name: &'static str,
    /// Tactics, comma separated, as shortnames.
    pub tactics: &'static str,
}

/// All pinned techniques, in order of id.
pub fn all() -> impl Iterator<Item = Technique> {
    TABLE.lines().skip(1).filter_map(|line| {
        let mut cells = line.split('\t');
        Some(Technique { id: cells.next()?, name: cells.next()?, tactics: cells.next()? })
    })
}

/// Looks an id up.
pub fn technique(id: &str) -> Option<Technique> {
    all().find(|technique| technique.id == id)
}

/// The thirteen techniques of the mission.
pub const MISSION: [&str; 13] =
    ["T1021", "T1029", "T1071", "T1205", "T1557", "T1570", "T1571", "T1572", "T1589", "T1590", "T1595", "T1599", "T1600"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mission_is_pinned() {
        for id in MISSION {
            assert!(technique(id).is_some(), "{id}");
        }
        assert_eq!(technique("T1021").map(|t| t.name), Some("Remote Services"));
        assert_eq!(technique("T9999"), None);
    }

    #[test]
    fn every_row_is_whole() {
        for t in all() {
            assert!(t.id.starts_with('T') && !t.name.is_empty() && !t.tactics.is_empty(), "{t:?}");
        }
    }
}
