//! Which packets are meant: one selection for carving, for the statement of an export and for the
//! tshark line of a finding, so that all three name the same frames.

use crate::envelope::{Endpoint, Tuple};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Packets between two ends, in both directions. What is `None` matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PacketMatch {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// One end.
    pub a: Option<IpAddr>,
    /// Its port.
    pub a_port: Option<u16>,
    /// The other end.
    pub b: Option<IpAddr>,
    /// Its port.
    pub b_port: Option<u16>,
    /// Not IP but ARP of the ends.
    pub arp: bool,
    /// First moment, inclusive.
    pub since: Option<Timestamp>,
    /// Last moment, inclusive.
    pub until: Option<Timestamp>,
}

impl PacketMatch {
    /// Both directions of one connection.
    pub fn tuple(protocol: u8, wire: Tuple, since: Timestamp, until: Timestamp) -> Self {
        let Tuple { source, destination } = wire;
        let port = |end: Endpoint| matches!(protocol, 6 | 17 | 132).then_some(end.port);
        Self {
            protocol: Some(protocol),
            a: Some(source.ip),
            a_port: port(source),
            b: Some(destination.ip),
            b_port: port(destination),
            arp: false,
            since: Some(since),
            until: Some(until),
        }
    }

    /// Everything between two hosts.
    pub fn between(a: IpAddr, b: IpAddr) -> Self {
        Self { a: Some(a), b: Some(b), ..Self::default() }
    }

    /// Everything one host sends or receives.
    pub fn host(host: IpAddr, since: Timestamp, until: Timestamp) -> Self {
        Self { a: Some(host), since: Some(since), until: Some(until), ..Self::default() }
    }

    /// Whether a packet is meant by one of its layers: the carrier's, that of a packet inside a tunnel or
    /// quoted by an ICMP error; ask for each. `ends` are that layer's IP addresses and ports; an ARP
    /// packet has no protocol, and its sender and target (port 0) as ends.
    pub fn matches(&self, at: Timestamp, protocol: Option<u8>, ends: Option<Tuple>) -> bool {
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at > until) {
            return false;
        }
        if (self.protocol.is_some() && self.protocol != protocol) || (self.arp && protocol.is_some()) {
            return false;
        }
        let end = |ip: Option<IpAddr>, port: Option<u16>, end: Endpoint| {
            ip.is_none_or(|ip| ip == end.ip) && port.is_none_or(|port| port == end.port)
        };
        let open = !self.arp && self.a.is_none() && self.a_port.is_none() && self.b.is_none() && self.b_port.is_none();
        match ends {
            None => open,
            Some(Tuple { source, destination }) => {
                (end(self.a, self.a_port, source) && end(self.b, self.b_port, destination))
                    || (end(self.a, self.a_port, destination) && end(self.b, self.b_port, source))
            }
        }
    }

    /// A field stands for every header of that kind in the frame, as any layer may be the one that is
    /// meant. A frame whose layers match only together is shown too, which [`Self::matches`] is stricter about.
    fn display_filter(&self) -> String {
        let mut all = Vec::new();
        let ports = self.a_port.is_some() || self.b_port.is_some();
        match (self.arp, self.protocol) {
            (true, _) => all.push("arp".to_owned()),
            (false, Some(protocol)) => all.push(is_protocol(&protocol.to_string())),
            // Only these have ports.
            (false, None) if ports => all.push(is_protocol("{6,17,132}")),
            (false, None) => {}
        }
        let direction = |sa: &str, da: &str| {
            let mut parts = Vec::new();
            for (ip, port, end) in [(self.a, self.a_port, sa), (self.b, self.b_port, da)] {
                parts.extend(ip.map(|ip| match (ip, self.arp) {
                    (ip, true) => format!("arp.{end}.proto_ipv4 == {ip}"),
                    (IpAddr::V4(ip), false) if self.protocol.is_none() && !ports => {
                        format!("(ip.{end} == {ip} || arp.{end}.proto_ipv4 == {ip})")
                    }
                    (IpAddr::V4(ip), false) => format!("ip.{end} == {ip}"),
                    (IpAddr::V6(ip), false) => format!("ipv6.{end} == {ip}"),
                }));
                parts.extend(port.map(|port| {
                    let side = if end == "src" { "srcport" } else { "dstport" };
                    format!("(tcp.{side} == {port} || udp.{side} == {port} || sctp.{side} == {port})")
                }));
            }
            parts.join(" && ")
        };
        let (there, back) = (direction("src", "dst"), direction("dst", "src"));
        if !there.is_empty() {
            all.push(format!("(({there}) || ({back}))"));
        }
        for (bound, sign) in [(self.since, ">="), (self.until, "<=")] {
            if let Some(bound) = bound {
                all.push(format!("frame.time_epoch {sign} {}", epoch(bound)));
            }
        }
        if all.is_empty() { "frame".to_owned() } else { all.join(" && ") }
    }
}

