//! The sessions and flows of one wire tuple, and how they are joined: by the key of the connection
//! where both have it, else by overlapping time.

use super::judge::{Mismatch, What};
use super::{APART, Settings, after};
use glasshive_event::flow::{DirectionBasis, FlowEnd};
use glasshive_event::observation::{SessionClosed, SessionOpened};
use glasshive_event::{ConnId, Flow, FlowId, SessionId, Timestamp};

/// Connections of one tuple kept at once; a tuple comes again only after its ports were used up.
const MAX: usize = 8;

/// What the sensor says.
#[derive(Debug, Clone)]
pub(super) struct Flowed {
    flow: FlowId,
    conn: Option<ConnId>,
    first: Timestamp,
    last: Timestamp,
    end: FlowEnd,
    /// The port is declared open: somebody must have answered there.
    declared: bool,
    /// Whether its bytes can be counted on.
    whole: bool,
    loss: bool,
    sent: u64,
    received: u64,
    settled: bool,
}

impl Flowed {
    pub(super) fn new(flow: &Flow, declared: bool) -> Self {
        let clean = |side: &glasshive_event::flow::Side| side.missed_bytes == 0 && side.truncated == 0;
        Self {
            flow: flow.flow,
            conn: flow.conn,
            first: flow.first,
            last: flow.last,
            end: flow.end,
            declared,
            whole: flow.is_final() && !flow.loss && flow.direction == DirectionBasis::Syn && clean(&flow.sent) && clean(&flow.received),
            loss: flow.loss,
            sent: flow.sent.payload_bytes,
            received: flow.received.payload_bytes,
            settled: false,
        }
    }
}

/// What the decoy says.
#[derive(Debug, Clone)]
pub(super) struct Seated {
    session: SessionId,
    conn: Option<ConnId>,
    opened: Timestamp,
    closed: Option<(Timestamp, SessionClosed)>,
    settled: bool,
}

impl Seated {
    pub(super) fn new(session: SessionId, at: Timestamp, opened: &SessionOpened) -> Self {
        Self { session, conn: opened.conn, opened: at, closed: None, settled: false }
    }

    pub(super) fn close(&mut self, at: Timestamp, closed: &SessionClosed) {
        self.closed = Some((at, SessionClosed { reason: closed.reason.chars().take(16).collect(), ..closed.clone() }));
    }

    fn until(&self) -> Timestamp {
        self.closed.as_ref().map_or(self.opened, |(at, _)| *at)
    }

    /// When the sensor must have spoken of it.
    pub(super) fn due(&self, settings: &Settings) -> i64 {
        let ended = after(self.until(), settings.grace_s);
        let by_visitor = self.closed.as_ref().is_some_and(|(_, closed)| closed.reason == "client");
        if by_visitor { ended } else { ended.max(after(self.opened, settings.record_s.saturating_add(settings.grace_s))) }
    }
}

/// All of one tuple.
#[derive(Debug, Default)]
pub(super) struct Pair {
    sessions: Vec<Seated>,
    flows: Vec<Flowed>,
}

impl Pair {
    /// Takes a record of a flow, the newer of two; returns how many were forgotten for it.
    pub(super) fn flow(&mut self, flow: Flowed) -> u64 {
        if let Some(old) = self.flows.iter_mut().find(|old| old.flow == flow.flow) {
            if flow.last >= old.last {
                *old = Flowed { settled: old.settled, ..flow };
            }
            return 0;
        }
        let dropped = bound(&mut self.flows, |flow| flow.settled);
        self.flows.push(flow);
        dropped
    }

    /// Takes a session.
    pub(super) fn sit(&mut self, seat: Seated) -> u64 {
        if self.sessions.iter().any(|old| old.session == seat.session) {
            return 0;
        }
        let dropped = bound(&mut self.sessions, |seat| seat.settled);
        self.sessions.push(seat);
        dropped
    }

    pub(super) fn seat(&mut self, session: SessionId) -> Option<&mut Seated> {
        self.sessions.iter_mut().find(|seat| seat.session == session)
    }

