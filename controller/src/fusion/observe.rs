//! From a stored record to what detectors see. The only place that knows both.

use glasshive_event::detail::{Blocked, Command, Health, Login, Loss, SessionClose};
use glasshive_event::observation::{self, Fact, Hole, Observation, Watcher};
use glasshive_event::{Envelope, Flow, Kind, Timestamp};
use glasshive_journal::store::StoredEvent;

/// A clock further ahead than this is not believed: such a record counts as happened when it came.
pub const AHEAD_NS: i64 = 30_000_000_000;

/// Kinds that become observations.
pub const KINDS: [Kind; 9] =
    [Kind::SessionOpen, Kind::SessionClose, Kind::Login, Kind::Command, Kind::Flow, Kind::Health, Kind::Loss, Kind::Gap, Kind::Blocked];

/// Losses are written in the rhythm of heartbeats: what was lost was lost within this long before.
const LOST_WITHIN_NS: i64 = 60_000_000_000;
/// Places whose losses make no connection unknown; a flood of datagrams must not blind the detectors.
const HARMLESS: [&str; 6] = ["udp_queue", "udp_session", "stream_cap", "blob_quota", "wall_reader", "wall_kinds"];

/// What a node watches with, by its name.
pub type Watchers = dyn Fn(&str) -> Option<Watcher> + Send + Sync;

/// What a record is to the detectors.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A fact.
    Fact(Box<Observation>),
    /// Nothing detectors look at.
    Nothing,
    /// This build cannot read it.
    Unreadable,
}

/// The time a record is ordered by, nanoseconds UTC.
pub fn time(stored: &StoredEvent) -> i64 {
    let wall = stored.view().map_or(stored.received_ns, |view| view.header.wall_ns);
    if wall > stored.received_ns.saturating_add(AHEAD_NS) { stored.received_ns } else { wall }
}

/// The observation of a record.
pub fn observe(stored: &StoredEvent, watchers: &Watchers) -> Seen {
    let Some(view) = stored.view() else { return Seen::Unreadable };
    let Ok((envelope, json)) = view.split() else { return Seen::Unreadable };
    let Some(kind) = Kind::from_number(envelope.kind) else { return Seen::Nothing };
    let watcher = || watchers(&stored.node);
    match fact(kind, &envelope, json, time(stored), &watcher) {
        Ok(None) => Seen::Nothing,
        Err(_) => Seen::Unreadable,
        Ok(Some(fact)) => {
            let (flow, wire) = match &fact {
                Fact::Flow(flow) => (Some(flow.flow), Some(flow.wire)),
                _ => (None, envelope.wire),
            };
            let at = Timestamp(time(stored));
            Seen::Fact(Box::new(Observation { at, session: envelope.session, flow, wire, fact }))
        }
    }
}

/// Numbers of [`KINDS`], for a question to the store.
pub fn kinds() -> Vec<u16> {
    KINDS.iter().map(|kind| kind.number()).collect()
}

/// Records of a log that will never come, between the times of two that did.
pub fn hole(node: &str, since_ns: i64, until_ns: i64, watchers: &Watchers) -> Option<Box<Observation>> {
    let fact = Fact::Hole(Hole { watcher: watchers(node)?, since: Timestamp(since_ns.min(until_ns)), until: Timestamp(until_ns) });
    Some(Box::new(Observation { at: Timestamp(until_ns), session: None, flow: None, wire: None, fact }))
}

