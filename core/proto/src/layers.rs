//! Who speaks to whom in one packet, as far as finding packets again needs it: the outermost layer,
//! what tunnels carry inside, and what an ICMP error quotes.
//!
//! It judges nothing, keeps nothing and allocates nothing; bytes it cannot read end the walk.

use crate::reader::{ParseError, Reader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Layers kept of one packet.
pub const MAX_LAYERS: usize = 4;
/// Headers passed between the frame and the last layer, so that no packet costs more.
const MAX_HEADERS: u32 = 24;

/// One IP layer, or an ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// IP protocol number; `None` is ARP.
    pub protocol: Option<u8>,
    /// Who sent it. The port is 0 where there is none; for ICMP it is the type of the message.
    pub source: SocketAddr,
    /// To whom. The port is 0 where there is none; for ICMP it is the code of the message.
    pub destination: SocketAddr,
    /// Ports are there.
    pub ports: bool,
    /// A fragment behind the first: its ports are not in it.
    pub later_fragment: bool,
}

/// The layers, outermost first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers {
    list: [Option<Layer>; MAX_LAYERS],
    passed: u32,
}

impl Layers {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.list.iter().flatten()
    }

    fn push(&mut self, layer: Layer) {
        if let Some(slot) = self.list.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(layer);
        }
    }

    /// Counts a header; false when this packet had its share.
    fn pass(&mut self) -> bool {
        self.passed += 1;
        self.passed <= MAX_HEADERS && self.list.last().is_some_and(Option::is_none)
    }
}

/// Reads a packet's layers.
pub fn layers(link_type: u16, data: &[u8]) -> Layers {
    let mut found = Layers::default();
    let mut reader = Reader::new(data);
    // A packet that ends early has the layers read so far.
    let _ = match link_type {
        1 => ethernet(&mut reader, &mut found),
        101 | 228 | 229 => ip(&mut reader, &mut found),
        113 => reader.skip(14, "sll").and_then(|()| ethertype(&mut reader, &mut found)),
        276 => sll2(&mut reader, &mut found),
        0 | 108 => reader.skip(4, "null").and_then(|()| ip(&mut reader, &mut found)),
        _ => Ok(()),
    };
    found
}

type Walk = Result<(), ParseError>;

fn ethernet(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    reader.skip(12, "addresses")?;
    ethertype(reader, found)
}

fn sll2(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    let kind = reader.u16("protocol")?;
    reader.skip(18, "sll2")?;
    payload(kind, reader, found)
}

fn ethertype(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    let kind = reader.u16("ethertype")?;
    payload(kind, reader, found)
}

