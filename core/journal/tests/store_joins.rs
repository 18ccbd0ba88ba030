//! Flows meet sessions: by key, by tuple and time, never by chance; findings by id and by session.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "store_support/mod.rs"]
mod support;

use glasshive_event::flow::{DirectionBasis, FlowEnd, Side};
use glasshive_event::{
    Body, ConnId, Endpoint, Envelope, FindingId, Flow, FlowId, Header, Kind, SessionId, Severity, StoredFinding, Timestamp, Transport,
    Tuple,
};
use glasshive_journal::store::*;
use serde_json::json;
use support::*;

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn wire(port: u16) -> Tuple {
    Tuple { source: end(&format!("192.0.2.7:{port}")), destination: end("10.0.0.5:22") }
}

fn flow(port: u16, protocol: u8, first: i64, last: i64, conn: Option<ConnId>) -> Flow {
    let wire = wire(port);
    Flow {
        flow: FlowId::derive("lab", protocol, wire.source.into(), wire.destination.into(), u32::from(port), Timestamp(first)),
        seq: 0,
        end: FlowEnd::Fin,
        first: Timestamp(first),
        last: Timestamp(last),
        conn,
        community_id: String::new(),
        protocol,
        wire,
        direction: DirectionBasis::Syn,
        icmp: None,
        layers: vec![],
        vlans: vec![],
        sent: Side::default(),
        received: Side::default(),
        state: "SF".into(),
        history: String::new(),
        established: protocol == 6,
        rtt_ns: None,
        application: None,
        loss: false,
    }
}

fn add<D: serde::Serialize>(node: &mut Node, at: i64, envelope: Envelope, kind: Kind, detail: &D) {
    let header = Header { log: node.log, seq: node.seq + 1, wall_ns: at, mono_ns: 0, boot: [0; 16] };
    let record = Body::encode(&Envelope { kind: kind.number(), ..envelope }, detail).unwrap().with_header(&header);
    node.raw(&record);
}

fn visit_over(node: &mut Node, n: u64, port: u16, transport: Transport, conn: Option<ConnId>, from: i64, to: i64) -> SessionId {
    let id = session_id(from, n);
    let envelope = Envelope { session: Some(id), transport: Some(transport), wire: Some(wire(port)), conn, ..Envelope::default() };
    add(node, from, envelope.clone(), Kind::SessionOpen, &json!({}));
    add(node, to, envelope, Kind::SessionClose, &json!({"reason": "client"}));
    id
}

