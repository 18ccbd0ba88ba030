//! Attempts to leave, each beside what any host sends.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{at, check_shape, findings_with, wire};

const LIST: &str = "version = 1\n[[open]]\naddress = \"10.66.1.10\"\nport = 53\ntransport = \"udp\"\nprotocol = \"dns\"\n\
                    [[open]]\naddress = \"10.66.1.10\"\nport = 22\ntransport = \"tcp\"\nprotocol = \"ssh\"\n";

fn segment() -> Arc<Segment> {
    Arc::new(Segment::parse(LIST).unwrap())
}

fn blocked(seconds: f64, direction: &str, protocol: u8, flags: u8, source: &str, destination: &str) -> Observation {
    let fact =
        Fact::Blocked(Blocked { direction: direction.into(), protocol, flags, total: 1, interface: "dcy0".into(), ..Blocked::default() });
    Observation { at: at(seconds), session: None, flow: None, wire: Some(wire(source, destination)), fact }
}

fn icmp(protocol: u8, kind: u8, destination: &str) -> Observation {
    let mut observation = blocked(1.0, "out", protocol, 0, "10.66.1.10:0", destination);
    if let Fact::Blocked(blocked) = &mut observation.fact {
        blocked.icmp = Some((kind, 0));
    }
    observation
}

fn found(table: &str, all: &[Observation]) -> Vec<Finding> {
    findings_with(&DETECTOR, table, &segment(), all).0
}

#[test]
fn what_begins_something_is_a_finding() {
    let table = [
        (blocked(1.0, "out", 6, 2, "10.66.1.10:4000", "192.0.2.7:443"), Severity::Critical, "T1071"),
        // The node's own address: a process on it chose no decoy's.
        (blocked(1.0, "out", 6, 2, "10.66.1.2:4000", "192.0.2.7:443"), Severity::Critical, "T1071"),
        (blocked(1.0, "out", 6, 2, "10.66.1.10:4000", "10.66.1.11:22"), Severity::Critical, "T1021"),
        (blocked(1.0, "out", 17, 0, "10.66.1.10:4000", "192.0.2.53:53"), Severity::Critical, "T1071"),
        (blocked(1.0, "out", 47, 0, "10.66.1.10:0", "192.0.2.7:0"), Severity::Critical, "T1095"),
        (icmp(1, 8, "192.0.2.7:0"), Severity::Critical, "T1095"),
        (icmp(58, 128, "[2001:db8::7]:0"), Severity::Critical, "T1095"),
        (blocked(1.0, "forward", 6, 2, "10.66.1.100:4000", "10.99.0.1:7443"), Severity::High, "T1090"),
    ];
    for (observation, severity, technique) in table {
        let found = found("", std::slice::from_ref(&observation));
        assert_eq!(found.len(), 1, "{observation:?}");
        check_shape(&DETECTOR, &found[0]);
        assert_eq!((found[0].severity, found[0].techniques[0]), (severity, technique), "{observation:?}");
        assert!(found[0].scope.matches(observation.at, Some(6), observation.wire) || technique == "T1095" || technique == "T1071");
    }
    let mut own = blocked(1.0, "out", 17, 0, "10.99.0.11:4000", "10.99.0.53:53");
    if let Fact::Blocked(blocked) = &mut own.fact {
        blocked.prefix = "glasshive out mgmt".into();
    }
    assert_eq!(found("", &[own.clone()])[0].severity, Severity::High);
    assert_eq!(found("host_prefix = \"\"", &[own])[0].severity, Severity::Critical);
}

#[test]
fn what_any_host_sends_is_none() {
    let quiet = [
        // Answers whose connection is forgotten: SYN-ACK, RST, FIN-ACK, data.
        blocked(1.0, "out", 6, 0x12, "10.66.1.10:22", "10.66.1.100:4000"),
        blocked(1.0, "out", 6, 0x04, "10.66.1.10:9", "10.66.1.100:4000"),
        blocked(1.0, "out", 6, 0x14, "10.66.1.10:9", "10.66.1.100:4000"),
        blocked(1.0, "out", 6, 0x11, "10.66.1.10:22", "10.66.1.100:4000"),
        blocked(1.0, "out", 17, 0, "10.66.1.10:53", "10.66.1.100:4000"),
        // Echo replies, errors, neighbour discovery, listener reports, IGMP.
        icmp(1, 0, "10.66.1.100:0"),
        icmp(1, 3, "10.66.1.100:0"),
        icmp(58, 129, "[2001:db8::7]:0"),
        icmp(58, 135, "[2001:db8::7]:0"),
        icmp(58, 136, "[2001:db8::7]:0"),
        icmp(58, 143, "[2001:db8::7]:0"),
        blocked(1.0, "out", 2, 0, "10.66.1.10:0", "192.0.2.7:0"),
        // Multicast, broadcast, DHCP.
        blocked(1.0, "out", 17, 0, "10.66.1.10:5353", "224.0.0.251:5353"),
        blocked(1.0, "out", 17, 0, "0.0.0.0:68", "255.255.255.255:67"),
        blocked(1.0, "out", 17, 0, "[fe80::1]:546", "[ff02::1:2]:547"),
        // What comes in is what the wall is for.
        blocked(1.0, "in", 6, 2, "10.66.1.100:4000", "10.66.1.2:22"),
    ];
    for observation in quiet {
        assert_eq!(found("", std::slice::from_ref(&observation)).len(), 0, "{observation:?}");
    }
}

#[test]
fn allowed_destinations_are_none() {
    let at = |destination: &str| blocked(1.0, "out", 6, 2, "10.66.1.10:4000", destination);
    let table = "allow = [\"192.0.2.7:443\", \"10.99.0.0/24\", \"2001:db8::7\", \"[2001:db8:1::/48]:53\"]";
    for (destination, quiet) in [
        ("192.0.2.7:443", true),
        ("192.0.2.7:80", false),
        ("192.0.2.8:443", false),
        ("10.99.0.255:1", true),
        ("10.99.1.0:1", false),
        ("[2001:db8::7]:9", true),
        ("[2001:db8::8]:9", false),
        ("[2001:db8:1:2::3]:53", true),
        ("[2001:db8:1:2::3]:54", false),
        ("[2001:db8:2:2::3]:53", false),
    ] {
        assert_eq!(found(table, &[at(destination)]).is_empty(), quiet, "{destination}");
    }
    for bad in ["x", "10.0.0.0/33", "10.0.0.1:99999", "[::1", "10.0.0.1/"] {
        let table = format!("allow = [{bad:?}]").parse().unwrap();
        let error = (DETECTOR.build)(&table, &segment()).err().unwrap().to_string();
        assert!(error.starts_with("[detect.egress]: allow: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn one_source_is_one_matter_told_at_each_tenfold() {
    let all: Vec<_> =
        (0..150u16).map(|port| blocked(f64::from(port), "out", 6, 2, "10.66.1.10:4000", &format!("192.0.2.7:{}", 1_000 + port))).collect();
    let found = found("", &all);
    assert_eq!(found.len(), 3, "at 1, 10 and 100 destinations");
    assert!(found.iter().all(|one| one.key == "out 10.66.1.10" && one.id(&DETECTOR) == found[0].id(&DETECTOR)));
    assert!(found[2].summary.contains("100 destinations") && found[2].evidence[0].value >= 100.0, "{:?}", found[2]);
    check_shape(&DETECTOR, &found[2]);
}
