use super::*;
use crate::Vantage;
use crate::testing::{at, check_golden, check_shape, end, findings, findings_with, flow, ip, record, speaking, wire};
use glasshive_event::WireText;
use glasshive_event::observation::SessionClosed;
use proptest::prelude::*;

const LIST: &str = "version = 1\ndecoys = [\"10.0.0.20\", \"10.0.0.21\", \"10.0.0.22\"]\n[[known]]\naddress = \"10.0.0.1\"\n";

fn list() -> Arc<Segment> {
    Arc::new(Segment::parse(LIST).unwrap())
}

fn session(number: u16) -> SessionId {
    let [a, b] = number.to_be_bytes();
    SessionId([a, b, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1])
}

fn said(number: u16, seconds: f64, decoy: &str, fact: Fact) -> Observation {
    let ends = wire(&format!("10.0.0.66:{}", 40_000 + number), decoy);
    Observation { at: at(seconds), session: Some(session(number)), flow: None, wire: Some(ends), fact }
}

fn opens(number: u16, seconds: f64, decoy: &str, service: &str) -> Observation {
    let opened = SessionOpened { service: service.into(), decoy: "d".into(), transport: "tcp", ..SessionOpened::default() };
    said(number, seconds, decoy, Fact::SessionOpened(opened))
}

fn tries(number: u16, seconds: f64, decoy: &str, service: &str, user: &str, secret: &str, accepted: bool) -> Observation {
    let login = Login {
        service: service.into(),
        decoy: "d".into(),
        user: user.into(),
        method: "password".into(),
        pivot: (!secret.is_empty()).then(|| secret.to_owned()),
        accepted,
    };
    said(number, seconds, decoy, Fact::Login(login))
}

fn types(number: u16, seconds: f64, decoy: &str, input: &str) -> Observation {
    said(number, seconds, decoy, Fact::Command { input: input.into() })
}

/// Refused logins one a second, each in a session of its own: decoy, user and secret by number.
fn guesses(count: u16, of: impl Fn(u16) -> (String, String, String)) -> Vec<Observation> {
    let one = |n: u16| {
        let (decoy, user, secret) = of(n);
        let now = f64::from(n);
        [opens(n, now, &decoy, "ssh"), tries(n, now + 0.1, &decoy, "ssh", &user, &secret, false)]
    };
    (0..count).flat_map(one).collect()
}

fn same_user(count: u16) -> Vec<Observation> {
    guesses(count, |n| ("10.0.0.20:22".into(), "root".into(), format!("s{n}")))
}

/// Findings without "used": those are told for the first login of anyone.
fn told(segment: &Arc<Segment>, all: &[Observation]) -> Vec<(String, Severity, Vec<&'static str>)> {
    let found = findings(&DETECTOR, segment, all);
    found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    found.into_iter().filter(|one| !one.key.starts_with("used")).map(|one| (one.key, one.severity, one.techniques)).collect()
}

