use super::*;
use crate::testing::{
    at, check_exports, check_golden, check_shape, exported, fact, findings, findings_with, flow, identified, opened, opening, record,
    speaking, wire,
};
use glasshive_event::flow::Side;
use proptest::prelude::*;

const LIST: &str = r#"
version = 1
decoys = ["10.0.0.20"]
[[open]]
address = "10.0.0.20"
port = 22
transport = "tcp"
protocol = "ssh"
[[open]]
address = "10.0.0.20"
port = 8022
transport = "tcp"
protocol = "ssh"
[[open]]
address = "10.0.0.20"
port = 4444
transport = "tcp"
protocol = "unknown"
[[known]]
address = "10.0.0.1"
"#;

fn list() -> Arc<Segment> {
    Arc::new(Segment::parse(LIST).unwrap())
}

/// One flow to `to` whose sides speak `protocol`, with its record.
fn spoken(to: &str, protocol: &'static str, both: bool) -> Vec<Observation> {
    spoken_at(0.0, "10.0.0.66:40000", to, protocol, both)
}

fn spoken_at(seconds: f64, from: &str, to: &str, protocol: &'static str, both: bool) -> Vec<Observation> {
    let (began, ends) = (at(seconds), wire(from, to));
    let mut all = vec![
        opened(began, ends, opening(6)),
        fact(at(seconds + 0.01), began, 6, ends, Fact::Established),
        identified(at(seconds + 0.02), began, ends, protocol, false),
    ];
    if both {
        all.push(identified(at(seconds + 0.03), began, ends, protocol, true));
    }
    let mut whole = flow(began, at(seconds + 0.5), ends);
    whole.application = speaking(protocol, both);
    all.push(record(whole));
    all
}

fn datagrams(to: &str, protocol: &'static str) -> Vec<Observation> {
    let (began, ends) = (at(0.0), wire("10.0.0.66:40000", to));
    let mut said = identified(at(0.03), began, ends, protocol, true);
    said.flow = Some(crate::testing::flow_id(began, 17, ends));
    vec![opened(began, ends, opening(17)), said]
}

/// A flow of which nothing is known but how disordered it is.
fn noise(to: &str, entropy: f32, bytes: u64) -> Vec<Observation> {
    let (began, ends) = (at(0.0), wire("10.0.0.66:40000", to));
    let side = Side { packets: 9, payload_bytes: bytes, entropy, ..Side::default() };
    let mut whole = flow(began, at(2.0), ends);
    (whole.sent, whole.received) = (side.clone(), side);
    vec![opened(began, ends, opening(6)), record(whole)]
}

type Case = (&'static str, Vec<Observation>, Option<(&'static str, Severity)>);

fn cases() -> Vec<Case> {
    use Severity::{High, Info, Low, Medium};
    vec![
        ("SSH on 4022 of a host", spoken("10.9.9.9:4022", "ssh", true), Some(("unlisted tcp 10.0.0.66 10.9.9.9:4022 ssh", Low))),
        ("SSH on 4022 of a decoy", spoken("10.0.0.20:4022", "ssh", true), Some(("undeclared tcp 10.0.0.66 10.0.0.20:4022 ssh", High))),
        ("HTTP on a decoy's SSH port", spoken("10.0.0.20:8022", "http", true), Some(("declared tcp 10.0.0.66 10.0.0.20:8022 http", High))),
        ("SSH on 443", spoken("10.9.9.9:443", "ssh", true), Some(("registered tcp 10.0.0.66 10.9.9.9:443 ssh", High))),
        ("TLS on 80", spoken("10.9.9.9:80", "tls", true), Some(("registered tcp 10.0.0.66 10.9.9.9:80 tls", High))),
        ("HTTP on PostgreSQL's", spoken("10.9.9.9:5432", "http", true), Some(("registered tcp 10.0.0.66 10.9.9.9:5432 http", High))),
        ("RDP anywhere", spoken("10.9.9.9:33890", "rdp", true), Some(("unlisted tcp 10.0.0.66 10.9.9.9:33890 rdp", Medium))),
        ("HTTP on 8888", spoken("10.9.9.9:8888", "http", true), Some(("unlisted tcp 10.0.0.66 10.9.9.9:8888 http", Info))),
        ("HTTP asked of SSH", spoken("10.9.9.9:22", "http", false), Some(("one-side tcp 10.0.0.66 10.9.9.9:22 http", Info))),
        ("HTTP asked of a decoy's SSH", spoken("10.0.0.20:22", "http", false), Some(("one-side tcp 10.0.0.66 10.0.0.20:22 http", Info))),
        ("QUIC on 4433", datagrams("10.9.9.9:4433", "quic"), Some(("unlisted udp 10.0.0.66 10.9.9.9:4433 quic", Low))),
        ("noise on 443", noise("10.9.9.9:443", 7.2, 512), Some(("unknown tcp 10.0.0.66 10.9.9.9:443 unknown", Medium))),
        ("less noise", noise("10.9.9.9:443", 7.19, 512), None),
        ("a little noise", noise("10.9.9.9:443", 7.2, 511), None),
    ]
}