async fn joined(store: &StoreHandle, id: SessionId) -> Vec<(u16, Join)> {
    let Lookup::Found(row) = store.session(&id.to_string()).await.unwrap() else { panic!() };
    store.session_flows(&row).await.unwrap().into_iter().map(|joined| (joined.flow.wire.source.port, joined.join)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_meet_their_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let mut decoys = Node::new("decoys", "lab", 1);
    let mut sensor = Node::new("sensor", "lab", 2);
    let key = |n: u8| Some(ConnId([n; 16]));
    // Just before midnight UTC: the flow begins on the day before its session.
    let midnight = T0 - T0.rem_euclid(DAY) + DAY;
    let exact = visit_over(&mut decoys, 1, 1001, Transport::Tcp, key(1), midnight + MS, midnight + SECOND);
    let udp = visit_over(&mut decoys, 2, 1002, Transport::Udp, None, midnight + SECOND, midnight + 2 * SECOND);
    let reused = visit_over(&mut decoys, 3, 1003, Transport::Tcp, key(3), midnight + SECOND, midnight + 2 * SECOND);
    let unseen = visit_over(&mut decoys, 4, 1004, Transport::Tcp, key(4), midnight + SECOND, midnight + 2 * SECOND);
    let no_syn = visit_over(&mut decoys, 5, 1005, Transport::Tcp, None, midnight + SECOND, midnight + 2 * SECOND);
    for flow in [
        flow(1001, 6, midnight - MS, midnight + SECOND, key(1)),
        // Two datagram flows of one tuple: one touches the session within five seconds, one does not.
        flow(1002, 17, midnight + 6 * SECOND, midnight + 7 * SECOND, None),
        flow(1002, 17, midnight + 8 * SECOND, midnight + 9 * SECOND, None),
        // The same port again, another connection.
        flow(1003, 6, midnight + 3 * SECOND, midnight + 4 * SECOND, key(33)),
        flow(1005, 6, midnight, midnight + 2 * SECOND, key(5)),
        Flow { established: false, state: "S0".into(), ..flow(1006, 6, midnight, midnight, key(6)) },
        Flow { established: false, state: "REJ".into(), ..flow(1007, 6, midnight + SECOND, midnight + SECOND, None) },
    ] {
        add(&mut sensor, flow.last.0, flow.envelope(), Kind::Flow, &flow);
    }
    // A long flow's second record replaces the first, and an older one does not come back.
    let later = Flow { seq: 2, last: Timestamp(midnight + 60 * SECOND), ..flow(1001, 6, midnight - MS, midnight, key(1)) };
    add(&mut sensor, midnight + 60 * SECOND, later.envelope(), Kind::Flow, &later);
    let stale = Flow { seq: 1, ..later.clone() };
    add(&mut sensor, midnight + 61 * SECOND, stale.envelope(), Kind::Flow, &stale);
    handle.append(sensor.batch(midnight + 70 * SECOND)).await.unwrap();
    handle.append(decoys.batch(midnight + 70 * SECOND)).await.unwrap();
    handle.settled().await.unwrap();

    assert_eq!(joined(&handle, exact).await, [(1001, Join::Exact)]);
    assert_eq!(joined(&handle, udp).await, [(1002, Join::Interval)]);
    assert_eq!(joined(&handle, reused).await, []);
    assert_eq!(joined(&handle, unseen).await, []);
    assert_eq!(joined(&handle, no_syn).await, [(1005, Join::Interval)]);
    // The same in a list, beside a session of a net without a sensor.
    let mut blind = Node::new("blind", "elsewhere", 3);
    let alone = visit_over(&mut blind, 6, 1001, Transport::Tcp, None, midnight + MS, midnight + SECOND);
    handle.append(blind.batch(midnight + 70 * SECOND)).await.unwrap();
    handle.settled().await.unwrap();
    let rows = all_sessions(&handle, SessionQuery::default(), 100).await;
    let joins = handle.joins(rows.clone()).await.unwrap();
    let of = |id| joins[rows.iter().position(|row| row.session == id).unwrap()];
    let ids = [exact, udp, reused, unseen, no_syn, alone];
    assert_eq!(ids.map(of), [Some(Join::Exact), Some(Join::Interval), None, None, Some(Join::Interval), None]);
    let row = handle.flow(later.flow).await.unwrap().unwrap();
    assert_eq!((row.number, row.records, row.last_ns), (2, 3, midnight + 60 * SECOND));
    assert_eq!(handle.flow_sessions(&row).await.unwrap(), [(exact, Join::Exact)]);

    let rates = handle.join_rates(JoinQuery::default()).await.unwrap();
    let expected = JoinRate {
        net: "lab".into(),
        sessions: 4,
        sessions_joined: 2,
        by_interval: 1,
        flows: 3,
        flows_joined: 2,
        flows_seen: 7,
        capped: false,
    };
    assert_eq!(rates, [JoinRate { net: "elsewhere".into(), sessions: 1, ..JoinRate::default() }, expected]);
    assert_eq!(handle.join_rates(JoinQuery { since: Some(midnight + HOUR), ..JoinQuery::default() }).await.unwrap(), []);

    let probes = |limit, cursor| FlowQuery { probes: true, limit, cursor, ..FlowQuery::default() };
    let page = handle.flows(probes(1, None)).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["REJ"]);
    let page = handle.flows(probes(1, page.next)).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["S0"]);
    assert_eq!(page.next, None);
    let other = FlowQuery { source: "198.51.100.0/24".parse().ok(), ..probes(9, None) };
    assert!(handle.flows(other).await.unwrap().rows.is_empty());
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_found_updated_and_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let mut decoys = Node::new("decoys", "lab", 1);
    let mut desk = Node::new("controller", "lab", 2);
    let session = visit_over(&mut decoys, 1, 1001, Transport::Tcp, None, T0, T0 + SECOND);
    let finding = |id: u8, at: i64, severity| StoredFinding {
        finding: FindingId([id; 16]),
        at: Timestamp(at),
        first: Timestamp(T0),
        severity,
        techniques: vec!["T1021.004".into()],
        actor: Some("192.0.2.7".parse().unwrap()),
        sessions: vec![session, session_id(T0 - 40 * DAY, 9)],
        ..StoredFinding::default()
    };
    // Told, told again a day later, and an old telling read last.
    for (at, severity) in [(T0 + SECOND, Severity::Medium), (T0 + DAY, Severity::High), (T0 + 2 * SECOND, Severity::Low)] {
        add(&mut desk, at, Envelope::default(), Kind::Finding, &finding(0xab, at, severity));
    }
    let mut other = finding(0xac, T0 + 3 * SECOND, Severity::Critical);
    (other.late, other.techniques) = (true, vec!["T1595".into()]);
    add(&mut desk, T0 + 3 * SECOND, Envelope::default(), Kind::Finding, &other);
    handle.append(desk.batch(T0 + DAY)).await.unwrap();
    handle.append(decoys.batch(T0 + DAY)).await.unwrap();
    handle.settled().await.unwrap();

    let list =
        async |query: FindingQuery| -> Vec<u8> { handle.findings(query).await.unwrap().rows.iter().map(|row| row.finding.0[0]).collect() };
    let all = FindingQuery::default;
    assert_eq!(list(all()).await, [0xab, 0xac]);
    assert_eq!(list(FindingQuery { min_severity: Severity::Critical, ..all() }).await, [0xac]);
    assert_eq!(list(FindingQuery { technique: Some("T1021".into()), ..all() }).await, [0xab]);
    assert_eq!(list(FindingQuery { technique: Some("T1021.00".into()), ..all() }).await, [0u8; 0]);
    assert_eq!(list(FindingQuery { source: "192.0.2.0/24".parse().ok(), net: Some("lab".into()), ..all() }).await, [0xab, 0xac]);
    assert_eq!(list(FindingQuery { source: "192.0.3.0/24".parse().ok(), ..all() }).await, [0u8; 0]);
    assert_eq!(list(FindingQuery { since: Some(T0 + 4 * SECOND), ..all() }).await, [0xab]);
    assert_eq!(list(FindingQuery { until: Some(T0 + 4 * SECOND), ..all() }).await, [0xac]);
    let page = handle.findings(FindingQuery { limit: 1, ..all() }).await.unwrap();
    assert_eq!(list(FindingQuery { limit: 1, cursor: page.next, ..all() }).await, [0xac]);

    let Lookup::Found(row) = handle.finding("abababab").await.unwrap() else { panic!() };
    assert_eq!((row.severity, row.at_ns, row.records, row.late), (Severity::High, T0 + DAY, 3, false));
    assert!(matches!(handle.finding(&FindingId([0xac; 16]).to_string()).await.unwrap(), Lookup::Found(row) if row.late));
    assert!(matches!(handle.finding("ffff").await.unwrap(), Lookup::NotFound));
    assert!(handle.finding("x").await.is_err());
    let of: Vec<_> = handle.session_findings(session).await.unwrap().iter().map(|row| row.finding.0[0]).collect();
    assert_eq!(of, [0xab, 0xac]);
    let Lookup::Found(visit) = handle.session(&session.to_string()).await.unwrap() else { panic!() };
    assert_eq!((visit.findings, visit.events), (2, 2));
    // A session of long ago that a finding names makes no day.
    assert!(!dir.path().join("summary").join(Timestamp(T0 - 40 * DAY).day()).exists());
    store.close();
}

