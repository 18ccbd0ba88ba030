use super::*;
use crate::testing::{
    arp, at, check_exports, check_golden, check_shape, exported, fact, findings, findings_with, flow, ip, opened, opening, record, wire,
};
use crate::{Severity, Vantage};
use glasshive_event::observation::{HttpRequest, HttpResponse, Identified};
use proptest::prelude::*;

const DECOYS: &str = r#"
version = 1
decoys = ["10.0.0.20", "10.0.0.21", "10.0.0.22", "10.0.0.23"]
[[open]]
address = "10.0.0.20"
port = 21
transport = "tcp"
protocol = "ftp"
[[known]]
address = "10.0.0.1"
ports = [22, 80, 443]
[[known]]
address = "10.0.0.3"
mac = "02:00:00:00:00:03"
"#;

fn decoys() -> Arc<Segment> {
    Arc::new(Segment::parse(DECOYS).unwrap())
}

fn nothing() -> Arc<Segment> {
    Arc::default()
}

/// A first packet `seconds` in, from one source port a packet as scanners do.
fn probe_of(seconds: f64, from: &str, to: &str, protocol: u8, flags: u8) -> Observation {
    let source = format!("{from}:{}", 40_000 + (seconds * 100.0) as u16 % 20_000);
    opened(at(seconds), wire(&source, to), Opening { tcp_flags: flags, ..opening(protocol) })
}

fn ports(count: u16, step: f64, protocol: u8, flags: u8) -> Vec<Observation> {
    (0..count).map(|n| probe_of(f64::from(n) * step, "10.0.0.66", &format!("10.0.0.20:{}", n + 1), protocol, flags)).collect()
}

fn hosts(count: u16, port: u16, network: &str) -> Vec<Observation> {
    (0..count).map(|n| probe_of(f64::from(n), "10.0.0.66", &format!("{network}.{}:{port}", n + 20), 6, 2)).collect()
}

fn echoes(count: u16, network: &str) -> Vec<Observation> {
    let one = |n: u16| {
        let ask = Opening { icmp: Some((8, 0)), ..opening(1) };
        opened(at(f64::from(n)), wire("10.0.0.66:0", &format!("{network}.{}:0", n + 20)), ask)
    };
    (0..count).map(one).collect()
}

fn asked(count: u16, mac: &str, from: &str) -> Vec<Observation> {
    (0..count).map(|n| arp(at(f64::from(n)), mac, from, &format!("10.0.{}.{}", 100 + n / 50, n % 50))).collect()
}

/// `count` connections that come about, each answered 50 ms later.
fn connections(count: u16, to: impl Fn(u16) -> String) -> Vec<Observation> {
    let one = |n: u16| {
        let (now, wire) = (at(f64::from(n)), wire(&format!("10.0.0.66:{}", 50_000 + n), &to(n)));
        [opened(now, wire, opening(6)), fact(at(f64::from(n) + 0.05), now, 6, wire, Fact::Established)]
    };
    (0..count).flat_map(one).collect()
}

fn answers(count: u16, status: u16) -> Vec<Observation> {
    let (began, wire) = (at(0.0), wire("10.0.0.66:50000", "10.0.0.20:80"));
    let answer = |n: u16| {
        let now = at(0.1 + f64::from(n) * 2.0);
        fact(now, began, 6, wire, Fact::HttpResponse(HttpResponse { status, ..HttpResponse::default() }))
    };
    std::iter::once(opened(began, wire, opening(6))).chain((0..count).map(answer)).collect()
}

fn request(target: &str, agent: &str) -> Vec<Observation> {
    let (began, wire) = (at(0.0), wire("10.0.0.66:50000", "10.0.0.20:80"));
    let request = HttpRequest { target: target.into(), user_agent: Some(agent.into()), ..HttpRequest::default() };
    vec![opened(began, wire, opening(6)), fact(at(0.1), began, 6, wire, Fact::HttpRequest(request))]
}

fn refusals(packets: u64) -> Vec<Observation> {
    let mut answered = flow(at(0.0), at(1.0), wire("10.0.0.20:0", "10.0.0.66:0"));
    (answered.protocol, answered.icmp, answered.sent.packets) = (1, Some((3, 2)), packets);
    vec![record(answered)]
}

fn protocols(count: u8) -> Vec<Observation> {
    (0..count).map(|n| probe_of(f64::from(n), "10.0.0.66", "10.0.0.20:0", 150 + n, 0)).collect()
}