#[test]
fn guessing_is_found_at_its_threshold_and_named_by_its_kind() {
    let own = || "10.0.0.20:22".to_owned();
    let key = "guessing ssh 10.0.0.66";
    for (name, all, expected) in [
        ("5 refused", same_user(5), Some((Severity::Medium, "T1110.001"))),
        ("4 refused", same_user(4), None),
        ("3 accounts, one secret", guesses(3, |n| (own(), format!("u{n}"), "summer".into())), Some((Severity::Medium, "T1110.003"))),
        ("2 accounts", guesses(2, |n| (own(), format!("u{n}"), "summer".into())), None),
        (
            "3 accounts, each its own secret",
            guesses(3, |n| (own(), format!("u{n}"), format!("s{n}"))),
            Some((Severity::Medium, "T1110.004")),
        ),
        ("3 accounts, secrets not known", guesses(3, |n| (own(), format!("u{n}"), String::new())), Some((Severity::Medium, "T1110.001"))),
        (
            "3 decoys",
            guesses(5, |n| (format!("10.0.0.{}:22", 20 + n % 3), "root".into(), format!("s{n}"))),
            Some((Severity::High, "T1110.001")),
        ),
        (
            "2 decoys",
            guesses(5, |n| (format!("10.0.0.{}:22", 20 + n % 2), "root".into(), format!("s{n}"))),
            Some((Severity::Medium, "T1110.001")),
        ),
    ] {
        let expected = expected.map(|(severity, technique)| (key.to_owned(), severity, vec![technique, "T1110"]));
        assert_eq!(told(&list(), &all), expected.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let many = told(&list(), &same_user(40));
    assert_eq!(many.iter().map(|one| one.1).collect::<Vec<_>>(), [Severity::Medium, Severity::High]);
    // Slower than the window.
    let slow: Vec<Observation> = (0..9).map(|n| tries(n, f64::from(n) * 100.0, "10.0.0.20:22", "ssh", "root", "s", false)).collect();
    assert!(told(&list(), &slow).is_empty());
}

#[test]
fn the_accepted_login_names_the_guesses_before_it() {
    let mut all = same_user(7);
    all.extend([
        opens(8, 60.0, "10.0.0.20:22", "ssh"),
        tries(8, 60.5, "10.0.0.20:22", "ssh", "root", "right", true),
        types(8, 61.0, "10.0.0.20:22", "id"),
    ]);
    let found = findings(&DETECTOR, &list(), &all);
    let keys: Vec<_> = found.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(
        keys,
        ["used ssh 10.0.0.66 10.0.0.20", "guessing ssh 10.0.0.66", "accepted ssh 10.0.0.66 10.0.0.20", "commands ssh 10.0.0.66 10.0.0.20"]
    );
    let accepted = &found[2];
    assert_eq!((accepted.severity, &accepted.techniques), (Severity::Critical, &vec!["T1021.004", "T1078"]));
    assert!(accepted.summary.contains("after 7 refused"), "{}", accepted.summary);
    assert_eq!((accepted.evidence[1].value, accepted.sessions.as_slice()), (7.0, [session(8)].as_slice()));
    // The packets are those of the session from its begin.
    assert_eq!(accepted.scope.span(), (Some(at(60.0)), Some(at(60.5))));
    assert_eq!(found[1].sessions.len(), 5);
    assert_eq!(found[1].evidence[1].samples, ["root"]);
    let at_once = findings(&DETECTOR, &list(), &[tries(1, 1.0, "10.0.0.20:21", "ftp", "anonymous", "x", true)]);
    assert_eq!((at_once[0].techniques.as_slice(), at_once.len()), (["T1078"].as_slice(), 1));
    assert!(at_once[0].summary.contains("at once"));
}

#[test]
fn labels_follow_service_and_vantage() {
    let edge = Arc::new(Segment { vantage: Vantage::Edge, ..Segment::parse(LIST).unwrap() });
    let labels = |segment: &Arc<Segment>, service: &str| {
        let all = [
            opens(1, 0.0, "10.0.0.20:22", service),
            tries(1, 1.0, "10.0.0.20:22", service, "u", "s", true),
            types(1, 2.0, "10.0.0.20:22", "w"),
        ];
        findings(&DETECTOR, segment, &all).into_iter().map(|one| one.techniques).collect::<Vec<_>>()
    };
    assert_eq!(labels(&list(), "ssh"), [vec!["T1021.004"], vec!["T1021.004", "T1078"], vec!["T1021.004", "T1059"]]);
    assert_eq!(labels(&edge, "ssh"), [vec!["T1133", "T1021.004"], vec!["T1078", "T1021.004"], vec!["T1059", "T1021.004"]]);
    assert_eq!(labels(&list(), "telnet"), [vec!["T1021"], vec!["T1021", "T1078"], vec!["T1021", "T1059"]]);
    assert_eq!(labels(&list(), "rdp")[0], ["T1021.001"]);
}

#[test]
fn a_decoy_that_reaches_out_is_critical() {
    let out = |source: &str, to: &str, spoken: Option<&str>| {
        let mut carried = flow(at(0.0), at(5.0), wire(source, to));
        carried.application = spoken.and_then(|name| speaking(name, true));
        findings(&DETECTOR, &list(), &[record(carried)])
    };
    let found = out("10.0.0.20:40000", "10.9.9.9:4022", Some("ssh"));
    assert_eq!((found[0].key.as_str(), found[0].severity), ("outbound ssh 10.0.0.20 10.9.9.9", Severity::Critical));
    assert_eq!((found[0].actor, found[0].flows.len()), (Some(ip("10.0.0.20")), 1));
    assert_eq!(out("10.0.0.20:40000", "10.9.9.9:3389", None)[0].techniques, ["T1021.001"]);
    for (source, to, spoken) in
        [("10.9.9.9:1", "10.0.0.20:22", Some("ssh")), ("10.0.0.20:1", "10.9.9.9:443", Some("tls")), ("10.0.0.20:1", "10.9.9.9:443", None)]
    {
        assert!(out(source, to, spoken).is_empty(), "{source} {to}");
    }
    let mut refused = flow(at(0.0), at(5.0), wire("10.0.0.20:1", "10.9.9.9:22"));
    refused.established = false;
    assert!(findings(&DETECTOR, &list(), &[record(refused)]).is_empty());
}

#[test]
fn its_benign_twins_raise_nothing() {
    let mut none = tries(1, 1.0, "10.0.0.20:22", "ssh", "root", "", false);
    if let Fact::Login(login) = &mut none.fact {
        login.method = "none".into();
    }
    let mut works = tries(1, 1.0, "10.0.0.20:22", "ssh", "ansible", "s", true);
    works.wire = Some(wire("10.0.0.1:40000", "10.0.0.20:22"));
    let mut closed = vec![opens(1, 0.0, "10.0.0.20:22", "ssh")];
    closed.push(said(1, 1.0, "10.0.0.20:22", Fact::SessionClosed(SessionClosed::default())));
    for (name, all) in [
        ("a bare connect", closed),
        ("a thousand bare connects", (0..1_000).map(|n| opens(n, f64::from(n), "10.0.0.20:22", "ssh")).collect()),
        ("the question which methods there are", vec![none]),
        ("the net's own works", vec![works]),
        ("a request at a web server without a login", vec![opens(1, 0.0, "10.0.0.20:80", "http")]),
    ] {
        let found = findings(&DETECTOR, &list(), &all);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
    // An honest client offers its keys, one after the other: one try.
    let keys: Vec<Observation> = (0..9u16)
        .map(|n| {
            let mut one = tries(1, f64::from(n), "10.0.0.20:22", "ssh", "root", "", false);
            if let Fact::Login(login) = &mut one.fact {
                login.method = "publickey".into();
            }
            one
        })
        .collect();
    assert!(told(&list(), &keys).is_empty());
}

#[test]
fn the_source_a_trusted_proxy_claims_is_meant() {
    let mut first = opens(1, 0.0, "10.0.0.20:22", "ssh");
    if let Fact::SessionOpened(opened) = &mut first.fact {
        opened.claimed = Some(end("192.0.2.7:999"));
    }
    let found = findings(&DETECTOR, &list(), &[first, tries(1, 1.0, "10.0.0.20:22", "ssh", "root", "s", true)]);
    assert!(found.iter().all(|finding| finding.actor == Some(ip("192.0.2.7"))));
    // The packets are the wire's.
    assert_eq!(found[0].scope.0[0].a, Some(ip("10.0.0.66")));
}

#[test]
fn no_visitor_bytes_in_summary_or_key_and_inert_ones_in_samples() {
    let evil = "\u{1b}[2Jroot\u{202e}";
    let mut all: Vec<Observation> = (0..6).map(|n| tries(n, f64::from(n), "10.0.0.20:22", "ssh", evil, "s", false)).collect();
    all.push(types(6, 9.0, "10.0.0.20:22", evil));
    let mut raw = types(7, 9.5, "10.0.0.20:22", "");
    raw.fact = Fact::Command { input: WireText::from_bytes(b"\xff\x00") };
    all.push(raw);
    for finding in findings(&DETECTOR, &list(), &all) {
        check_shape(&DETECTOR, &finding);
        assert!(!finding.summary.contains("root") && !finding.key.contains("root"), "{finding:?}");
        assert!(finding.evidence.iter().flat_map(|one| &one.samples).all(|sample| !sample.chars().any(char::is_control)));
    }
}

#[test]
fn a_flood_of_sources_is_bounded_and_counted() {
    let one = |n: u16| {
        let mut one = tries(n, f64::from(n), "10.0.0.20:22", "ssh", "root", "s", false);
        one.wire = Some(wire(&format!("172.16.{}.{}:1", n >> 8, n & 255), "10.0.0.20:22"));
        one
    };
    let (_, evicted) = findings_with(&DETECTOR, "max_keys = 64", &list(), &(0..500).map(one).collect::<Vec<_>>());
    assert!(evicted >= 3 * (500 - 64), "{evicted}");
    for (table, word) in [("failures = 0", "failures"), ("many = 61", "many")] {
        assert!((DETECTOR.build)(&table.parse().unwrap(), &list()).err().unwrap().to_string().contains(word));
    }
}

#[test]
fn golden_finding() {
    let mut found = findings(&DETECTOR, &list(), &guesses(3, |n| ("10.0.0.20:22".into(), format!("u{n}"), "summer".into())));
    check_golden(&DETECTOR, &found.remove(1), "cf6e9a08-2adf-8797-b7ae-c0692919f785", include_str!("golden.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_of_anything_is_answered(
        steps in proptest::collection::vec((any::<i64>(), 0u8..5, 0u16..5, 0u8..4, any::<bool>(), ".{0,9}"), 0..60),
    ) {
        let all: Vec<Observation> = steps.into_iter().map(|(when, kind, number, service, flag, text)| {
            let service = ["ssh", "ftp", "telnet", "?"][usize::from(service)];
            let mut one = match kind {
                0 => opens(number, 0.0, "10.0.0.20:22", service),
                1 => types(number, 0.0, "10.0.0.20:22", &text),
                2 => record(flow(Timestamp(when), Timestamp(when.saturating_add(9)), wire("10.0.0.20:22", "10.0.0.9:22"))),
                _ => tries(number, 0.0, "10.0.0.20:22", service, &text, &text, flag),
            };
            one.at = Timestamp(when);
            if flag { one.session = None; }
            one
        }).collect();
        let (found, _) = findings_with(&DETECTOR, "max_keys = 8", &list(), &all);
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}