fn twins() -> Vec<Case> {
    let mut late = noise("10.9.9.9:443", 7.9, 90_000);
    if let Fact::Flow(record) = &mut late[1].fact {
        record.direction = DirectionBasis::SynAck;
    }
    let mut holes = noise("10.9.9.9:443", 7.9, 90_000);
    if let Fact::Flow(record) = &mut holes[1].fact {
        record.sent.missed_bytes = 1;
    }
    vec![
        ("HTTP on 8080", spoken("10.9.9.9:8080", "http", true), None),
        (
            "TLS on 853, 993 and 465",
            [853, 993, 465].iter().flat_map(|port| spoken(&format!("10.9.9.9:{port}"), "tls", true)).collect(),
            None,
        ),
        ("SMTP with STARTTLS", spoken("10.9.9.9:587", "smtp", true), None),
        ("declared ports of a decoy", spoken("10.0.0.20:8022", "ssh", true), None),
        ("anything where nothing is declared", spoken("10.0.0.20:4444", "rdp", true), None),
        ("one-sided probes of a closed matter", spoken("10.9.9.9:4022", "http", false), None),
        ("dynamic ports of DCE/RPC", spoken("10.9.9.9:49664", "dcerpc", true), None),
        ("passive FTP data", noise("10.9.9.9:40001", 7.9, 90_000), None),
        ("a known host", spoken_at(0.0, "10.0.0.1:40000", "10.9.9.9:4022", "ssh", true), None),
        ("a capture begun late", late, None),
        ("a flow with holes", holes, None),
        ("DNS over UDP and mDNS", [datagrams("10.9.9.9:53", "dns"), datagrams("224.0.0.251:5353", "mdns")].concat(), None),
        (
            "NTP, SNMP, syslog",
            [datagrams("10.9.9.9:123", "ntp"), datagrams("10.9.9.9:161", "snmp"), datagrams("10.9.9.9:5514", "syslog")].concat(),
            None,
        ),
    ]
}

#[test]
fn each_mismatch_is_found_with_its_severity() {
    for (name, all, expected) in cases() {
        let found = findings(&DETECTOR, &list(), &all);
        let seen: Vec<_> = found.iter().map(|finding| (finding.key.as_str(), finding.severity)).collect();
        assert_eq!(seen, expected.into_iter().collect::<Vec<_>>(), "{name}");
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}

#[test]
fn its_benign_twins_raise_nothing() {
    for (name, all, _) in twins() {
        let found = findings(&DETECTOR, &list(), &all);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn an_export_of_a_finding_gives_it_again() {
    let mut all: Vec<Observation> = cases().into_iter().chain(twins()).flat_map(|(_, all, _)| all).collect();
    for n in 0..120 {
        all.extend(spoken_at(10.0 + f64::from(n), &format!("10.0.0.77:{}", 40_000 + n), "10.9.9.9:443", "ssh", true));
    }
    all.sort_by_key(|one| one.at);
    let found = findings(&DETECTOR, &list(), &all);
    assert!(found.len() > 12, "{}", found.len());
    check_exports(&DETECTOR, &list(), &all);
}

#[test]
fn steps_and_use_case() {
    let all: Vec<Observation> =
        (0..120).flat_map(|n| spoken_at(f64::from(n), &format!("10.0.0.77:{}", 40_000 + n), "10.9.9.9:443", "ssh", true)).collect();
    let found = findings(&DETECTOR, &list(), &all);
    assert_eq!(found.iter().map(|finding| finding.evidence[0].value).collect::<Vec<_>>(), [1.0, 10.0, 100.0]);
    assert!(found.iter().all(|finding| finding.use_cases == ["DUC0159"] && finding.id(&DETECTOR) == found[0].id(&DETECTOR)));
    assert_eq!(found[0].evidence[1].samples, ["client 00", "server 01"]);
    // The first finding's packets are those of its own flow up to where both sides spoke.
    assert_eq!(exported(&all, &found[0].scope).len(), 4);
    assert!(findings(&DETECTOR, &list(), &spoken("10.9.9.9:80", "tls", true))[0].use_cases.is_empty());
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let all: Vec<Observation> = (0..200u32)
        .flat_map(|n| spoken_at(f64::from(n), &format!("10.3.{}.{}:99", n / 100, n % 100), "10.9.9.9:443", "ssh", true))
        .collect();
    let (found, evicted) = findings_with(&DETECTOR, "max_keys = 16", &list(), &all);
    assert_eq!(found.len(), 200);
    assert!(evicted >= 184, "{evicted}");
}

#[test]
fn golden_finding() {
    let found = findings(&DETECTOR, &list(), &spoken("10.9.9.9:443", "ssh", true)).remove(0);
    check_golden(&DETECTOR, &found, "fb739832-7df6-89b1-9825-ed2f6139b89c", include_str!("golden.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_of_anything_is_answered(
        steps in proptest::collection::vec((any::<i64>(), 0usize..6, 0u16..5, 0u8..4, any::<bool>(), any::<f32>()), 0..40),
    ) {
        let protocols = ["ssh", "tls", "http", "rdp", "quic", "never heard of"];
        let ports = [22, 443, 4022, 4444, 8022];
        let all: Vec<Observation> = steps.into_iter().map(|(when, protocol, port, kind, both, entropy)| {
            let now = Timestamp(when);
            let ends = wire("10.0.0.66:40000", &format!("10.0.0.20:{}", ports[usize::from(port)]));
            match kind {
                0 => opened(now, ends, opening(6)),
                1 => {
                    let mut whole = flow(now, Timestamp(when.saturating_add(5)), ends);
                    whole.sent.entropy = entropy;
                    whole.received = Side { entropy, payload_bytes: 9_999, ..Side::default() };
                    whole.application = both.then(|| speaking(protocols[protocol], false)).flatten();
                    record(whole)
                }
                _ => identified(now, now, ends, protocols[protocol], both),
            }
        }).collect();
        let (found, _) = findings_with(&DETECTOR, "max_keys = 16", &list(), &all);
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}
