//! Which packets a finding or a session means: for carving, for exports and for the tshark line of a
//! finding, so that all of them name the same frames.

use super::{Context, sessions};
use crate::desk;
use crate::fail::Failure;
use glasshive_event::flow::FlowEnd;
use glasshive_event::{FlowId, PacketMatch, PacketScope, SessionId, StoredFinding, Timestamp, Tuple};
use glasshive_journal::store::{FindingRow, FlowRow, JoinedFlow, Lookup, SLACK_NS, SessionRow};
use glasshive_link::name::Role;
use std::collections::BTreeSet;

/// Packets, and who may hold them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packets {
    /// The net.
    pub net: String,
    /// Sensors to ask: those that saw the flows, or all of the net when no flow is known.
    pub nodes: Vec<String>,
    /// Which packets.
    pub scope: PacketScope,
    /// The flows they belong to, oldest first.
    pub flows: Vec<FlowRow>,
}

/// A finding with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedFinding {
    /// Its row.
    pub row: FindingRow,
    /// Its newest record; made from the row when retention deleted the record.
    pub detail: StoredFinding,
    /// Whether the record is still there.
    pub whole: bool,
    /// Its sessions, oldest first; those retention deleted are missing.
    pub sessions: Vec<SessionRow>,
    /// Its packets.
    pub packets: Packets,
}

/// A session with its flows.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedSession {
    /// Its row.
    pub row: SessionRow,
    /// Its flows and how each was joined.
    pub joined: Vec<JoinedFlow>,
    /// Its packets.
    pub packets: Packets,
}

/// The finding a person means.
pub async fn find(cx: &Context, id: &str) -> Result<FindingRow, Failure> {
    let typed = id.trim();
    if typed.len() < 4 || typed.len() > 36 || !typed.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(Failure::usage(format!(
            "{:?} is not a finding id: give all of it, or at least 4 digits of its start or end",
            typed.chars().take(40).collect::<String>()
        )));
    }
    match cx.store.finding(typed).await? {
        Lookup::Found(row) => Ok(*row),
        Lookup::NotFound => Err(Failure::not_found(format!("no finding {typed}: list them with glasshive findings"))),
        Lookup::Ambiguous(rows) => {
            let ids: Vec<_> = rows.iter().take(4).map(|row| row.finding.to_string()).collect();
            Err(Failure::usage(format!("{typed} fits several findings: {}; give more digits", ids.join(", "))))
        }
    }
}

/// A finding, its sessions and its packets.
pub async fn finding(cx: &Context, id: &str) -> Result<ResolvedFinding, Failure> {
    let row = find(cx, id).await?;
    let stored = cx.store.event(row.log, row.seq).await?.and_then(|stored| stored.view()?.detail::<StoredFinding>().ok());
    let whole = stored.is_some();
    let detail = stored.unwrap_or_else(|| of_row(&row));
    let mut sessions = Vec::new();
    for session in &detail.sessions {
        sessions.extend(session_row(cx, session).await?);
    }
    sessions.sort_by_key(|row| (row.open_ns, row.session));
    let mut flows = Vec::new();
    for flow in &detail.flows {
        flows.extend(cx.store.flow(*flow).await?);
    }
    let mut scope = detail.scope.clone();
    if scope.0.is_empty() {
        // A detector of stored events may know sessions only: their packets are its packets.
        for session in &sessions {
            let joined = cx.store.session_flows(session).await?;
            scope.0.extend(session_scope(session, &joined).0);
            flows.extend(joined.into_iter().map(|joined| joined.flow));
        }
    }
    if scope.0.is_empty() {
        scope = host_scope(&detail);
    }
    let packets = packets(cx, row.net.clone(), scope, flows);
    Ok(ResolvedFinding { row, detail, whole, sessions, packets })
}

/// A session and its packets.
pub async fn session(cx: &Context, id: &str) -> Result<ResolvedSession, Failure> {
    let row = sessions::find(cx, id).await?;
    let joined = cx.store.session_flows(&row).await?;
    let flows = joined.iter().map(|joined| joined.flow.clone()).collect();
    let packets = packets(cx, row.net.clone(), session_scope(&row, &joined), flows);
    Ok(ResolvedSession { row, joined, packets })
}

/// The session of that id, when it is still there.
pub(super) async fn session_row(cx: &Context, id: &SessionId) -> Result<Option<SessionRow>, Failure> {
    Ok(match cx.store.session(&id.to_string()).await? {
        Lookup::Found(row) => Some(*row),
        _ => None,
    })
}

fn packets(cx: &Context, net: String, scope: PacketScope, mut flows: Vec<FlowRow>) -> Packets {
    let mut seen: BTreeSet<FlowId> = BTreeSet::new();
    flows.retain(|flow| seen.insert(flow.flow));
    flows.sort_by_key(|flow| (flow.first_ns, flow.flow));
    let mut nodes: BTreeSet<String> = flows.iter().map(|flow| flow.node.clone()).collect();
    if let (true, Some(identity)) = (nodes.is_empty(), &cx.identity) {
        let sensors = identity.nodes().into_iter().filter(|(_, entry)| entry.role == Role::Sensor && entry.net == net);
        nodes.extend(sensors.filter(|(_, entry)| entry.revoked_ns.is_none()).map(|(name, _)| name.to_string()));
    }
    Packets { net, nodes: nodes.into_iter().collect(), scope, flows }
}

/// The packets of a session's flows; without a flow, those of its tuple around its time.
fn session_scope(row: &SessionRow, joined: &[JoinedFlow]) -> PacketScope {
    if !joined.is_empty() {
        return PacketScope(joined.iter().map(|joined| flow_match(&joined.flow)).collect());
    }
    let (Some(source), Some(destination), Some(transport)) = (row.source, row.destination, row.transport) else {
        return PacketScope::default();
    };
    let end = row.close_ns.unwrap_or_else(|| row.last_ns.max(desk::now_ns()));
    let span = (row.open_ns.saturating_sub(SLACK_NS), end.saturating_add(SLACK_NS));
    PacketScope(vec![PacketMatch::tuple(transport.number(), Tuple { source, destination }, Timestamp(span.0), Timestamp(span.1))])
}

/// All of a flow's packets: those of one that has not ended may still come.
fn flow_match(flow: &FlowRow) -> PacketMatch {
    let last = if flow.end == FlowEnd::Active { flow.last_ns.max(desk::now_ns()) } else { flow.last_ns };
    PacketMatch::tuple(flow.protocol, flow.wire, Timestamp(flow.first_ns), Timestamp(last))
}

fn host_scope(detail: &StoredFinding) -> PacketScope {
    let host = detail.actor.or(detail.target);
    PacketScope(host.map(|host| PacketMatch::host(host, detail.first, detail.at)).into_iter().collect())
}

fn of_row(row: &FindingRow) -> StoredFinding {
    StoredFinding {
        finding: row.finding,
        detector: row.detector.clone(),
        version: row.version,
        at: Timestamp(row.at_ns),
        first: Timestamp(row.first_ns),
        key: row.key.clone(),
        severity: row.severity,
        confidence: row.confidence,
        techniques: row.techniques.clone(),
        use_cases: row.use_cases.clone(),
        actor: row.actor,
        target: row.target,
        summary: row.summary.clone(),
        sessions: row.sessions.clone(),
        flow_count: row.flow_count,
        late: row.late,
        ..StoredFinding::default()
    }
}
