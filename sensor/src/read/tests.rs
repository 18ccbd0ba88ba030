//! What is written of findings, and the summary.

use super::*;
use glasshive_detect::{BuildError, Detector, Evidence, Severity, Site};
use glasshive_event::{FlowId, PacketMatch, PacketScope};

fn build(_: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    Err(BuildError { detector: "scan", why: "never built here".to_owned() })
}
static SCAN: DetectorDef = DetectorDef {
    name: "scan",
    version: 3,
    site: Site::Wire,
    techniques: &["T1595"],
    use_cases: &[],
    summary: "Scans.",
    topology: "t",
    build,
};

fn finding() -> Finding {
    let actor = "10.0.0.1".parse().unwrap();
    Finding {
        at: Timestamp(20),
        first: Timestamp(10),
        key: "10.0.0.1".to_owned(),
        severity: Severity::High,
        confidence: 90,
        techniques: vec!["T1595"],
        use_cases: vec!["DUC0159"],
        actor: Some(actor),
        target: None,
        summary: "It tried many ports.".to_owned(),
        evidence: vec![Evidence { metric: "ports", value: 9.0, threshold: 5.0, window_s: 60, samples: vec!["22".to_owned()] }],
        sessions: vec![],
        flows: vec![FlowId([1; 16])],
        flow_count: 9,
        scope: PacketScope(vec![PacketMatch::host(actor, Timestamp(10), Timestamp(20))]),
    }
}

#[test]
fn a_finding_line_says_who_found_it_and_how_to_see_it() {
    let mut out = Vec::new();
    json(&Output::Finding(&SCAN, Box::new(finding())), &mut out).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&line["type"], &line["detector"], &line["version"]), (&"finding".into(), &"scan".into(), &3.into()));
    assert_eq!(line["id"], FindingId::derive("scan", 3, "10.0.0.1", Timestamp(10)).to_string());
    assert!(line["tshark"].as_str().unwrap().contains("ip.src == 10.0.0.1"), "{line}");
    for key in [
        "at",
        "first",
        "key",
        "severity",
        "confidence",
        "techniques",
        "use_cases",
        "actor",
        "target",
        "summary",
        "evidence",
        "sessions",
        "flows",
        "flow_count",
        "scope",
    ] {
        assert!(line.get(key).is_some(), "{key}");
    }
}

#[test]
fn the_summary_tells_what_was_let_go() {
    let mut board = Board::default();
    board.note(&Output::Finding(&SCAN, Box::new(finding())));
    let damage = [Damaged { file: "a\u{1b}b".to_owned(), kind: "empty", offset: 0, what: "not one byte" }];
    let counts = Counts { packets: 7, flows_evicted: 2, detector_evicted: 3, ..Counts::default() };
    let mut out = Vec::new();
    board.show(&Summary { files: 1, counts, first: None, last: None, damage: &damage }, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for part in [
        "High scan: It tried many ports.",
        "tshark -Y '",
        "7 packets",
        "2 flows were forgotten",
        "3 keys of detectors",
        "damage: a\\x1bb: empty",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("malformed") && !text.contains('\u{1b}'));
}
