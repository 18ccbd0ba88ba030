//! Addresses and ports of derived connections: never those of a captured one, nor of each other,
//! else a tool would take both for one and show retransmissions.

use super::story::{Connection, Host, Story};
use super::tuples::Pairs;
use glasshive_event::text::escape;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First address for names: RFC 2544's range for tests, which no real network routes.
const V4: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const V4_SIZE: u32 = 1 << 17;
/// And a unique local one (RFC 4193).
const V6: u128 = 0xfd00_6768 << 96;

/// Whether an address may be one of ours.
pub(super) fn is_reserved(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => u32::from(v4) & !(V4_SIZE - 1) == V4,
        IpAddr::V6(v6) => u128::from(v6) >> 96 == V6 >> 96,
    }
}

/// Both ends' addresses of each connection; ports come later.
pub(super) struct Addressed {
    pub(super) ends: Vec<(IpAddr, IpAddr)>,
    /// Names given to addresses of the reserved ranges.
    pub(super) names: Vec<(IpAddr, String)>,
}

/// Gives every name an address that no captured packet has.
pub(super) fn addresses(story: &Story, taken: &BTreeSet<IpAddr>) -> Addressed {
    let mut given: BTreeMap<(String, bool), IpAddr> = BTreeMap::new();
    let mut counters = [1u32, 1];
    let mut address = |name: &str, v4: bool| {
        *given.entry((name.to_owned(), v4)).or_insert_with(|| {
            let counter = if v4 { &mut counters[0] } else { &mut counters[1] };
            loop {
                let ip: IpAddr = if v4 {
                    // Exhausted after 131 000 names, far above what one export holds: then names share addresses.
                    Ipv4Addr::from(V4 | (*counter % V4_SIZE)).into()
                } else {
                    Ipv6Addr::from(V6 | u128::from(*counter)).into()
                };
                *counter = counter.wrapping_add(1);
                if !taken.contains(&ip) || *counter > 4 * V4_SIZE {
                    return ip;
                }
            }
        })
    };
    let ends = story
        .connections
        .iter()
        .map(|connection| match (&connection.client, &connection.server) {
            (Host::At(client), Host::At(server)) => (*client, *server),
            (Host::At(client), Host::Named(name)) => (*client, address(name, client.is_ipv4())),
            (Host::Named(name), Host::At(server)) => (address(name, server.is_ipv4()), *server),
            (Host::Named(client), Host::Named(server)) => (address(client, true), address(server, true)),
        })
        .collect();
    let names = given.into_iter().map(|((name, _), ip)| (ip, escape(&name))).collect();
    Addressed { ends, names }
}

/// The ends of each connection with the client's port; `None` where every port is taken.
pub(super) fn ports(connections: &[Connection], ends: &[(IpAddr, IpAddr)], met: &Pairs) -> Vec<Option<(SocketAddr, SocketAddr)>> {
    let mut taken: HashSet<(SocketAddr, SocketAddr)> = HashSet::new();
    // Where to look on, so that many connections of one pair do not look at the same ports again.
    let mut next: BTreeMap<(IpAddr, SocketAddr), u32> = BTreeMap::new();
    let mut place = |client: IpAddr, server: SocketAddr| {
        let from = next.entry((client, server)).or_insert(0);
        while *from < 65_536 - 1_024 {
            // The dynamic ports first (RFC 6335), then the others.
            let port = u16::try_from((*from + 49_152 - 1_024) % (65_536 - 1_024) + 1_024).unwrap_or(u16::MAX);
            *from += 1;
            let end = SocketAddr::new(client, port);
            let free = end != server && !taken.contains(&(server, end)) && !met.is_met((client, port), (server.ip(), server.port()));
            if free && taken.insert((end, server)) {
                return Some((end, server));
            }
        }
        None
    };
    connections.iter().zip(ends).map(|(connection, (client, server))| place(*client, SocketAddr::new(*server, connection.port))).collect()
}

/// First sequence numbers of both sides, drawn from what the connection is.
pub(super) fn isn(connection: &Connection) -> [u32; 2] {
    let digest = Sha256::digest(format!("derived {} {}", connection.key.0, connection.key.1));
    let word = |at: usize| digest.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |word| u32::from_be_bytes(*word));
    [word(0), word(4)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: u32, client: Host, server: Host, port: u16) -> Connection {
        Connection { key: ("s".into(), number), client, server, port, ..Connection::default() }
    }

    fn at(ip: &str) -> Host {
        Host::At(ip.parse().unwrap())
    }

    #[test]
    fn names_get_addresses_nobody_has() {
        let name = |name: &str| Host::Named(name.into());
        let connections = vec![
            connection(1, at("10.0.0.1"), name("intranet"), 80),
            connection(2, at("2001:db8::1"), name("intranet"), 80),
            connection(3, at("10.0.0.1"), name("other"), 80),
            connection(4, name("decoy"), at("2001:db8::2"), 80),
            connection(5, at("10.0.0.1"), name("intranet"), 81),
        ];
        let story = Story { connections, ..Story::default() };
        let taken = BTreeSet::from(["198.18.0.2".parse().unwrap()]);
        let addressed = addresses(&story, &taken);
        let ends: Vec<String> = addressed.ends.iter().map(|(a, b)| format!("{a} {b}")).collect();
        let expected =
            ["10.0.0.1 198.18.0.1", "2001:db8::1 fd00:6768::1", "10.0.0.1 198.18.0.3", "fd00:6768::2 2001:db8::2", "10.0.0.1 198.18.0.1"];
        assert_eq!(ends, expected);
        assert_eq!(addressed.names.len(), 4);
        for (ip, is) in
            [("198.18.0.1", true), ("198.19.255.255", true), ("198.20.0.0", false), ("fd00:6768::9", true), ("fd00:6769::", false)]
        {
            assert_eq!(is_reserved(ip.parse().unwrap()), is, "{ip}");
        }
    }

    #[test]
    fn ports_are_never_those_of_another() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut met = Pairs::new([(a, b)]);
        let frame = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1][..], &[0, 23, 0xc0, 0]].concat();
        met.look(&frame);
        let connections: Vec<_> = (0..70_000).map(|n| connection(n, Host::At(a), Host::At(b), 23)).collect();
        let placed = ports(&connections, &vec![(a, b); connections.len()], &met);
        assert_eq!(placed[0].unwrap().0.port(), 49_153);
        let distinct: HashSet<_> = placed.iter().flatten().collect();
        assert_eq!(distinct.len(), 64_511);
        assert_eq!(placed.iter().flatten().count(), 64_511);
        assert!(placed.last().unwrap().is_none());
        // The other way round, and with oneself.
        let both = [
            connection(1, Host::At(a), Host::At(b), 49_152),
            connection(2, Host::At(b), Host::At(a), 49_152),
            connection(3, Host::At(a), Host::At(a), 49_152),
        ];
        let placed = ports(&both, &[(a, b), (b, a), (a, a)], &Pairs::default());
        let ports: Vec<u16> = placed.iter().flatten().map(|(client, _)| client.port()).collect();
        assert_eq!(ports, [49_152, 49_153, 49_153]);
    }
}
