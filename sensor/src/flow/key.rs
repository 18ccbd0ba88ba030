//! What makes packets belong to one flow, and who is taken to have begun it.

use crate::decode::{Transport, Unit};
use glasshive_event::Endpoint;
use glasshive_event::flow::DirectionBasis;
use std::net::IpAddr;

/// Ports above 1023 at which services are found: who speaks from there is taken to be asked.
const SERVICES: &[u16] = &[
    1080, 1194, 1433, 1521, 1701, 1723, 1812, 1813, 1883, 2049, 2055, 2152, 2375, 2376, 2404, 3128, 3268, 3306, 3389, 3478, 3544, 4433,
    4444, 4739, 4789, 5000, 5060, 5061, 5222, 5353, 5355, 5432, 5555, 5683, 5900, 5901, 5985, 5986, 6081, 6343, 6379, 6443, 6667, 8000,
    8008, 8080, 8081, 8088, 8090, 8443, 8883, 8888, 9000, 9090, 9200, 9418, 9995, 10250, 11211, 27017, 44818, 47808,
];

/// One flow's packets of both directions. VLANs and tunnel numbers are not part of it: both directions
/// often differ in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    protocol: u8,
    /// IP headers around it: what is within a tunnel is another flow than the same tuple outside.
    depth: u8,
    low: (IpAddr, u16),
    high: (IpAddr, u16),
}

/// Type of the request an ICMP answer belongs to; the type itself where there is none.
fn request(protocol: u8, kind: u8) -> u8 {
    match (protocol, kind) {
        (1, 0) => 8,
        (1, 9) => 10,
        (1, 14 | 16 | 18) => kind.saturating_sub(1),
        (58, 129) => 128,
        (58, 131 | 132) => 130,
        (58, 134) => 133,
        (58, 136) => 135,
        (58, 140) => 139,
        (58, 145) => 144,
        _ => kind,
    }
}

fn is_service(port: u16) -> bool {
    (1..1024).contains(&port) || SERVICES.binary_search(&port).is_ok()
}

impl Key {
    /// The key of a packet.
    pub(super) fn of(unit: &Unit<'_>) -> Self {
        let (source, destination) = ends(unit);
        let (mut low, mut high) = ((source.ip, source.port), (destination.ip, destination.port));
        if high < low {
            std::mem::swap(&mut low, &mut high);
        }
        // ICMP has no ports: the kind of exchange and its identifier stand for them.
        if let Transport::Icmp(kind, _, id) = unit.transport {
            low.1 = request(unit.protocol, kind).into();
            high.1 = id.unwrap_or(0);
        }
        Self { protocol: unit.protocol, depth: unit.depth, low, high }
    }
}

/// Sender and receiver of a packet.
pub(super) fn ends(unit: &Unit<'_>) -> (Endpoint, Endpoint) {
    let (from, to) = match unit.transport {
        Transport::Tcp(tcp) => (tcp.source, tcp.destination),
        Transport::Ports(from, to) => (from, to),
        Transport::Icmp(..) | Transport::Other => (0, 0),
    };
    (Endpoint { ip: unit.source, port: from }, Endpoint { ip: unit.destination, port: to })
}

/// Whether the first packet's sender is the source, and why.
pub(super) fn direction(unit: &Unit<'_>) -> (bool, DirectionBasis) {
    match unit.transport {
        Transport::Tcp(tcp) if tcp.complete && tcp.flags & 0x12 == 0x02 => (true, DirectionBasis::Syn),
        Transport::Tcp(tcp) if tcp.complete && tcp.flags & 0x12 == 0x12 => (false, DirectionBasis::SynAck),
        Transport::Icmp(kind, ..) if request(unit.protocol, kind) != kind => (false, DirectionBasis::Application),
        Transport::Icmp(kind, ..)
            if matches!((unit.protocol, kind), (1, 8 | 10 | 13 | 15 | 17) | (58, 128 | 130 | 133 | 135 | 139 | 144)) =>
        {
            (true, DirectionBasis::Application)
        }
        Transport::Tcp(_) | Transport::Ports(..) => {
            let (source, destination) = ends(unit);
            match (is_service(source.port), is_service(destination.port)) {
                (true, false) => (false, DirectionBasis::Port),
                (false, true) => (true, DirectionBasis::Port),
                _ => (true, DirectionBasis::FirstPacket),
            }
        }
        _ => (true, DirectionBasis::FirstPacket),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn services_are_sorted() {
        assert!(super::SERVICES.is_sorted());
    }
}
