//! Flows and findings as an analyst meets them: lists, one finding, the session they belong to, probes,
//! and what the doctor says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{Hive, Node, START, at, closed, envelope};
use glasshive_controller::query::resolve;
use glasshive_event::detail::{Health, Loss, SessionOpen};
use glasshive_event::finding::StoredEvidence;
use glasshive_event::flow::{Application, DirectionBasis, FlowEnd, Side};
use glasshive_event::{
    ConnId, Envelope, FindingId, Flow, FlowId, Kind, PacketMatch, PacketScope, SessionId, Severity, StoredFinding, Timestamp, Tuple,
};
use glasshive_journal::store::Join;

/// Compares with `tests/data/NAME`; `GLASSHIVE_TEST_BLESS=1` writes it anew.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    if std::env::var_os("GLASSHIVE_TEST_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{name}: {} columns: {line}", line.chars().count());
    }
}

fn flow(wire: Tuple, from: i64, to: i64, conn: Option<ConnId>, state: &str) -> Flow {
    Flow {
        flow: FlowId::derive("dmz", 6, wire.source.into(), wire.destination.into(), 7, Timestamp(from)),
        seq: 0,
        end: FlowEnd::Fin,
        first: Timestamp(from),
        last: Timestamp(to),
        conn,
        community_id: "1:wCb3OG7yAFWelaUydu0D+125CLM=".into(),
        protocol: 6,
        wire,
        direction: DirectionBasis::Syn,
        icmp: None,
        layers: vec!["eth".into(), "ipv4".into(), "tcp".into()],
        vlans: vec![],
        sent: Side { packets: 12, payload_bytes: 812, ..Side::default() },
        received: Side { packets: 9, payload_bytes: 4_200, ..Side::default() },
        state: state.into(),
        history: "ShADadFf".into(),
        established: state == "SF",
        rtt_ns: Some(200_000),
        application: Some(Application { protocol: "ssh".into(), both: true, ..Application::default() }),
        loss: false,
    }
}