/// The upper protocol of an IP header, also behind IPv6's extension headers.
fn is_protocol(value: &str) -> String {
    let sign = if value.starts_with('{') { "in" } else { "==" };
    let fields = ["ip.proto", "ipv6.nxt", "ipv6.hopopts.nxt", "ipv6.routing.nxt", "ipv6.fraghdr.nxt", "ipv6.dstopts.nxt"];
    format!("({})", fields.map(|field| format!("{field} {sign} {value}")).join(" || "))
}

/// Any of several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PacketScope(pub Vec<PacketMatch>);

impl PacketScope {
    /// Whether a packet is meant.
    pub fn matches(&self, at: Timestamp, protocol: Option<u8>, ends: Option<Tuple>) -> bool {
        self.0.iter().any(|one| one.matches(at, protocol, ends))
    }

    /// First and last moment meant, when bounded.
    pub fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let since = self.0.iter().map(|one| one.since).try_fold(None, |least: Option<Timestamp>, next| {
            let next = next?;
            Some(Some(least.map_or(next, |least| least.min(next))))
        });
        let until = self.0.iter().map(|one| one.until).try_fold(None, |most: Option<Timestamp>, next| {
            let next = next?;
            Some(Some(most.map_or(next, |most| most.max(next))))
        });
        (since.flatten(), until.flatten())
    }

    /// Wireshark's display filter for the same packets.
    pub fn display_filter(&self) -> String {
        let mut out = String::new();
        for (index, one) in self.0.iter().enumerate() {
            let _ = write!(out, "{}({})", if index == 0 { "" } else { " || " }, one.display_filter());
        }
        out
    }
}

/// Seconds with nanoseconds, as `frame.time_epoch` takes them.
fn epoch(at: Timestamp) -> String {
    format!("{}.{:09}", at.0.div_euclid(1_000_000_000), at.0.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn end(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_tuple_matches_both_directions_and_nothing_else() {
        let wire = Tuple { source: end("10.0.0.1:1000"), destination: end("10.0.0.2:22") };
        let back = Tuple { source: wire.destination, destination: wire.source };
        let other = Tuple { source: end("10.0.0.1:1001"), ..wire };
        let scope = PacketScope(vec![PacketMatch::tuple(6, wire, Timestamp(10), Timestamp(20))]);
        for (at, protocol, ends, expected) in [
            (10, 6, wire, true),
            (20, 6, back, true),
            (9, 6, wire, false),
            (21, 6, wire, false),
            (15, 17, wire, false),
            (15, 6, other, false),
        ] {
            assert_eq!(scope.matches(Timestamp(at), Some(protocol), Some(ends)), expected, "{at} {protocol} {ends:?}");
        }
        assert!(!scope.matches(Timestamp(15), None, None));
        assert_eq!(scope.span(), (Some(Timestamp(10)), Some(Timestamp(20))));
        let filter = scope.display_filter();
        for part in [
            "(ip.proto == 6 || ipv6.nxt == 6 ||",
            "ip.src == 10.0.0.1 && (tcp.srcport == 1000 ||",
            "ip.dst == 10.0.0.1 && (tcp.dstport == 1000 ||",
            "frame.time_epoch >= 0.000000010 && frame.time_epoch <= 0.000000020",
        ] {
            assert!(filter.contains(part), "{filter} lacks {part}");
        }
    }

    #[test]
    fn a_host_matches_all_it_says_and_hears() {
        let wire = Tuple { source: end("10.0.0.1:1000"), destination: end("10.0.0.2:22") };
        let scope = PacketScope(vec![PacketMatch::host("10.0.0.2".parse().unwrap(), Timestamp(0), Timestamp(9))]);
        assert!(scope.matches(Timestamp(1), Some(6), Some(wire)) && !scope.matches(Timestamp(1), None, None));
        assert!(PacketScope(vec![PacketMatch::default()]).matches(Timestamp(1), None, None));
        assert!(!PacketMatch { arp: true, ..PacketMatch::default() }.matches(Timestamp(1), None, None), "no ARP has no ends");
        assert_eq!(PacketScope(vec![PacketMatch::default()]).span(), (None, None));
    }
}