/// Name, observations, key of the first finding; `None` = none at all.
type Case = (&'static str, Arc<Segment>, Vec<Observation>, Option<&'static str>);

fn cases() -> Vec<Case> {
    let ports_key = |probe: &'static str| match probe {
        "connect" => "ports tcp connect 10.0.0.66 10.0.0.20",
        "ack" => "ports tcp ack 10.0.0.66 10.0.0.20",
        "null" => "ports tcp null 10.0.0.66 10.0.0.20",
        "fin" => "ports tcp fin 10.0.0.66 10.0.0.20",
        "xmas" => "ports tcp xmas 10.0.0.66 10.0.0.20",
        _ => "ports tcp odd 10.0.0.66 10.0.0.20",
    };
    let slow = |count| ports(count, 3_000.0, 6, 2);
    let own = |n: u16| format!("10.0.0.20:{}", 1 + n);
    vec![
        ("8 ports", decoys(), ports(8, 1.0, 6, 2), Some(ports_key("connect"))),
        ("7 ports", decoys(), ports(7, 1.0, 6, 2), None),
        ("8 ports, no list", nothing(), ports(8, 1.0, 6, 2), Some(ports_key("connect"))),
        ("8 ports in more than a minute", decoys(), ports(8, 10.0, 6, 2), None),
        ("15 ports in a day", decoys(), slow(15), Some(ports_key("connect"))),
        ("14 ports in a day", decoys(), slow(14), None),
        ("8 open ports of a decoy", decoys(), connections(8, own), Some(ports_key("connect"))),
        ("ACK to 8", decoys(), ports(8, 1.0, 6, 0x10), Some(ports_key("ack"))),
        ("ACK to 7", decoys(), ports(7, 1.0, 6, 0x10), None),
        ("Maimon to 8", decoys(), ports(8, 1.0, 6, 0x11), Some(ports_key("ack"))),
        ("NULL", decoys(), ports(1, 1.0, 6, 0), Some(ports_key("null"))),
        ("FIN", decoys(), ports(1, 1.0, 6, 1), Some(ports_key("fin"))),
        ("Xmas", decoys(), ports(1, 1.0, 6, 0x29), Some(ports_key("xmas"))),
        ("SYN and FIN", decoys(), ports(1, 1.0, 6, 3), Some(ports_key("odd"))),
        ("5 UDP ports", decoys(), ports(5, 1.0, 17, 0), Some("ports udp connect 10.0.0.66 10.0.0.20")),
        ("4 UDP ports", decoys(), ports(4, 1.0, 17, 0), None),
        ("15 UDP ports, no list", nothing(), ports(15, 1.0, 17, 0), Some("ports udp connect 10.0.0.66 10.0.0.20")),
        ("14 UDP ports, no list", nothing(), ports(14, 1.0, 17, 0), None),
        ("SCTP", decoys(), ports(8, 1.0, 132, 0), Some("ports sctp connect 10.0.0.66 10.0.0.20")),
        ("2 of 4 decoys", decoys(), hosts(2, 22, "10.0.0"), Some("hosts tcp/22 10.0.0.66 decoys")),
        ("1 decoy", decoys(), hosts(1, 22, "10.0.0"), None),
        ("25 others", decoys(), hosts(25, 22, "10.9.9"), Some("hosts tcp/22 10.0.0.66 hosts")),
        ("24 others", decoys(), hosts(24, 22, "10.9.9"), None),
        ("ping of 2 of 4 decoys", decoys(), echoes(2, "10.0.0"), Some("icmp 10.0.0.66 decoys")),
        ("ping of 1", decoys(), echoes(1, "10.0.0"), None),
        ("ping of 10 others", nothing(), echoes(10, "10.9.9"), Some("icmp 10.0.0.66 hosts")),
        ("ping of 9 others", nothing(), echoes(9, "10.9.9"), None),
        ("ARP for 16", decoys(), asked(16, "02:00:00:00:00:66", "10.0.0.66"), Some("arp 10.0.0.66 02:00:00:00:00:66")),
        ("ARP for 15", decoys(), asked(15, "02:00:00:00:00:66", "10.0.0.66"), None),
        ("8 IP protocols", decoys(), protocols(8), Some("protocols 10.0.0.66 10.0.0.20")),
        ("7 IP protocols", decoys(), protocols(7), None),
        ("8 refused protocols", decoys(), refusals(8), Some("protocols 10.0.0.66 10.0.0.20")),
        ("7 refused protocols", decoys(), refusals(7), None),
        ("20 not found", decoys(), answers(20, 404), Some("wordlist 10.0.0.66 10.0.0.20:80")),
        ("19 not found", decoys(), answers(19, 404), None),
        ("nmap -sV", decoys(), request("/nice%20ports%2C/Tri%6Eity.txt%2ebak", ""), Some("version 10.0.0.66 10.0.0.20:80")),
        (
            "nmap scripts",
            decoys(),
            request("/", "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)"),
            Some("version 10.0.0.66 10.0.0.20:80"),
        ),
        ("a scanner's name", decoys(), request("/", "gobuster/3.6"), Some("scanner 10.0.0.66 10.0.0.20:80")),
    ]
}