fn payload(mut kind: u16, reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    while found.pass() {
        match kind {
            // 802.1Q, 802.1ad and the older 0x9100 (IEEE 802.1Q-2018 table 9-1).
            0x8100 | 0x88a8 | 0x9100 => {
                reader.skip(2, "tag")?;
                kind = reader.u16("ethertype")?;
            }
            0x0800 | 0x86dd => return ip(reader, found),
            0x0806 => return arp(reader, found),
            // MPLS (RFC 3032): to the bottom of the stack, then the version tells.
            0x8847 | 0x8848 => {
                while reader.u32("label")? & 0x100 == 0 {
                    if !found.pass() {
                        return Ok(());
                    }
                }
                return ip(reader, found);
            }
            // PPPoE session (RFC 2516).
            0x8864 => {
                reader.skip(6, "pppoe")?;
                return match reader.u16("ppp protocol")? {
                    0x0021 | 0x0057 => ip(reader, found),
                    _ => Ok(()),
                };
            }
            // Ethernet within GRE or Geneve.
            0x6558 => return ethernet(reader, found),
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn arp(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    if reader.array::<6>("arp")? != [0, 1, 8, 0, 6, 4] {
        return Ok(());
    }
    reader.skip(8, "sender")?;
    let source = IpAddr::V4(Ipv4Addr::from(reader.array::<4>("sender")?));
    reader.skip(6, "target")?;
    let destination = IpAddr::V4(Ipv4Addr::from(reader.array::<4>("target")?));
    let end = |ip| SocketAddr::new(ip, 0);
    found.push(Layer { protocol: None, source: end(source), destination: end(destination), ports: false, later_fragment: false });
    Ok(())
}

fn ip(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    if !found.pass() {
        return Ok(());
    }
    match reader.peek().first().map(|byte| byte >> 4) {
        Some(4) => ipv4(reader, found),
        Some(6) => ipv6(reader, found),
        _ => Ok(()),
    }
}

fn ipv4(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    let head = reader.u8("version")?;
    reader.skip(5, "length and id")?;
    let fragment = reader.u16("fragment")? & 0x1fff;
    reader.skip(1, "ttl")?;
    let protocol = reader.u8("protocol")?;
    reader.skip(2, "checksum")?;
    let source = IpAddr::V4(Ipv4Addr::from(reader.array::<4>("source")?));
    let destination = IpAddr::V4(Ipv4Addr::from(reader.array::<4>("destination")?));
    reader.skip((usize::from(head & 15) * 4).saturating_sub(20), "options")?;
    transport(protocol, source, destination, fragment > 0, reader, found)
}

fn ipv6(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    reader.skip(6, "length")?;
    let mut next = reader.u8("next header")?;
    reader.skip(1, "hop limit")?;
    let source = IpAddr::V6(Ipv6Addr::from(reader.array::<16>("source")?));
    let destination = IpAddr::V6(Ipv6Addr::from(reader.array::<16>("destination")?));
    let mut fragment = false;
    loop {
        match next {
            // Hop-by-hop, routing, destination options (RFC 8200 §4).
            0 | 43 | 60 | 135 if found.pass() => {
                next = reader.u8("next header")?;
                let length = reader.u8("length")?;
                reader.skip(usize::from(length) * 8 + 6, "extension")?;
            }
            44 if found.pass() => {
                next = reader.u8("next header")?;
                reader.skip(1, "reserved")?;
                fragment = reader.u16("fragment")? & 0xfff8 != 0;
                reader.skip(4, "identification")?;
            }
            // Authentication header (RFC 4302 §2.2): its length counts words less two.
            51 if found.pass() => {
                next = reader.u8("next header")?;
                let length = reader.u8("length")?;
                reader.skip((usize::from(length) + 2) * 4 - 2, "authentication")?;
            }
            _ => break,
        }
        if fragment {
            break;
        }
    }
    transport(next, source, destination, fragment, reader, found)
}

fn transport(protocol: u8, source: IpAddr, destination: IpAddr, fragment: bool, reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    let mut layer = Layer {
        protocol: Some(protocol),
        source: SocketAddr::new(source, 0),
        destination: SocketAddr::new(destination, 0),
        ports: false,
        later_fragment: fragment,
    };
    if fragment {
        found.push(layer);
        return Ok(());
    }
    let rest = reader.peek();
    match (protocol, rest.first_chunk::<4>()) {
        (6 | 17 | 132, Some([a, b, c, d])) => {
            layer.source.set_port(u16::from_be_bytes([*a, *b]));
            layer.destination.set_port(u16::from_be_bytes([*c, *d]));
            layer.ports = true;
        }
        (1 | 58, Some([kind, code, ..])) => {
            layer.source.set_port(u16::from(*kind));
            layer.destination.set_port(u16::from(*code));
        }
        _ => {}
    }
    found.push(layer);
    match protocol {
        4 | 41 => ip(reader, found),
        47 => gre(reader, found),
        // VXLAN (RFC 7348) and Geneve (RFC 8926) by their ports.
        17 if layer.destination.port() == 4789 => {
            reader.skip(16, "vxlan")?;
            if found.pass() { ethernet(reader, found) } else { Ok(()) }
        }
        17 if layer.destination.port() == 6081 => {
            reader.skip(8, "udp")?;
            let options = usize::from(reader.u8("geneve")? & 0x3f) * 4;
            reader.skip(1, "flags")?;
            let kind = reader.u16("protocol")?;
            reader.skip(4 + options, "geneve")?;
            payload(kind, reader, found)
        }
        // An error quotes what it is about (RFC 792, RFC 4443 §2.1).
        1 if matches!(layer.source.port(), 3 | 4 | 5 | 11 | 12) => reader.skip(8, "icmp").and_then(|()| ip(reader, found)),
        58 if matches!(layer.source.port(), 1..=4) => reader.skip(8, "icmp").and_then(|()| ip(reader, found)),
        _ => Ok(()),
    }
}

/// GRE (RFC 2784, RFC 2890).
fn gre(reader: &mut Reader<'_>, found: &mut Layers) -> Walk {
    let flags = reader.u16("gre")?;
    let kind = reader.u16("protocol")?;
    if flags & 7 != 0 {
        return Ok(());
    }
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & *bit != 0).count();
    reader.skip(optional * 4, "gre")?;
    payload(kind, reader, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An Ethernet frame of IPv4 with that protocol and payload.
    fn frame(protocol: u8, source: [u8; 4], destination: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        out.extend(ip4(protocol, source, destination, fragment, payload));
        out
    }

    fn ip4(protocol: u8, source: [u8; 4], destination: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x45, 0];
        out.extend(((20 + payload.len()) as u16).to_be_bytes());
        out.extend([0, 1]);
        out.extend(fragment.to_be_bytes());
        out.extend([64, protocol, 0, 0]);
        out.extend(source);
        out.extend(destination);
        out.extend(payload);
        out
    }

    fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = [source.to_be_bytes(), destination.to_be_bytes(), ((8 + payload.len()) as u16).to_be_bytes(), [0, 0]].concat();
        out.extend(payload);
        out
    }

    fn seen(data: &[u8]) -> Vec<String> {
        layers(1, data)
            .iter()
            .map(|layer| {
                let fragment = if layer.later_fragment { " fragment" } else { "" };
                format!("{:?} {}>{}{fragment}", layer.protocol, layer.source, layer.destination)
            })
            .collect()
    }

    const A: [u8; 4] = [10, 0, 0, 1];
    const B: [u8; 4] = [10, 0, 0, 2];

    #[test]
    fn plain_tagged_and_arp() {
        let plain = frame(17, A, B, 0, &udp(1000, 53, b"x"));
        let expected = ["Some(17) 10.0.0.1:1000>10.0.0.2:53"];
        assert_eq!(seen(&plain), expected);
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], &[0x91, 0, 0, 5]] {
            let tagged = [&plain[..12], tags, &plain[12..]].concat();
            assert_eq!(seen(&tagged), expected);
        }
        let mut arp = plain[..12].to_vec();
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        assert_eq!(seen(&arp), ["None 10.0.0.1:0>10.0.0.2:0"]);
        assert_eq!(layers(101, &plain[14..]).iter().count(), 1);
        let sll = [&[0u8; 14][..], &plain[12..]].concat();
        assert_eq!(layers(113, &sll).iter().count(), 1);
    }

    #[test]
    fn tunnels_fragments_and_quotes() {
        let inner = frame(6, [192, 168, 0, 1], [192, 168, 0, 2], 0, &[0, 80, 1, 0, 0, 0, 0, 0]);
        let both = |outer: &str| vec![outer.to_owned(), "Some(6) 192.168.0.1:80>192.168.0.2:256".to_owned()];
        let vxlan = frame(17, A, B, 0, &udp(9, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner].concat()));
        assert_eq!(seen(&vxlan), both("Some(17) 10.0.0.1:9>10.0.0.2:4789"));
        let geneve = frame(17, A, B, 0, &udp(9, 6081, &[&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 0, 0, 0][..], &inner].concat()));
        assert_eq!(seen(&geneve), both("Some(17) 10.0.0.1:9>10.0.0.2:6081"));
        let gre = frame(47, A, B, 0, &[&[0x20, 0, 8, 0, 0, 0, 0, 7][..], &inner[14..]].concat());
        assert_eq!(seen(&gre), both("Some(47) 10.0.0.1:0>10.0.0.2:0"));
        assert_eq!(seen(&frame(4, A, B, 0, &inner[14..])), both("Some(4) 10.0.0.1:0>10.0.0.2:0"));
        let quote = frame(1, A, B, 0, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &inner[14..]].concat());
        assert_eq!(seen(&quote), both("Some(1) 10.0.0.1:3>10.0.0.2:3"));
        assert_eq!(seen(&frame(17, A, B, 0x2000, &udp(1, 2, b""))), ["Some(17) 10.0.0.1:1>10.0.0.2:2"]);
        assert_eq!(seen(&frame(17, A, B, 185, &udp(1, 2, b""))), ["Some(17) 10.0.0.1:0>10.0.0.2:0 fragment"]);
    }

    #[test]
    fn ipv6_with_extensions() {
        let mut data = vec![0; 12];
        data.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 0, 64]);
        data.extend(Ipv6Addr::LOCALHOST.octets());
        data.extend(Ipv6Addr::LOCALHOST.octets());
        data.extend([60, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9]);
        data.extend(udp(5, 6, b""));
        assert_eq!(seen(&data), ["Some(17) [::1]:5>[::1]:6"]);
        data[73] = 9;
        assert_eq!(seen(&data), ["Some(17) [::1]:0>[::1]:0 fragment"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::tests::cases()))]
        #[test]
        fn any_bytes_end(link in prop_oneof![Just(1u16), Just(101), Just(113), Just(276), Just(0)], data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(layers(link, &data).iter().count() <= MAX_LAYERS);
        }

        #[test]
        fn a_changed_packet_ends(at in 0usize..90, byte in any::<u8>(), cut in 0usize..100) {
            let inner = frame(6, A, B, 0, &[0; 20]);
            let mut data = frame(17, A, B, 0, &udp(9, 4789, &[&[0; 8][..], &inner].concat()));
            let length = data.len();
            if let Some(slot) = data.get_mut(at) { *slot = byte; }
            data.truncate(cut.min(length));
            prop_assert!(layers(1, &data).iter().count() <= MAX_LAYERS);
        }
    }
}
