use super::*;
use crate::store::value;
use glasshive_event::record::{Body, Header};
use glasshive_event::{Endpoint, SessionId, Transport, Tuple};
use serde_json::{Value, json};

const NODE: &str = "decoys-1";

/// A record of `kind` with this detail, in a block of one, as the follower meets it.
fn folded<T>(kind: Kind, seq: u64, detail: Value, use_it: impl FnOnce(&Event<'_>) -> T) -> T {
    with(NODE, LogId([1; 16]), kind.number(), seq, detail, |_| {}, use_it)
}

fn with<T>(
    node: &str,
    log: LogId,
    kind: u16,
    seq: u64,
    detail: Value,
    change: impl FnOnce(&mut Envelope),
    use_it: impl FnOnce(&Event<'_>) -> T,
) -> T {
    let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
    let mut envelope = Envelope {
        kind,
        session: Some(SessionId([9; 16])),
        decoy: Some("web-1".into()),
        service: Some("ssh".into()),
        transport: Some(Transport::Tcp),
        wire: Some(Tuple { source: end("192.0.2.7", 4000), destination: end("198.51.100.1", 22) }),
        ..Envelope::default()
    };
    change(&mut envelope);
    let header = Header { log, seq, wall_ns: 1_000 + seq as i64, mono_ns: 0, boot: [0; 16] };
    let record = Body::encode(&envelope, &detail).unwrap().with_header(&header);
    let mut block = value::start(node, "lab", 5_000, &[0; 32]);
    value::push(&mut block, &record);
    let view = value::BlockView::parse(&block).unwrap();
    let record = view.iter().next().unwrap();
    use_it(&Event::read(record, &view, log, seq, (3, seq)))
}

fn session(steps: &[(Kind, Value)]) -> SessionRow {
    let mut row = SessionRow::default();
    for (seq, (kind, detail)) in (1..).zip(steps) {
        folded(*kind, seq, detail.clone(), |event| fold_session(&mut row, event));
    }
    row
}

#[test]
fn a_whole_session() {
    let row = session(&[
        (Kind::SessionOpen, json!({"persona": "debian"})),
        (Kind::Hello, json!({"protocol": "ssh", "hassh": "h1"})),
        (Kind::Login, json!({"user": "root", "method": "password", "accepted": false, "fingerprint": "SHA256:k"})),
        (Kind::Login, json!({"user": {"hex": "ff00"}, "method": "password", "accepted": true})),
        (Kind::Command, json!({"input": "id"})),
        (Kind::Request, json!({"protocol": "http"})),
        (Kind::Stream, json!({"channel": 0})),
        (Kind::Forward, json!({"host": "x"})),
        (Kind::Malformed, json!({})),
        (Kind::File, json!({"sha256": "ab", "size": 3, "cut_bytes": 5})),
        (
            Kind::SessionClose,
            json!({"reason": "client", "duration_ns": 77, "bytes_in": 10, "bytes_out": 20, "packets_in": 1, "packets_out": 2, "cut_bytes": 4}),
        ),
    ]);
    assert_eq!((row.session, row.node.as_str(), row.net.as_str()), (SessionId([9; 16]), NODE, "lab"));
    assert_eq!((row.decoy.as_str(), row.service.as_str(), row.persona.as_str()), ("web-1", "ssh", "debian"));
    assert_eq!((row.open_ns, row.close_ns, row.last_ns, row.duration_ns), (1_001, Some(1_011), 1_011, Some(77)));
    assert_eq!((row.reason.as_deref(), row.bytes_in, row.bytes_out, row.packets_in, row.packets_out), (Some("client"), 10, 20, 1, 2));
    assert_eq!((row.logins, row.accepted, row.commands, row.requests, row.files), (2, 1, 1, 1, 1));
    assert_eq!((row.streams, row.forwards, row.malformed, row.cut_bytes), (1, 1, 1, 9));
    assert_eq!(row.users, [WireText::from("root"), WireText::from_bytes(&[0xff, 0])]);
    assert_eq!(row.fingerprints, [("hassh".into(), "h1".into()), ("ssh_key".into(), "SHA256:k".into())]);
    assert_eq!((row.first_seq, row.last_seq, row.events), (1, 11, 11));
    assert_eq!(row.spans.len(), 11);
}

#[test]
fn bounds_hold() {
    let logins: Vec<_> =
        (0..50).map(|n| (Kind::Login, json!({"user": format!("{n}{}", "x".repeat(400)), "fingerprint": format!("f{n}")}))).collect();
    let row = session(&logins);
    assert_eq!((row.users.len(), row.fingerprints.len(), row.logins), (MAX_USERS, MAX_FINGERPRINTS, 50));
    assert!(row.users.iter().all(|user| user.to_bytes().len() <= MAX_TEXT));
    assert!(row.users.last().unwrap().shown().starts_with("49"));
    let mut row = SessionRow::default();
    for seq in 1..=2_000 {
        folded(Kind::Stream, seq, json!({}), |event| fold_session(&mut row, event));
    }
    assert!(row.spans.len() <= MAX_SPANS, "{}", row.spans.len());
    for seq in 1..=2_000 {
        assert!(row.spans.iter().any(|span| span.from <= seq && seq <= span.to), "{seq}");
    }
}

#[test]
fn the_same_user_again_moves_to_the_end() {
    let row = session(&[(Kind::Login, json!({"user": "a"})), (Kind::Login, json!({"user": "b"})), (Kind::Login, json!({"user": "a"}))]);
    assert_eq!(row.users, [WireText::from("b"), WireText::from("a")]);
}

#[test]
fn another_node_cannot_write_a_session() {
    let mut row = session(&[(Kind::SessionOpen, json!({})), (Kind::Login, json!({"user": "root"}))]);
    let before = row.clone();
    with("evil", LogId([2; 16]), Kind::Command.number(), 1, json!({"input": "x"}), |_| {}, |event| fold_session(&mut row, event));
    assert_eq!(row, before);
    with("controller", LogId([2; 16]), Kind::Finding.number(), 1, json!({"finding": "f"}), |_| {}, |event| fold_session(&mut row, event));
    assert_eq!((row.findings, row.events), (1, before.events));
}

#[test]
fn a_close_from_the_log_of_a_restart_may_be_read_first() {
    let close = json!({"reason": "node_crash", "duration_ns": 5});
    let fold = |first_open: bool| {
        let mut row = SessionRow::default();
        let open = |row: &mut SessionRow| {
            folded(Kind::SessionOpen, 4, json!({"persona": "p"}), |event| fold_session(row, event));
            folded(Kind::Login, 5, json!({"user": "u"}), |event| fold_session(row, event));
        };
        if first_open {
            open(&mut row);
        }
        with(NODE, LogId([2; 16]), Kind::SessionClose.number(), 9, close.clone(), |_| {}, |event| fold_session(&mut row, event));
        if !first_open {
            open(&mut row);
        }
        row
    };
    assert_eq!(fold(true), fold(false));
    assert_eq!((fold(true).log, fold(true).first_seq, fold(true).last_seq), (LogId([1; 16]), 4, 5));
}

#[test]
fn credentials_do_not_depend_on_order() {
    let logins: Vec<(u64, Value, String)> = (1..=80)
        .map(|n| {
            let detail = json!({"user": "root", "secret_kind": "plain", "secret_pivot": "p", "secret_sealed": format!("s{n}"), "accepted": n % 2 == 0});
            (n, detail, format!("10.0.0.{}", n * 7 % 50 + 1))
        })
        .collect();
    let fold = |order: &mut dyn Iterator<Item = &(u64, Value, String)>| {
        let mut row = CredentialRow::default();
        for (seq, detail, ip) in order {
            let source = |envelope: &mut Envelope| envelope.claimed = Some(Endpoint { ip: ip.parse().unwrap(), port: 1 });
            with(NODE, LogId([1; 16]), Kind::Login.number(), *seq, detail.clone(), source, |event| {
                let Detail::Login(login) = &event.detail else { panic!("{:?}", event.detail) };
                fold_credential(&mut row, event, login);
            });
        }
        row
    };
    let row = fold(&mut logins.iter());
    assert_eq!(row, fold(&mut logins.iter().rev()));
    assert_eq!((row.count, row.accepted, row.first_ns, row.last_ns), (80, 40, 1_001, 1_080));
    assert_eq!((row.sources.len(), row.sources[0].to_string()), (MAX_SOURCES, "10.0.0.1".into()));
    assert!((40..=60).contains(&row.source_count.count()));
    assert_eq!(row.sample.as_ref().map(|sample| (sample.seq, sample.sealed.as_str())), Some((1, "s1")));
    let (mut a, b) = (fold(&mut logins[..30].iter()), fold(&mut logins[30..].iter()));
    merge_credential(&mut a, &b);
    assert_eq!(a, row);
}

#[test]
fn files_hours_sources_users() {
    let mut file = FileRow::default();
    for (seq, name) in [(1, "b"), (2, "a"), (3, "b")] {
        let detail =
            json!({"name": name, "sha256": "AB", "size": 9, "magic": "elf", "direction": "upload", "blob": "bb", "content_sealed": "x"});
        folded(Kind::File, seq, detail, |event| {
            let Detail::File(detail) = &event.detail else { panic!() };
            fold_file(&mut file, event, detail);
        });
    }
    assert_eq!((file.count, file.size, file.magic.as_str(), file.names.len(), file.sessions.len()), (3, 9, "elf", 2, 1));
    assert_eq!((file.blobs, file.inline), (vec![(NODE.to_owned(), "bb".to_owned())], Some((1_001, LogId([1; 16]), 1))));

    let (mut hour, mut source, mut user) = (HourRow::default(), SourceRow::default(), UserRow::default());
    let steps = [
        (Kind::SessionOpen, json!({})),
        (Kind::Login, json!({"user": "u", "accepted": true})),
        (Kind::Command, json!({})),
        (Kind::Request, json!({})),
        (Kind::File, json!({})),
        (Kind::Malformed, json!({})),
        (Kind::Flow, json!({})),
        (Kind::Finding, json!({})),
        (Kind::SessionClose, json!({"bytes_in": 3, "bytes_out": 4})),
    ];
    for (seq, (kind, detail)) in (1..).zip(steps) {
        folded(kind, seq, detail, |event| {
            fold_hour(&mut hour, event, 0);
            fold_source(&mut source, event, "192.0.2.7".parse().unwrap());
            if let Detail::Login(login) = &event.detail {
                fold_user(&mut user, event, login);
            }
        });
    }
    let counts = Counts {
        events: 9,
        sessions: 1,
        logins: 1,
        accepted: 1,
        commands: 1,
        requests: 1,
        files: 1,
        malformed: 1,
        flows: 1,
        findings: 1,
        bytes_in: 3,
        bytes_out: 4,
    };
    assert_eq!((&hour.counts, &source.counts), (&counts, &counts));
    assert_eq!((hour.net.as_str(), hour.service.as_str()), ("lab", "ssh"));
    assert_eq!((user.logins, user.accepted, user.sources.count()), (1, 1, 1));
}

#[test]
fn nodes_count_losses_gaps_and_what_they_do_not_know() {
    let mut row = NodeRow::default();
    folded(Kind::Health, 1, json!({"what": "heartbeat"}), |event| fold_node(&mut row, event));
    folded(Kind::Health, 2, json!({"what": "start"}), |event| fold_node(&mut row, event));
    folded(Kind::Loss, 3, json!({"place": "udp_queue", "count": 4, "bytes": 40}), |event| fold_node(&mut row, event));
    folded(Kind::Loss, 4, json!({"place": "udp_queue", "count": 1}), |event| fold_node(&mut row, event));
    folded(Kind::Gap, 5, json!({"from": 1, "to": 2, "why": "crash"}), |event| fold_node(&mut row, event));
    with(NODE, LogId([1; 16]), 999, 6, json!({}), |_| {}, |event| fold_node(&mut row, event));
    assert_eq!((row.heartbeat_ns, row.first_ns, row.last_ns, row.received_ns), (Some(1_001), 1_001, 1_006, 5_000));
    assert_eq!(row.losses.get("udp_queue"), Some(&(5, 40)));
    assert_eq!((row.gap_count, row.gaps[0].from, row.gaps[0].to), (1, Some(1), Some(2)));
    assert_eq!(
        row.events.iter().map(|(kind, n)| (kind.as_str(), *n)).collect::<Vec<_>>(),
        [("gap", 1), ("health", 2), ("loss", 2), ("unknown", 1)]
    );
}

#[test]
fn details_that_lie_about_their_shape_still_count() {
    for detail in [json!({"user": 7}), json!([7]), json!({"user": {"nothex": 1}}), json!("x")] {
        let row = session(&[(Kind::Login, detail)]);
        assert_eq!((row.logins, row.accepted, row.users.len()), (1, 0, 0));
    }
}

/// Golden vector of row version 1, and JSON of the same row: stored days depend on it.
#[test]
fn golden_session_row() {
    use crate::store::rows::{decode, encode};
    let row = session(&[(Kind::SessionOpen, json!({"persona": "p"})), (Kind::Login, json!({"user": {"hex": "ff"}, "accepted": true}))]);
    let bytes = encode(&row);
    assert_eq!(glasshive_event::text::hex(&bytes), include_str!("golden_session_row.txt").trim());
    assert_eq!(decode::<SessionRow>(&bytes), Some(row.clone()));
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(serde_json::from_str::<SessionRow>(&text).unwrap(), row);
    assert!(text.contains(r#""users":[{"hex":"ff"}]"#), "{text}");
    assert_eq!(decode::<SessionRow>(&[2, 0]), None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::store::fuzz_cases()))]
    /// Whatever a node sends as a record, the fold neither panics nor grows without bound.
    #[test]
    fn arbitrary_records_fold(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300), kind in 0u8..20, json in "[ -~]{0,60}") {
        if let Some(first) = bytes.first_mut() { *first = 1; }
        if bytes.len() > 70 { bytes[57] = 0; bytes[58] = kind; }
        bytes.extend_from_slice(json.as_bytes());
        let mut block = value::start("n", "lab", 5_000, &[0; 32]);
        value::push(&mut block, &bytes);
        let view = value::BlockView::parse(&block).unwrap();
        let event = Event::read(&bytes, &view, LogId([1; 16]), 1, (1, 1));
        let (mut session, mut node) = (SessionRow::default(), NodeRow::default());
        for _ in 0..3 {
            fold_session(&mut session, &event);
            fold_node(&mut node, &event);
        }
        proptest::prop_assert!(crate::store::rows::encode(&session).len() < 4_096);
    }
}