/// For its printed numbers: nothing about time is asserted.
#[tokio::test(flavor = "multi_thread")]
async fn rates_over_many() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, _) = open(config(dir.path())).unwrap();
    let (mut decoys, mut sensor) = (Node::new("decoys", "lab", 1), Node::new("sensor", "lab", 2));
    let many: u64 = 5_000;
    for n in 0..many {
        let from = T0 + n as i64 * 100 * MS;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let port = 1_024 + (n % 60_000) as u16;
        visit_over(&mut decoys, n, port, Transport::Tcp, Some(ConnId(key)), from, from + SECOND);
        let seen = flow(port, 6, from, from + SECOND, Some(ConnId(key)));
        add(&mut sensor, from + SECOND, seen.envelope(), Kind::Flow, &seen);
        if n % 500 == 499 {
            handle.append(decoys.batch(from)).await.unwrap();
            handle.append(sensor.batch(from)).await.unwrap();
        }
    }
    handle.settled().await.unwrap();
    let begin = std::time::Instant::now();
    let rates = handle.join_rates(JoinQuery::default()).await.unwrap();
    eprintln!("join rates over {many} sessions and flows: {:?}", begin.elapsed());
    assert_eq!((rates[0].sessions, rates[0].sessions_joined, rates[0].flows, rates[0].flows_joined), (many, many, many, many));
    let begin = std::time::Instant::now();
    let page = handle.flows(FlowQuery { probes: true, ..FlowQuery::default() }).await.unwrap();
    eprintln!("probes among {many} flows, none: {:?}", begin.elapsed());
    assert!(page.rows.is_empty());
    store.close();
}
