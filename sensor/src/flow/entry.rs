//! One flow while it lasts.

use super::key::{self, Key};
use super::side::Counts;
use super::stream::{Piece, Pool};
use super::tcp::{Connection, History};
use super::{
    OTHER_IDLE_NS, RECORD_EVERY_NS, Said, TCP_HANDSHAKE_IDLE_NS, TCP_IDLE_NS, TCP_LINGER_NS, TCP_MIDDLE_IDLE_NS, TCP_REUSE_NS, UDP_IDLE_NS,
};
use crate::app::{Conversation, Speaker};
use crate::decode::{Layers, Transport, Unit, Vlans};
use glasshive_event::flow::{DirectionBasis, Flow, FlowEnd};
use glasshive_event::observation::{Fact, Malformed, Opening};
use glasshive_event::{ConnId, FlowId, Timestamp, Tuple, text};
use glasshive_proto::community_id::community_id;
use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Facts about differing overlaps made of one flow.
const MAX_CONFLICTS: u8 = 8;
/// Most bytes of a fact shown.
const MAX_SHOWN: usize = 256;

/// The first ICMP message: what the Community ID is made of.
#[derive(Debug, Clone, Copy)]
struct FirstIcmp {
    kind: u8,
    code: u8,
    from: IpAddr,
    to: IpAddr,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) id: FlowId,
    pub(super) wire: Tuple,
    protocol: u8,
    direction: DirectionBasis,
    conn: Option<ConnId>,
    icmp: Option<FirstIcmp>,
    layers: Layers,
    vlans: Vlans,
    first: Timestamp,
    pub(super) last: Timestamp,
    sides: [Counts; 2],
    tcp: Option<Box<Connection>>,
    history: History,
    conversation: Option<Box<Conversation>>,
    conflicts: u8,
    loss: bool,
    seq: u32,
    /// When the next record of a long flow is due, and whether anything came since the last.
    record_due: i64,
    fresh: bool,
}

impl Entry {
    /// A flow that begins with this packet.
    pub(super) fn open(key: Key, at: Timestamp, unit: &Unit<'_>, net: &str) -> Self {
        let (sender, receiver) = key::ends(unit);
        let (forward, direction) = key::direction(unit);
        let (source, destination) = if forward { (sender, receiver) } else { (receiver, sender) };
        // Without TCP the depth keeps flows of one tuple apart that stand within each other.
        let first_number = match unit.transport {
            Transport::Tcp(tcp) => tcp.seq,
            _ => unit.depth.into(),
        };
        let conn = match unit.transport {
            Transport::Tcp(tcp) if direction == DirectionBasis::Syn && !net.is_empty() => {
                Some(ConnId::derive(net, TCP, source.into(), destination.into(), tcp.seq))
            }
            _ => None,
        };
        let icmp = match unit.transport {
            Transport::Icmp(kind, code, _) => Some(FirstIcmp { kind, code, from: unit.source, to: unit.destination }),
            _ => None,
        };
        let mut history = History::default();
        if !forward {
            history.note(b'^', true);
        }
        Self {
            key,
            id: FlowId::derive(net, unit.protocol, sender.into(), receiver.into(), first_number, at),
            wire: Tuple { source, destination },
            protocol: unit.protocol,
            direction,
            conn,
            icmp,
            layers: unit.layers,
            vlans: unit.vlans,
            first: at,
            last: at,
            sides: <[Counts; 2]>::default(),
            tcp: matches!(unit.transport, Transport::Tcp(_)).then(Box::default),
            history,
            conversation: None,
            conflicts: 0,
            loss: false,
            seq: 0,
            record_due: at.0.saturating_add(RECORD_EVERY_NS),
            fresh: false,
        }
    }

    /// The fact that it began.
    pub(super) fn opening(&self, unit: &Unit<'_>) -> Fact {
        let tcp = match unit.transport {
            Transport::Tcp(tcp) if tcp.complete => Some(tcp),
            _ => None,
        };
        Fact::FlowOpened(Opening {
            protocol: unit.protocol,
            tcp_flags: tcp.map_or(0, |tcp| tcp.flags),
            icmp: self.icmp.map(|icmp| (icmp.kind, icmp.code)),
            payload_bytes: unit.payload_length,
            ttl: unit.ttl,
            window: tcp.map(|tcp| tcp.window),
            ip_id: unit.ip_id,
            tcp_options: tcp.map(|tcp| tcp.option_kinds()).unwrap_or_default(),
            tcp_seq: tcp.map(|tcp| tcp.seq),
        })
    }

    /// How it would end now, and when it is due to.
    pub(super) fn due(&self) -> (i64, FlowEnd) {
        let (idle, end) = match &self.tcp {
            Some(tcp) if tcp.is_closed() => (TCP_LINGER_NS, if tcp.was_reset() { FlowEnd::Rst } else { FlowEnd::Fin }),
            Some(tcp) if tcp.established => (TCP_IDLE_NS, FlowEnd::Idle),
            Some(tcp) if tcp.has_syn() => (TCP_HANDSHAKE_IDLE_NS, FlowEnd::Idle),
            Some(_) => (TCP_MIDDLE_IDLE_NS, FlowEnd::Idle),
            None if self.protocol == UDP => (UDP_IDLE_NS, FlowEnd::Idle),
            None => (OTHER_IDLE_NS, FlowEnd::Idle),
        };
        (self.last.0.saturating_add(idle), end)
    }

