//! Who talks to whom in a captured frame: enough to put a comment on a flow's first packet and to
//! keep derived connections apart from captured ones. Bounded; a frame that says nothing is `None`.

use glasshive_event::{Endpoint, Tuple};
use glasshive_pcapng::link_type;
use glasshive_proto::layers::layers;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// What a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// IP protocol; `None` for ARP.
    pub(super) protocol: Option<u8>,
    /// Outermost ends; ports 0 where there are none.
    pub(super) ends: Tuple,
}

/// The outermost ends of a frame of a pcap link type.
pub(super) fn seen(link_type: u16, frame: &[u8]) -> Option<Seen> {
    let layers = layers(link_type, frame);
    let layer = layers.iter().next()?;
    let end = |end: SocketAddr| Endpoint { ip: end.ip(), port: if layer.ports { end.port() } else { 0 } };
    Some(Seen { protocol: layer.protocol, ends: Tuple { source: end(layer.source), destination: end(layer.destination) } })
}

/// Ports between pairs of hosts that any captured bytes show, at whatever depth: also within
/// tunnels and quoted in errors, where a tool would find the same connection.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// First eight bytes of both addresses in a row → the pairs they may begin.
    wanted: HashMap<u64, Vec<(IpAddr, IpAddr)>>,
    /// Which low halves of those eight bytes there are: one look tells most positions apart.
    some: Vec<bool>,
    /// (address, port, address, port) as met.
    met: HashSet<(IpAddr, u16, IpAddr, u16)>,
}

impl Pairs {
    /// Looks for connections between these hosts.
    pub(super) fn new(pairs: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut new = Self { some: vec![false; 1 << 16], ..Self::default() };
        for (a, b) in pairs {
            for (from, to) in [(a, b), (b, a)] {
                let mut bytes = octets(from);
                bytes.extend(octets(to));
                let Some(first) = bytes.first_chunk::<8>().map(|first| u64::from_be_bytes(*first)) else { continue };
                let list = new.wanted.entry(first).or_default();
                if !list.contains(&(from, to)) {
                    list.push((from, to));
                }
                if let Some(some) = new.some.get_mut(usize::from(first as u16)) {
                    *some = true;
                }
            }
        }
        new
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Looks at a frame.
    pub(super) fn look(&mut self, frame: &[u8]) {
        let mut window = 0u64;
        for (at, byte) in frame.iter().enumerate() {
            window = window << 8 | u64::from(*byte);
            if at < 7 || !self.some.get(usize::from(window as u16)).copied().unwrap_or(false) {
                continue;
            }
            let Some(pairs) = self.wanted.get(&window) else { continue };
            let start = at - 7;
            for (from, to) in pairs.clone() {
                self.met.extend(ports(frame, start, from, to));
            }
        }
    }

    /// Whether a connection with these ends was met, in either direction.
    pub(super) fn is_met(&self, a: (IpAddr, u16), b: (IpAddr, u16)) -> bool {
        self.met.contains(&(a.0, a.1, b.0, b.1)) || self.met.contains(&(b.0, b.1, a.0, a.1))
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The ports behind two addresses that stand at `start`, if they are those of an IP header.
fn ports(frame: &[u8], start: usize, from: IpAddr, to: IpAddr) -> Option<(IpAddr, u16, IpAddr, u16)> {
    let head = start.checked_sub(if from.is_ipv4() { 12 } else { 8 })?;
    let seen = seen(link_type::RAW_IP, frame.get(head..)?)?;
    let (source, destination) = (seen.ends.source, seen.ends.destination);
    ((source.ip, destination.ip) == (from, to)).then_some((from, source.port, to, destination.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::text::unhex;

    fn v4(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend_from_slice(rest);
        bytes
    }

    fn ends(seen: Option<Seen>) -> String {
        seen.map_or("none".into(), |seen| format!("{:?} {} {}", seen.protocol, seen.ends.source, seen.ends.destination))
    }

    #[test]
    fn frames_of_several_links() {
        let ip4 = v4(6, &[0, 22, 1, 0]);
        let wanted = "Some(6) 10.0.0.1:22 10.0.0.2:256";
        let ether = |tags: &str| [unhex(&format!("{}{tags}", "00".repeat(12))).unwrap(), ip4.clone()].concat();
        for (link, frame) in [
            (1, ether("0800")),
            (1, ether("8100000a0800")),
            (1, ether("88a8000a8100000b0800")),
            (101, ip4.clone()),
            (0, [vec![2, 0, 0, 0], ip4.clone()].concat()),
            (113, [vec![0; 14], vec![8, 0], ip4.clone()].concat()),
            (276, [vec![8, 0], vec![0; 18], ip4.clone()].concat()),
        ] {
            assert_eq!(ends(seen(link, &frame)), wanted, "{link}");
            for cut in 0..frame.len() {
                seen(link, &frame[..cut]);
            }
        }
        assert_eq!(ends(seen(1, &ether("0801"))), "none");
        assert_eq!(ends(seen(101, &v4(1, &[8, 0]))), "Some(1) 10.0.0.1:0 10.0.0.2:0");
        let mut fragment = ip4.clone();
        fragment[7] = 1;
        assert_eq!(ends(seen(101, &fragment)), "Some(6) 10.0.0.1:0 10.0.0.2:0");
        // Hop-by-hop options, then UDP.
        let v6 = [unhex("600000000000000a").unwrap(), vec![0x20; 32], vec![17, 0, 0, 0, 0, 0, 0, 0], vec![0, 53, 0, 54]].concat();
        let mut with = v6.clone();
        with[6] = 0;
        assert_eq!(
            ends(seen(101, &with)),
            "Some(17) [2020:2020:2020:2020:2020:2020:2020:2020]:53 [2020:2020:2020:2020:2020:2020:2020:2020]:54"
        );
        let arp =
            [vec![2; 12], unhex("08060001080006040001").unwrap(), vec![2; 6], vec![10, 0, 0, 1], vec![0; 6], vec![10, 0, 0, 2]].concat();
        assert_eq!(ends(seen(1, &arp)), "None 10.0.0.1:0 10.0.0.2:0");
    }

    #[test]
    fn pairs_are_found_at_any_depth_and_only_there() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut pairs = Pairs::new([(a, b)]);
        assert!(!pairs.is_empty() && Pairs::new([]).is_empty());
        let mut tunnel = vec![0xaa; 77];
        tunnel.extend(v4(6, &[0xc0, 0, 0, 23]));
        pairs.look(&tunnel);
        pairs.look(&[&[10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 20]].concat());
        assert!(pairs.is_met((a, 0xc000), (b, 23)) && pairs.is_met((b, 23), (a, 0xc000)));
        assert!(!pairs.is_met((a, 0xc001), (b, 23)) && !pairs.is_met((a, 23), (b, 0xc000)));
        let (c, d): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let mut pairs = Pairs::new([(c, d)]);
        let mut v6 = vec![0x60, 0, 0, 0, 0, 4, 6, 64];
        v6.extend(octets(d));
        v6.extend(octets(c));
        v6.extend([0, 23, 0xc0, 1]);
        pairs.look(&[&[1, 2, 3][..], &v6].concat());
        assert!(pairs.is_met((c, 0xc001), (d, 23)));
    }
}