    /// What can be judged now and was not yet.
    pub(super) fn due(&self, now: Timestamp, settings: &Settings) -> Vec<Mismatch> {
        let mut found = Vec::new();
        for seat in self.sessions.iter().filter(|seat| !seat.settled && seat.due(settings) <= now.0) {
            let base = Mismatch {
                what: What::NoFlow,
                mismatch: true,
                flow: None,
                session: Some(seat.session),
                since: seat.opened,
                until: seat.until(),
                counts: [("bytes_to_decoy", 0, 0), ("bytes_from_decoy", 0, 0)],
            };
            match self.flows.iter().find(|flow| joined(seat, flow)) {
                None => found.push(base),
                // The last word of one of them is still to come.
                Some(flow) if flow.end == FlowEnd::Active || seat.closed.is_none() => {}
                Some(flow) => found.push(compare(base, seat, flow, settings.bytes)),
            }
        }
        for flow in self.flows.iter().filter(|flow| !flow.settled && flow.declared) {
            if after(flow.last, settings.grace_s) > now.0 {
                continue;
            }
            found.push(Mismatch {
                what: What::NoSession,
                mismatch: !flow.loss && !self.sessions.iter().any(|seat| joined(seat, flow)),
                flow: Some(flow.flow),
                session: None,
                since: flow.first,
                until: flow.last,
                counts: [("bytes_to_decoy", flow.sent, 0), ("bytes_from_decoy", flow.received, 0)],
            });
        }
        found
    }

    /// What was judged is not judged again.
    pub(super) fn settle(&mut self, judged: &Mismatch) {
        match judged.what {
            What::NoSession => self.flows.iter_mut().filter(|flow| Some(flow.flow) == judged.flow).for_each(|flow| flow.settled = true),
            _ => self.sessions.iter_mut().filter(|seat| Some(seat.session) == judged.session).for_each(|seat| seat.settled = true),
        }
    }
}

fn joined(seat: &Seated, flow: &Flowed) -> bool {
    match (seat.conn, flow.conn) {
        (Some(seat), Some(flow)) => seat == flow,
        _ => seat.opened.0 <= flow.last.0.saturating_add(APART) && seat.until().0 >= flow.first.0.saturating_sub(APART),
    }
}

/// Bytes are compared where both could count them all.
fn compare(base: Mismatch, seat: &Seated, flow: &Flowed, tolerance: u64) -> Mismatch {
    let mut found = Mismatch { what: What::Bytes, mismatch: false, flow: Some(flow.flow), ..base };
    let Some((_, closed)) = &seat.closed else { return found };
    let quick = matches!(closed.reason.as_str(), "client" | "server");
    if !flow.whole || !quick {
        return found;
    }
    let more = |a: u64, b: u64| a > b.saturating_add(tolerance).saturating_add(b / 100);
    let by_client = closed.reason == "client";
    // A decoy cannot read what was not sent, nor can more come from it than it sent. The other way
    // round there are honest reasons: it closed before it read all, or the visitor before all came.
    let read = more(closed.bytes_in, flow.sent) || (by_client && more(flow.sent, closed.bytes_in));
    let wrote = more(flow.received, closed.bytes_out) || (flow.end == FlowEnd::Fin && more(closed.bytes_out, flow.received));
    found.mismatch = read || wrote;
    found.counts = [("bytes_to_decoy", flow.sent, closed.bytes_in), ("bytes_from_decoy", flow.received, closed.bytes_out)];
    found.since = found.since.min(flow.first);
    found.until = found.until.max(flow.last);
    found
}

/// Makes room for one more: what is judged goes first. Returns how many not judged went.
fn bound<T>(list: &mut Vec<T>, settled: impl Fn(&T) -> bool) -> u64 {
    if list.len() < MAX {
        return 0;
    }
    match list.iter().position(&settled) {
        Some(place) => {
            list.remove(place);
            0
        }
        None => {
            list.remove(0);
            1
        }
    }
}