fn finding(session: SessionId, flow: &Flow) -> StoredFinding {
    StoredFinding {
        finding: FindingId::derive("remote_service", 1, "192.0.2.7 ssh", Timestamp(at(1, 100))),
        // No detector of this build, so that the screen does not change with its words.
        detector: "guessing".into(),
        version: 1,
        at: Timestamp(at(1, 2_000)),
        first: Timestamp(at(1, 100)),
        key: "192.0.2.7 ssh".into(),
        severity: Severity::High,
        confidence: 90,
        techniques: vec!["T1021.004".into(), "T1110.001".into()],
        use_cases: vec!["DUC0159".into()],
        actor: Some("192.0.2.7".parse().unwrap()),
        target: Some("10.0.0.5".parse().unwrap()),
        summary: "31 refused logins from one source within five minutes".into(),
        evidence: vec![StoredEvidence {
            metric: "refused_logins".into(),
            value: 31.0,
            threshold: 5.0,
            window_s: 300,
            samples: vec!["root".into(), "ad\u{1b}[2Jmin".into()],
        }],
        sessions: vec![session],
        flows: vec![flow.flow],
        flow_count: 31,
        scope: PacketScope(vec![PacketMatch::tuple(6, flow.wire, flow.first, flow.last)]),
        late: false,
        cut: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_goes_from_a_finding_to_its_packets() {
    let mut hive = Hive::new().await;
    let (mut decoys, mut sensor) = (Node::new("edge-1", 1), Node::new("eye-1", 2));
    let key = Some(ConnId([7; 16]));
    let open = Envelope { conn: key, ..envelope(1, "ssh") };
    let session = open.session.unwrap();
    decoys.add(at(1, 0), Kind::SessionOpen, &open, &SessionOpen::default());
    let (end, close) = closed(1, 12);
    decoys.add(end, Kind::SessionClose, &open, &close);
    decoys.send(&hive).await;
    let seen = flow(open.wire.unwrap(), at(1, -1), at(1, 12_010), key, "SF");
    let mut knock = open.wire.unwrap();
    knock.destination.port = 23;
    let refused = flow(knock, at(2, 0), at(2, 1), None, "REJ");
    sensor.add(at(1, 12_020), Kind::Flow, &seen.envelope(), &seen);
    sensor.add(at(2, 1), Kind::Flow, &refused.envelope(), &refused);
    let told = finding(session, &seen);
    sensor.add(at(1, 2_000), Kind::Finding, &Envelope::default(), &told);
    sensor.send(&hive).await;

    golden("findings.txt", &hive.run("findings").await.ok());
    let id = told.finding.to_string();
    let story = hive.run(&format!("finding {}", told.finding.short())).await.ok();
    let (copied, shown): (Vec<&str>, Vec<&str>) = story.lines().partition(|line| line.starts_with("tshark "));
    golden("finding.txt", &format!("{}\n", shown.join("\n")));
    golden("probes.txt", &hive.run("sessions --probes").await.ok());
    golden("session-wire.txt", &hive.run(&format!("session {}", session.short())).await.ok());
    let line = format!("tshark -r finding-{}/original.pcapng -Y '{}'", told.finding.short(), told.scope.display_filter());
    assert_eq!(copied, [line.as_str()]);

    // For programs: one object a line, and how each session was joined.
    let objects = hive.run(&format!("finding {id} --json")).await.objects();
    let types: Vec<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["finding", "session", "flow"]);
    assert_eq!(objects[0]["techniques"][0]["name"], "SSH");
    assert_eq!((&objects[0]["vantage"], &objects[0]["tshark"]), (&"edge".into(), &line.into()));
    assert_eq!(objects[0]["evidence"][0]["threshold"], 5.0);
    assert_eq!(hive.run("sessions --json").await.objects()[0]["join"], "exact");
    assert_eq!(hive.run("sessions --json").await.objects()[0]["findings"], 1);
    let objects = hive.run(&format!("session {session} --json")).await.objects();
    assert_eq!(
        objects.iter().map(|object| object["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["session", "flow", "finding", "event", "event"]
    );
    assert_eq!((&objects[1]["join"], &objects[1]["state"]), (&"exact".into(), &"SF".into()));
    assert_eq!(hive.run("sessions --probes --json --source 192.0.2.7").await.objects()[0]["state"], "REJ");

    // What carving and exports ask.
    let cx = &hive.running().context;
    let found = resolve::finding(cx, &id).await.unwrap();
    assert_eq!(
        (found.packets.net.as_str(), found.packets.nodes.as_slice(), &found.packets.scope),
        ("dmz", &["eye-1".to_owned()][..], &told.scope)
    );
    assert_eq!((found.sessions[0].session, found.packets.flows[0].flow, found.whole), (session, seen.flow, true));
    let found = resolve::session(cx, &session.to_string()).await.unwrap();
    assert_eq!((found.joined[0].join, found.packets.nodes.as_slice()), (Join::Exact, &["eye-1".to_owned()][..]));
    assert_eq!(found.packets.scope, told.scope);

    // Filters, and the ways to go wrong.
    for (words, count) in [
        ("--technique T1021", 1),
        ("--technique t1110.001", 1),
        ("--technique T1595", 0),
        ("--min-severity high", 1),
        ("--min-severity critical", 0),
        ("--source 192.0.2.0/24", 1),
        ("--source 198.51.100.7", 0),
        ("--net dmz", 1),
        ("--net lab", 0),
        ("--since 2026-01-31T12:00:00Z --until 2026-01-31T12:02:00Z", 1),
        ("--until 2026-01-31T12:01:00Z", 0),
        ("--limit 1", 1),
    ] {
        assert_eq!(hive.run(&format!("findings --json {words}")).await.objects().len(), count, "{words}");
    }
    for (words, code) in [
        ("finding ffffffff", 3),
        ("finding x", 2),
        ("findings --technique T9999", 2),
        ("findings --min-severity bad", 2),
        ("sessions --probes --user x", 2),
    ] {
        let said = hive.run(words).await;
        assert_eq!(said.code, code, "{words}: {said:?}");
        assert!(!said.err.is_empty(), "{words}");
    }
    // The same with the daemon down.
    hive.stop().await;
    assert_eq!(hive.run(&format!("finding {id}")).await.ok(), story);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_what_helps() {
    let mut hive = Hive::new().await;
    let well = hive.run("doctor").await;
    assert_eq!((well.code, well.out.contains("all is well")), (0, true), "{well:?}");

    // Ten visits an hour ago that no sensor saw, one that it saw, and a loss.
    let (mut decoys, mut sensor) = (Node::new("edge-1", 1), Node::new("eye-1", 2));
    let hour_ago = glasshive_controller::desk::now_ns() - 3_600_000_000_000;
    let shift = hour_ago - START;
    for n in 0..11u8 {
        let mut open = envelope(n, "ssh");
        open.session = Some(SessionId::new(at(n, 0) + shift, [n; 10]));
        decoys.add(at(n, 0) + shift, Kind::SessionOpen, &open, &SessionOpen::default());
        let (end, close) = closed(n, 1);
        decoys.add(end + shift, Kind::SessionClose, &open, &close);
        if n == 0 {
            let seen = flow(open.wire.unwrap(), at(n, 0) + shift, end + shift, None, "SF");
            sensor.add(end + shift, Kind::Flow, &seen.envelope(), &seen);
        }
    }
    decoys.add(
        hour_ago,
        Kind::Loss,
        &Envelope::default(),
        &Loss { place: "udp_queue".into(), count: 3, why: "full".into(), ..Loss::default() },
    );
    sensor.add(hour_ago, Kind::Health, &Envelope::default(), &Health { what: "heartbeat".into(), ..Health::default() });
    decoys.send(&hive).await;
    sensor.send(&hive).await;
    hive.run("enroll eye-9 --net dmz --role sensor").await.ok();
    let ill = hive.run("doctor").await;
    assert_eq!(ill.code, 1, "{ill:?}");
    for said in [
        "node edge-1: 3 not kept within a day",
        "net dmz: no segment list",
        "net dmz: only 1 of 11 sessions have a flow",
        "no NAT between",
        "9.1 % of 11 sessions",
    ] {
        assert!(ill.out.contains(said), "{said}: {}", ill.out);
    }
    assert!(ill.err.contains("3 things are wrong"), "{ill:?}");
    assert!(ill.out.lines().all(|line| line.starts_with("  ") || line.chars().count() <= 80), "{}", ill.out);
    let said = hive.run("doctor --json").await;
    let objects: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| objects.iter().filter(|object| object["type"] == kind).collect::<Vec<_>>();
    assert_eq!(
        (of("trouble").len(), of("net")[0]["sessions_joined"].as_u64(), of("net")[0]["by_interval"].as_u64()),
        (3, Some(1), Some(1))
    );
    assert_eq!(of("fusion")[0]["running"], true);
    assert!(of("node").iter().any(|node| node["node"] == "eye-1"));

    hive.stop().await;
    let down = hive.run("doctor").await;
    assert_eq!(down.code, 1);
    assert!(down.out.contains("the daemon is down") && down.out.contains("start glasshive serve"), "{}", down.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_is_printed_from_the_code() {
    let mut hive = Hive::new().await;
    let text = hive.run("coverage").await.ok();
    let objects = hive.run("coverage --json").await.objects();
    assert_eq!(objects.len(), glasshive_detect::coverage().len());
    for row in &objects {
        assert!(text.contains(row["technique"].as_str().unwrap()) && text.contains(row["detector"].as_str().unwrap()), "{row}");
        for key in ["technique_name", "summary", "topology", "site"] {
            assert!(row[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {row}");
        }
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.ends_with("ATT&CK Enterprise v18\n"), "{text}");
    hive.stop().await;
}
