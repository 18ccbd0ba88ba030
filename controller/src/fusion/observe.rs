//! From a stored record to what detectors see. The only place that knows both.

use glasshive_event::detail::{Command, Login, SessionClose};
use glasshive_event::observation::{self, Fact, Observation};
use glasshive_event::{Envelope, Flow, Kind, Timestamp};
use glasshive_journal::store::StoredEvent;

/// A clock further ahead than this is not believed: such a record counts as happened when it came.
pub const AHEAD_NS: i64 = 30_000_000_000;

/// Kinds that become observations.
pub const KINDS: [Kind; 5] = [Kind::SessionOpen, Kind::SessionClose, Kind::Login, Kind::Command, Kind::Flow];

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
pub fn observe(stored: &StoredEvent) -> Seen {
    let Some(view) = stored.view() else { return Seen::Unreadable };
    let Ok((envelope, json)) = view.split() else { return Seen::Unreadable };
    let Some(kind) = Kind::from_number(envelope.kind) else { return Seen::Nothing };
    match fact(kind, &envelope, json) {
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

fn fact(kind: Kind, envelope: &Envelope, json: &str) -> Result<Option<Fact>, serde_json::Error> {
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
        _ => return Ok(None),
    }))
}