/// Benign traffic that resembles a scan.
fn twins() -> Vec<Case> {
    let six = (0..6).map(|n| probe_of(f64::from(n) * 0.01, "10.0.0.66", "10.0.0.20:443", 6, 2)).collect();
    let monitor = (0..120)
        .map(|n| probe_of(f64::from(n) * 20.0, "10.0.0.1", &format!("10.0.0.20:{}", [22, 80, 443][n as usize % 3]), 6, 2))
        .collect();
    let backscatter = [0x12, 0x14, 0x04].iter().flat_map(|flags| ports(30, 0.1, 6, *flags)).collect();
    let traceroute = |n: u16| {
        let wire = wire("10.0.0.66:50000", &format!("10.0.0.20:{}", 33_434 + n));
        opened(at(f64::from(n) * 0.1), wire, Opening { ttl: (n / 3) as u8 + 1, ..opening(17) })
    };
    let resolver = |n: u16| {
        let (now, wire) = (at(f64::from(n)), wire(&format!("10.0.0.66:{}", 40_000 + n), &format!("10.9.9.{n}:53")));
        let said = Identified { protocol: "dns", both: true, samples: [String::new(), String::new()] };
        [opened(now, wire, opening(17)), fact(at(f64::from(n) + 0.02), now, 17, wire, Fact::Identified(said))]
    };
    let late = |n: u16| {
        opened(
            at(0.1),
            wire(&format!("10.0.0.66:{}", 40_000 + n), &format!("10.9.9.{n}:443")),
            Opening { tcp_flags: 0x18, payload_bytes: 90, ..opening(6) },
        )
    };
    let server = |n: u16| opened(at(f64::from(n)), wire("10.9.9.9:53", &format!("10.0.0.66:{}", 40_000 + n)), opening(17));
    let multicast = ["224.0.0.251:5353", "239.255.255.250:1900", "255.255.255.255:67", "224.0.0.252:5355", "224.0.0.1:1", "224.0.0.2:2"];
    let announce = (0..40).flat_map(|n| {
        let own = format!("10.0.0.{}", 100 + n);
        [arp(at(f64::from(n)), "02:00:00:00:00:09", &own, &own), arp(at(f64::from(n)), "02:00:00:00:00:09", "0.0.0.0", &own)]
    });
    let cut = |n: u16| {
        let wire = wire("10.0.0.66:40000", &format!("10.0.0.20:{}", n + 1));
        opened(at(f64::from(n)), wire, Opening { tcp_flags: 0, tcp_seq: None, window: None, ..opening(6) })
    };
    vec![
        ("headers cut by the capture", decoys(), (0..60).map(cut).collect(), None),
        ("6 connections at once to one port", decoys(), six, None),
        ("monitoring by a known host", decoys(), monitor, None),
        ("answers whose questions nobody saw", decoys(), backscatter, None),
        ("traceroute", decoys(), (0..90).map(traceroute).collect(), None),
        ("a browser's connections", decoys(), connections(200, |n| format!("10.9.{}.{}:443", n / 200, n % 200)), None),
        ("passive FTP from a decoy", decoys(), connections(30, |n| format!("10.0.0.20:{}", 40_000 + n)), None),
        ("passive FTP from another host", decoys(), connections(30, |n| format!("10.9.9.9:{}", 40_000 + n)), None),
        ("a resolver", decoys(), (0..100).flat_map(resolver).collect(), None),
        ("a capture begun late", decoys(), (0..100).map(late).collect(), None),
        ("a name server's answers", decoys(), (0..60).map(server).collect(), None),
        ("multicast", decoys(), multicast.iter().map(|to| probe_of(1.0, "10.0.0.66", to, 17, 0)).collect(), None),
        ("own address announced", decoys(), announce.collect(), None),
        ("the known gateway's ARP", decoys(), asked(60, "02:00:00:00:00:03", "10.0.0.3"), None),
        ("pages found", decoys(), answers(60, 200), None),
        ("a browser's request", decoys(), request("/index.html", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"), None),
    ]
}

#[test]
fn each_kind_is_found_at_its_threshold_and_not_one_below() {
    for (name, segment, all, expected) in cases() {
        let found = findings(&DETECTOR, &segment, &all);
        assert_eq!(found.first().map(|finding| finding.key.as_str()), expected, "{name}: {found:?}");
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}

#[test]
fn its_benign_twins_raise_nothing() {
    for (name, segment, all, _) in twins() {
        let found = findings(&DETECTOR, &segment, &all);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn an_export_of_a_finding_gives_it_again() {
    for (_, segment, all, _) in cases() {
        check_exports(&DETECTOR, &segment, &all);
    }
    // Long ones, among other traffic, with steps told.
    let mut all = ports(900, 0.01, 6, 2);
    all.extend(hosts(200, 445, "10.8.8"));
    all.extend(echoes(200, "10.9.9"));
    all.extend(asked(180, "02:00:00:00:00:66", "10.0.0.66"));
    all.extend(answers(250, 404));
    all.extend(twins().into_iter().flat_map(|(_, _, all, _)| all));
    all.sort_by_key(|one| one.at);
    assert!(findings(&DETECTOR, &decoys(), &all).len() >= 9);
    check_exports(&DETECTOR, &decoys(), &all);
}

#[test]
fn a_scope_leaves_the_others_out() {
    let mut all = ports(8, 1.0, 6, 2);
    all.extend(hosts(25, 22, "10.9.9"));
    all.sort_by_key(|one| one.at);
    let found = findings(&DETECTOR, &decoys(), &all);
    assert_eq!(exported(&all, &found[0].scope).len(), 8);
    assert_eq!(exported(&all, &found[1].scope).len(), 25);
}

#[test]
fn steps_update_the_same_finding() {
    let found = findings(&DETECTOR, &decoys(), &ports(900, 0.01, 6, 2));
    assert_eq!(found.iter().map(|finding| finding.evidence[0].value).collect::<Vec<_>>(), [8.0, 80.0, 800.0]);
    let ids: std::collections::BTreeSet<_> = found.iter().map(|finding| finding.id(&DETECTOR)).collect();
    assert_eq!((ids.len(), found[2].flow_count, found[2].flows.len()), (1, 800, Finding::MAX_FLOWS));
    assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Low, Severity::Medium, Severity::Medium]);
    let odd = findings(&DETECTOR, &decoys(), &ports(3, 1.0, 6, 0));
    assert_eq!(
        odd.iter().map(|finding| (finding.evidence[0].value, finding.severity)).collect::<Vec<_>>(),
        [(1.0, Severity::Low), (3.0, Severity::Medium)]
    );
}

#[test]
fn one_target_never_hides_another() {
    let mut all = ports(8, 0.1, 6, 2);
    all.extend((0..8).map(|n| probe_of(f64::from(n), "10.0.0.66", &format!("10.7.7.7:{}", n + 1), 6, 2)));
    let found = findings(&DETECTOR, &nothing(), &all);
    assert_eq!(found.iter().map(|finding| finding.target).collect::<Vec<_>>(), [Some(ip("10.0.0.20")), Some(ip("10.7.7.7"))]);
}

#[test]
fn labels_follow_the_vantage() {
    let edge = Arc::new(Segment { vantage: Vantage::Edge, ..Segment::default() });
    let labels = |segment: &Arc<Segment>, all: &[Observation]| findings(&DETECTOR, segment, all)[0].techniques.clone();
    assert_eq!(labels(&nothing(), &ports(8, 1.0, 6, 2)), ["T1046", "T1595.001"]);
    assert_eq!(labels(&edge, &ports(8, 1.0, 6, 2)), ["T1595.001"]);
    assert_eq!(labels(&nothing(), &echoes(10, "10.9.9")), ["T1018", "T1595.001"]);
    assert_eq!(labels(&edge, &request("/nice%20ports%2C/x", "")), ["T1595.002"]);
    assert_eq!(labels(&edge, &answers(20, 404)), ["T1595.003"]);
}

#[test]
fn a_tool_is_named_by_its_packets() {
    type Change = fn(&mut Opening, u16);
    let made = |change: Change| {
        let one = |n: u16| {
            let mut first = Opening { tcp_seq: Some(0x1234_5678), ..opening(6) };
            change(&mut first, n + 1);
            opened(at(f64::from(n)), wire("10.0.0.66:40000", &format!("10.0.0.20:{}", n + 1)), first)
        };
        findings(&DETECTOR, &decoys(), &(0..8).map(one).collect::<Vec<_>>()).remove(0)
    };
    let cases: [(&str, Change); 5] = [
        ("masscan", |first, port| first.ip_id = Some(0x0014 ^ port ^ 0x5678)),
        ("zmap", |first, _| first.ip_id = Some(54_321)),
        ("nmap", |first, _| (first.window, first.tcp_options) = (Some(1024), vec![2])),
        ("hping", |first, _| (first.window, first.tcp_options) = (Some(512), vec![])),
        ("", |_, _| {}),
    ];
    for (tool, change) in cases {
        let found = made(change);
        assert_eq!(found.summary.contains("look like"), !tool.is_empty(), "{}", found.summary);
        assert!(found.summary.contains(tool) && found.evidence.len() == 1 + usize::from(!tool.is_empty()));
        assert_eq!(found.severity, if tool.is_empty() { Severity::Low } else { Severity::Medium });
    }
}

#[test]
fn a_flood_of_sources_is_bounded_and_counted() {
    let one = |n: u32| probe_of(f64::from(n) * 0.001, &format!("172.16.{}.{}", n >> 8, n & 255), "10.0.0.20:22", 6, 2);
    let all: Vec<Observation> = (0..500).map(one).collect();
    let (_, evicted) = findings_with(&DETECTOR, "max_keys = 64", &decoys(), &all);
    assert_eq!(evicted, 2 * (500 - 32), "a port and a host matter each");
    assert_eq!(findings_with(&DETECTOR, "", &decoys(), &all).1, 0);
}

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    for (table, word) in [("ports = 0", "ports"), ("arp = 61", "arp"), ("decoy = 3", "decoy")] {
        let error = (DETECTOR.build)(&table.parse().unwrap(), &decoys()).err().unwrap().to_string();
        assert!(error.contains("[detect.scan]") && error.contains(word), "{error}");
    }
}

#[test]
fn golden_finding() {
    let found = findings(&DETECTOR, &decoys(), &ports(8, 1.0, 6, 2)).remove(0);
    check_golden(&DETECTOR, &found, "59936110-6ce6-8634-ba34-2548286bec30", include_str!("golden.json"));
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let ports = prop_oneof![Just(1u8), Just(6), Just(17), Just(132), any::<u8>()];
    (any::<i64>(), 0u8..4, 0u8..4, any::<u16>(), ports, any::<u8>(), 0u8..8, any::<u16>()).prop_map(
        |(when, from, to, port, protocol, flags, kind, extra)| {
            let now = Timestamp(when);
            let ends = wire(&format!("10.0.0.{from}:{extra}"), &format!("10.0.0.{}:{port}", 20 + to));
            match kind {
                0 => arp(now, "02:00:00:00:00:01", &format!("10.0.0.{from}"), &format!("10.0.1.{}", port % 256)),
                1 => fact(now, now, 6, ends, Fact::Established),
                2 => fact(now, now, 6, ends, Fact::HttpResponse(HttpResponse { status: 404, ..HttpResponse::default() })),
                3 => {
                    let mut refused = flow(now, now, ends);
                    (refused.protocol, refused.icmp, refused.sent.packets) = (1, Some((3, flags % 4)), u64::from(port));
                    record(refused)
                }
                _ => opened(now, ends, Opening { tcp_flags: flags, icmp: Some((flags, 0)), ..opening(protocol) }),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_of_anything_is_answered(all in proptest::collection::vec(any_observation(), 0..60)) {
        for segment in [decoys(), nothing()] {
            let (found, _) = findings_with(&DETECTOR, "max_keys = 32", &segment, &all);
            found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
        }
    }

    /// Whatever is scanned between other contacts, what is told can be told again from its packets.
    #[test]
    fn any_scan_is_found_again(steps in proptest::collection::vec((0u32..40, 0u8..3, 0u8..3, 0u16..12), 1..120)) {
        let mut seconds = 0.0;
        let mut all = Vec::new();
        for (step, from, to, port) in steps {
            seconds += f64::from(step) * 0.25;
            let ends = wire(&format!("10.0.0.{}:{}", 60 + from, 1_024 + all.len()), &format!("10.0.0.{}:{}", 20 + to, port + 1));
            all.push(opened(at(seconds), ends, opening(6)));
        }
        check_exports(&DETECTOR, &decoys(), &all);
    }
}
