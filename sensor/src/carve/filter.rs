//! Testing a packet with the whole selection.

use glasshive_event::{Endpoint, PacketMatch, PacketScope, Timestamp, Tuple};
use glasshive_link::carve::CarveError;
use glasshive_proto::layers::{Layer, layers};
use pcap::{BpfProgram, Capture, Linktype};
use std::net::{IpAddr, SocketAddr};

/// Which packets are meant: all three together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Who speaks to whom, and when. Any layer of a packet may be it: the carrier, what a tunnel
    /// carries, what an ICMP error quotes. A fragment without ports counts for every port of its addresses.
    pub scope: PacketScope,
    /// Community IDs, any of them; none = all.
    pub communities: Vec<String>,
    /// A pcap filter, matched exactly.
    pub bpf: Option<String>,
}

/// A selection ready to test with.
pub(super) struct Filter {
    pub(super) selection: Selection,
    link_type: u16,
    program: Option<BpfProgram>,
}

impl Filter {
    pub(super) fn new(selection: &Selection) -> Result<Self, CarveError> {
        let mut filter = Self { selection: selection.clone(), link_type: 1, program: None };
        filter.compile()?;
        Ok(filter)
    }

    /// From here on packets have this link type.
    pub(super) fn link_type(&mut self, link_type: u16) -> Result<(), CarveError> {
        if self.link_type != link_type {
            self.link_type = link_type;
            self.compile()?;
        }
        Ok(())
    }

    fn compile(&mut self) -> Result<(), CarveError> {
        let Some(text) = &self.selection.bpf else { return Ok(()) };
        let fault = |error: pcap::Error| {
            let why: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            CarveError::Query(format!("pcap filter {text:?}: {why}"))
        };
        // Raw IP has another number for the compiler than in files.
        let dlt = if self.link_type == 101 { 12 } else { i32::from(self.link_type) };
        self.program = Some(Capture::dead(Linktype(dlt)).map_err(fault)?.compile(text, true).map_err(fault)?);
        Ok(())
    }

    /// Whether something of that time may pass.
    pub(super) fn may_hold(&self, first: Option<Timestamp>, last: Option<Timestamp>) -> bool {
        let (Some(first), Some(last)) = (first, last) else { return false };
        self.selection.scope.0.iter().any(|one| in_time(one, first, last))
    }

    /// Whether a packet is meant.
    pub(super) fn passes(&self, at: Timestamp, data: &[u8]) -> bool {
        let found = layers(self.link_type, data);
        let in_scope = if found.iter().next().is_none() {
            self.selection.scope.0.iter().any(|one| !one.arp && one.matches(at, None, None))
        } else {
            found.iter().any(|layer| self.selection.scope.0.iter().any(|one| is(one, at, layer)))
        };
        in_scope
            && (self.selection.communities.is_empty() || found.iter().any(|layer| self.in_communities(layer)))
            && self.program.as_ref().is_none_or(|program| program.filter(data))
    }

    fn in_communities(&self, layer: &Layer) -> bool {
        let (Some(protocol), Layer { source, destination, .. }) = (layer.protocol, layer) else { return false };
        let id = glasshive_proto::community_id::community_id(protocol, source.ip(), source.port(), destination.ip(), destination.port());
        id.is_some_and(|id| self.selection.communities.contains(&id))
    }
}

/// Whether a match and a stretch of time have anything in common.
pub(super) fn in_time(one: &PacketMatch, first: Timestamp, last: Timestamp) -> bool {
    one.since.is_none_or(|since| since <= last) && one.until.is_none_or(|until| until >= first)
}

fn is(one: &PacketMatch, at: Timestamp, layer: &Layer) -> bool {
    let end = |end: SocketAddr| Endpoint { ip: end.ip(), port: if layer.ports { end.port() } else { 0 } };
    let ends = Tuple { source: end(layer.source), destination: end(layer.destination) };
    if layer.later_fragment && (one.a.is_some() || one.b.is_some()) {
        return PacketMatch { a_port: None, b_port: None, ..one.clone() }.matches(at, layer.protocol, Some(ends));
    }
    one.matches(at, layer.protocol, Some(ends))
}

/// The Community ID a match means, when it means one connection.
pub(super) fn community(one: &PacketMatch) -> Option<String> {
    let protocol = one.protocol.filter(|protocol| matches!(protocol, 6 | 17 | 132))?;
    let (a, b): (IpAddr, IpAddr) = (one.a?, one.b?);
    glasshive_proto::community_id::community_id(protocol, a, one.a_port?, b, one.b_port?)
}