    /// How it ends when it must: closed is closed, whatever else is the reason.
    pub(super) fn end(&self, otherwise: FlowEnd) -> FlowEnd {
        match self.tcp.as_ref().filter(|tcp| tcp.is_closed()) {
            Some(_) => self.due().1,
            None => otherwise,
        }
    }

    /// Whether this packet begins another flow of the same tuple.
    pub(super) fn gives_way(&self, at: Timestamp, unit: &Unit<'_>) -> bool {
        let (due, _) = self.due();
        if at.0 > due {
            return true;
        }
        let (Some(state), Transport::Tcp(tcp)) = (&self.tcp, unit.transport) else { return false };
        if !tcp.complete || tcp.flags & 0x16 != 0x02 {
            return false;
        }
        let side = self.side(unit);
        if state.is_same_syn(side, tcp.seq) {
            return false;
        }
        let silent = at.0.saturating_sub(self.last.0) > TCP_REUSE_NS;
        match (state.is_closed(), state.established) {
            (true, _) => true,
            (false, true) => silent,
            // A new attempt of the source, or the beginning of what was only seen from its middle; the other
            // side's SYN may be a simultaneous open.
            (false, false) => side == 0 || !state.has_syn(),
        }
    }

    fn side(&self, unit: &Unit<'_>) -> usize {
        let (sender, receiver) = key::ends(unit);
        usize::from((sender, receiver) != (self.wire.source, self.wire.destination))
    }

    /// Takes a packet.
    pub(super) fn packet(&mut self, at: Timestamp, unit: &Unit<'_>, pool: &mut Pool, out: &mut Vec<Said>) {
        let side = self.side(unit);
        self.last = self.last.max(at);
        self.fresh = true;
        let [source, destination] = &mut self.sides;
        let (mine, theirs) = if side == 0 { (source, destination) } else { (destination, source) };
        mine.packet(unit);
        theirs.spoken_to(unit.macs.1);
        if unit.bad_checksum {
            self.history.note(b'c', side == 0);
        }
        let mut facts = Vec::new();
        match unit.transport {
            Transport::Tcp(tcp) if tcp.complete => self.segment(at, side, &tcp, unit, pool, &mut facts),
            Transport::Tcp(_) => {}
            Transport::Ports(..) | Transport::Icmp(..) | Transport::Other => self.datagram(at, side, unit, &mut facts),
        }
        self.say(at, &mut facts, out);
    }

    fn datagram(&mut self, at: Timestamp, side: usize, unit: &Unit<'_>, facts: &mut Vec<Fact>) {
        let length = u64::from(unit.payload_length);
        if length > 0 {
            self.history.note(b'd', side == 0);
        }
        let Some(counts) = self.sides.get_mut(side) else { return };
        counts.payload_bytes = counts.payload_bytes.saturating_add(length);
        counts.payload(unit.payload);
        let echo = matches!(unit.transport, Transport::Icmp(_, _, Some(_)));
        if unit.tunnel || unit.payload.is_empty() || !(self.protocol == UDP || echo) {
            return;
        }
        let (protocol, port) = (self.protocol, self.wire.destination.port);
        let conversation = self.conversation.get_or_insert_with(|| Box::new(Conversation::new(protocol, port)));
        conversation.datagram(at, speaker(side), unit.payload, facts);
    }

    fn segment(
        &mut self,
        at: Timestamp,
        side: usize,
        tcp: &crate::decode::Tcp<'_>,
        unit: &Unit<'_>,
        pool: &mut Pool,
        facts: &mut Vec<Fact>,
    ) {
        let Self { sides, history, conversation, wire, .. } = self;
        let Some(state) = self.tcp.as_mut() else { return };
        let mut gaps = [false; 2];
        let step = state.segment(at, side, tcp, unit.payload, unit.payload_length, history, pool, &mut |of, piece| {
            if let (Piece::Gap(_), Some(gap)) = (piece, gaps.get_mut(of)) {
                *gap = true;
            }
            hear(at, of, piece, sides, conversation, wire.destination.port, facts);
        });
        for (of, gap) in gaps.into_iter().enumerate() {
            if gap {
                history.note(b'g', of == 0);
            }
        }
        if let Some(counts) = sides.get_mut(side) {
            counts.payload_bytes = counts.payload_bytes.saturating_add(step.seen.fresh);
            counts.retransmits = counts.retransmits.saturating_add(step.seen.retransmit.into());
            counts.out_of_order = counts.out_of_order.saturating_add(step.seen.out_of_order.into());
            // A reset announces no window, it has none.
            counts.zero_window = counts.zero_window.saturating_add((tcp.window == 0 && tcp.flags & 4 == 0).into());
        }
        if let Some(offset) = step.seen.conflict.filter(|_| self.conflicts < MAX_CONFLICTS) {
            self.conflicts = self.conflicts.saturating_add(1);
            facts.insert(
                0,
                Fact::Malformed(Malformed {
                    protocol: "tcp",
                    what: "a segment's bytes differ from those seen before at the same place".to_owned(),
                    offset,
                    bytes: text::hex(unit.payload.get(..MAX_SHOWN).unwrap_or(unit.payload)),
                }),
            );
        }
        if step.established {
            facts.insert(0, Fact::Established);
        }
    }