fn fact(
    kind: Kind,
    envelope: &Envelope,
    json: &str,
    at: i64,
    watcher: &dyn Fn() -> Option<Watcher>,
) -> Result<Option<Fact>, serde_json::Error> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    Ok(Some(match kind {
        Kind::SessionOpen => Fact::SessionOpened(observation::SessionOpened {
            decoy: name(&envelope.decoy),
            service: name(&envelope.service),
            transport: envelope.transport.map_or("", |transport| transport.name()),
            conn: envelope.conn,
            parent: envelope.parent,
            claimed: envelope.claimed,
        }),
        Kind::SessionClose => {
            let close: SessionClose = serde_json::from_str(json)?;
            Fact::SessionClosed(observation::SessionClosed {
                reason: close.reason,
                bytes_in: close.bytes_in,
                bytes_out: close.bytes_out,
                duration_ns: close.duration_ns,
            })
        }
        Kind::Login => {
            let login: Login = serde_json::from_str(json)?;
            Fact::Login(observation::Login {
                service: name(&envelope.service),
                decoy: name(&envelope.decoy),
                user: login.user,
                method: login.method,
                pivot: login.secret_pivot,
                accepted: login.accepted,
            })
        }
        Kind::Command => Fact::Command { input: serde_json::from_str::<Command>(json)?.input },
        Kind::Flow => Fact::Flow(Box::new(serde_json::from_str::<Flow>(json)?)),
        Kind::Blocked => {
            let blocked: Blocked = serde_json::from_str(json)?;
            Fact::Blocked(observation::Blocked {
                direction: blocked.direction,
                protocol: blocked.protocol,
                flags: blocked.flags,
                icmp: blocked.icmp,
                interface: blocked.interface,
                prefix: blocked.prefix,
                uid: blocked.uid,
                total: blocked.total,
            })
        }
        Kind::Health => {
            let health: Health = serde_json::from_str(json)?;
            match watcher().filter(|_| matches!(health.what.as_str(), "heartbeat" | "start")) {
                Some(watcher) => Fact::Alive { watcher },
                None => return Ok(None),
            }
        }
        Kind::Loss | Kind::Gap => {
            let harmless = kind == Kind::Loss && HARMLESS.contains(&serde_json::from_str::<Loss>(json)?.place.as_str());
            match watcher().filter(|_| !harmless) {
                Some(watcher) => Fact::Hole(Hole { watcher, since: Timestamp(at.saturating_sub(LOST_WITHIN_NS)), until: Timestamp(at) }),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::detail::Gap;
    use glasshive_event::{Body, Header, LogId};
    use serde_json::{Value, json};

    fn stored(node: &str, kind: Kind, wall_ns: i64, received_ns: i64, detail: &Value) -> StoredEvent {
        let body = Body::encode(&Envelope { kind: kind.number(), ..Envelope::default() }, detail).unwrap();
        let header = Header { log: LogId([1; 16]), seq: 1, wall_ns, mono_ns: 0, boot: [0; 16] };
        StoredEvent { node: node.into(), net: "dmz".into(), received_ns, log: header.log, seq: 1, record: body.with_header(&header) }
    }

    fn watchers(node: &str) -> Option<Watcher> {
        match node {
            "eye" => Some(Watcher::Sensor),
            "edge" => Some(Watcher::Decoys),
            _ => None,
        }
    }

    #[test]
    fn every_kind_says_what_it_is() {
        let seen = |node: &str, kind, detail: Value| observe(&stored(node, kind, 90_000_000_000, 90_000_000_000, &detail), &watchers);
        let fact = |node: &str, kind, detail: Value| match seen(node, kind, detail) {
            Seen::Fact(observation) => Some(observation.fact),
            _ => None,
        };
        assert!(matches!(fact("edge", Kind::SessionOpen, json!({})), Some(Fact::SessionOpened(_))));
        assert!(
            matches!(fact("edge", Kind::SessionClose, json!({"bytes_in": 7})), Some(Fact::SessionClosed(closed)) if closed.bytes_in == 7)
        );
        assert!(matches!(fact("edge", Kind::Login, json!({"user": "root", "accepted": true})), Some(Fact::Login(login)) if login.accepted));
        assert!(matches!(fact("edge", Kind::Command, json!({"input": "id"})), Some(Fact::Command { .. })));
        assert!(
            matches!(fact("edge", Kind::Blocked, json!({"direction": "out", "total": 3})), Some(Fact::Blocked(blocked)) if blocked.total == 3)
        );
        assert_eq!(fact("eye", Kind::Health, json!({"what": "heartbeat"})), Some(Fact::Alive { watcher: Watcher::Sensor }));
        assert_eq!(fact("eye", Kind::Health, json!({"what": "stop"})), None);
        assert_eq!(fact("stranger", Kind::Health, json!({"what": "heartbeat"})), None);
        let hole = Fact::Hole(Hole { watcher: Watcher::Decoys, since: Timestamp(30_000_000_000), until: Timestamp(90_000_000_000) });
        assert_eq!(fact("edge", Kind::Loss, json!({"place": "accept", "count": 1})), Some(hole.clone()));
        assert_eq!(fact("edge", Kind::Loss, json!({"place": "udp_queue", "count": 1})), None);
        assert_eq!(fact("edge", Kind::Gap, serde_json::to_value(Gap::default()).unwrap()), Some(hole));
        assert_eq!(seen("edge", Kind::Stream, json!({})), Seen::Nothing);
        assert_eq!(seen("edge", Kind::Login, json!({"user": 7})), Seen::Unreadable);
        assert_eq!(seen("eye", Kind::Flow, json!({"flow": "x"})), Seen::Unreadable);
        let broken = StoredEvent { record: vec![9; 80], ..stored("edge", Kind::Login, 0, 0, &json!({})) };
        assert_eq!(observe(&broken, &watchers), Seen::Unreadable);
    }

    #[test]
    fn a_clock_far_ahead_is_not_believed() {
        for (wall, received, expected) in [(5, 9, 5), (AHEAD_NS + 9, 9, AHEAD_NS + 9), (AHEAD_NS + 10, 9, 9)] {
            assert_eq!(time(&stored("edge", Kind::Stream, wall, received, &json!({}))), expected);
        }
    }
}