    /// Its next record's due time.
    pub(super) fn record_due(&self) -> i64 {
        self.record_due
    }

    /// The record of a long flow, when anything came since the last.
    pub(super) fn interim(&mut self) -> Option<Box<Flow>> {
        self.record_due = self.record_due.saturating_add(RECORD_EVERY_NS);
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        let flow = self.record(FlowEnd::Active);
        self.seq = self.seq.saturating_add(1);
        Some(Box::new(flow))
    }

    /// The last record, and before it what was kept back.
    pub(super) fn close(mut self, at: Timestamp, end: FlowEnd, pool: &mut Pool, out: &mut Vec<Said>) {
        let mut facts = Vec::new();
        let Self { sides, history, conversation, wire, tcp, .. } = &mut self;
        if let Some(state) = tcp {
            state.finish(at, pool, &mut |of, piece| {
                if matches!(piece, Piece::Gap(_)) {
                    history.note(b'g', of == 0);
                }
                hear(at, of, piece, sides, conversation, wire.destination.port, &mut facts);
            });
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.finish(at, &mut facts);
        }
        self.say(at, &mut facts, out);
        out.push(Said::Record(at, Box::new(self.record(end))));
    }

    pub(super) fn mark_loss(&mut self) {
        self.loss = true;
    }

    fn say(&self, at: Timestamp, facts: &mut Vec<Fact>, out: &mut Vec<Said>) {
        out.extend(facts.drain(..).map(|fact| Said::Fact { at, flow: Some(self.id), wire: Some(self.wire), fact }));
    }

    fn state(&self) -> &'static str {
        let [sent, received] = &self.sides;
        match (&self.tcp, self.protocol) {
            (Some(tcp), _) => tcp.state(received.has_packets()),
            // As Zeek: answered or not.
            (None, UDP) => match (sent.has_packets(), received.has_packets()) {
                (true, true) => "SF",
                (true, false) => "S0",
                _ => "SHR",
            },
            _ => "OTH",
        }
    }

    fn community_id(&self) -> String {
        let Tuple { source, destination } = self.wire;
        match self.icmp {
            Some(icmp) => community_id(self.protocol, icmp.from, icmp.kind.into(), icmp.to, icmp.code.into()),
            None => community_id(self.protocol, source.ip, source.port, destination.ip, destination.port),
        }
        .unwrap_or_default()
    }

    fn record(&self, end: FlowEnd) -> Flow {
        let missed = self.tcp.as_ref().map(|tcp| tcp.missed()).unwrap_or_default();
        let [mut sent, mut received] = self.sides.each_ref().map(Counts::side);
        (sent.missed_bytes, received.missed_bytes) = (missed[0], missed[1]);
        Flow {
            flow: self.id,
            seq: self.seq,
            end,
            first: self.first,
            last: self.last,
            conn: self.conn,
            community_id: self.community_id(),
            protocol: self.protocol,
            wire: self.wire,
            direction: self.direction,
            icmp: self.icmp.map(|icmp| (icmp.kind, icmp.code)),
            layers: self.layers.as_slice().iter().map(|layer| layer.name().to_owned()).collect(),
            vlans: self.vlans.as_slice().to_vec(),
            sent,
            received,
            state: self.state().to_owned(),
            history: self.history.text().to_owned(),
            established: self.tcp.as_ref().is_some_and(|tcp| tcp.established),
            rtt_ns: self.tcp.as_ref().and_then(|tcp| tcp.rtt_ns),
            application: self.conversation.as_ref().and_then(|conversation| conversation.application().cloned()),
            loss: self.loss,
        }
    }
}

fn speaker(side: usize) -> Speaker {
    if side == 0 { Speaker::Source } else { Speaker::Destination }
}

/// Bytes of a stream, to the counts and the parsers.
fn hear(
    at: Timestamp,
    side: usize,
    piece: Piece<'_>,
    sides: &mut [Counts; 2],
    conversation: &mut Option<Box<Conversation>>,
    port: u16,
    facts: &mut Vec<Fact>,
) {
    let conversation = conversation.get_or_insert_with(|| Box::new(Conversation::new(TCP, port)));
    match piece {
        Piece::Bytes(offset, bytes) => {
            if let Some(counts) = sides.get_mut(side) {
                counts.payload(bytes);
            }
            conversation.bytes(at, speaker(side), offset, bytes, facts);
        }
        Piece::Gap(missing) => conversation.gap(at, speaker(side), missing, facts),
    }
}
