//! A scope's display filter, tried with the program it is for: tshark must show exactly the frames
//! that `matches` selects.
#![allow(clippy::unwrap_used)]

use glasshive_event::{Endpoint, PacketMatch, PacketScope, Timestamp, Tuple};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Protocol and ends of one layer.
type Layer = (Option<u8>, Option<Tuple>);

/// A frame, and what a decoder says of its layers.
struct Frame {
    at: Timestamp,
    layers: Vec<Layer>,
    bytes: Vec<u8>,
}

fn end(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Transport header and a little payload.
fn transport(protocol: u8, source: u16, destination: u16) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    match protocol {
        6 => [ports, vec![0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]].concat(),
        17 => [ports, vec![0, 12, 0, 0], b"hive".to_vec()].concat(),
        132 => [ports, vec![0, 0, 0, 0, 0, 0, 0, 0], vec![1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat(),
        1 | 58 => [vec![if protocol == 1 { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1], b"hive".to_vec()].concat(),
        _ => Vec::new(),
    }
}

/// An IP packet; `extension` puts an IPv6 hop-by-hop header between.
fn packet(protocol: u8, source: IpAddr, destination: IpAddr, above: &[u8], extension: bool) -> Vec<u8> {
    let addresses = [octets(source), octets(destination)].concat();
    if source.is_ipv4() {
        let length = (20 + above.len()) as u16;
        let head = [vec![0x45, 0], length.to_be_bytes().to_vec(), vec![0, 1, 0x40, 0, 64, protocol, 0, 0]].concat();
        return [head, addresses, above.to_vec()].concat();
    }
    let options: &[u8] = if extension { &[protocol, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
    let next = if extension { 0 } else { protocol };
    let length = (options.len() + above.len()) as u16;
    [vec![0x60, 0, 0, 0], length.to_be_bytes().to_vec(), vec![next, 64], addresses, options.to_vec(), above.to_vec()].concat()
}

fn ethernet(kind: u16, above: &[u8], vlan: bool) -> Vec<u8> {
    let tag: &[u8] = if vlan { &[0x81, 0, 0, 7] } else { &[] };
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], tag, &kind.to_be_bytes()[..], above].concat()
}

fn arp(sender: &str, target: &str) -> Vec<u8> {
    let head = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    ethernet(0x0806, &[head, octets(ip(sender)), vec![0; 6], octets(ip(target))].concat(), false)
}

/// One of everything in both directions, 1 µs and 1 ns apart.
fn frames() -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    let mut add = |layers: &[Layer], bytes: Vec<u8>| {
        let at = Timestamp(EPOCH + all.len() as i64 * 1_001);
        all.push(Frame { at, layers: layers.to_vec(), bytes });
    };
    let pairs = [
        ("10.0.0.1:1000", "10.0.0.2:22"),
        ("10.0.0.1:1001", "10.0.0.2:22"),
        ("10.0.0.3:1000", "10.0.0.2:80"),
        ("[fd00::1]:1000", "[fd00::2]:22"),
        ("[fd00::3]:53", "[fd00::2]:53"),
    ];
    for (a, b) in pairs {
        for (source, destination) in [(end(a), end(b)), (end(b), end(a))] {
            let kind = if source.ip.is_ipv4() { 0x0800 } else { 0x86dd };
            for protocol in [6, 17, 132, if source.ip.is_ipv4() { 1 } else { 58 }] {
                let portless = matches!(protocol, 1 | 58);
                let bare = |end: Endpoint| Endpoint { port: if portless { 0 } else { end.port }, ..end };
                let ends = Tuple { source: bare(source), destination: bare(destination) };
                let above = transport(protocol, source.port, destination.port);
                for extension in [false, true] {
                    let bytes = packet(protocol, source.ip, destination.ip, &above, extension);
                    add(&[(Some(protocol), Some(ends))], ethernet(kind, &bytes, extension));
                }
            }
        }
    }
    for (sender, target) in [("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ("10.0.0.3", "10.0.0.9")] {
        let bare = |text: &str| Endpoint { ip: ip(text), port: 0 };
        add(&[(None, Some(Tuple { source: bare(sender), destination: bare(target) }))], arp(sender, target));
    }
    // An ICMP error from a router that quotes a packet, and a packet inside GRE: either layer may be meant.
    let inner = Tuple { source: end("10.0.7.1:1000"), destination: end("10.0.7.2:22") };
    let quoted = packet(6, inner.source.ip, inner.destination.ip, &transport(6, 1000, 22), false);
    let outer = Tuple { source: Endpoint { ip: ip("10.0.0.254"), port: 0 }, destination: Endpoint { ip: ip("10.0.0.9"), port: 0 } };
    for (protocol, head) in [(1, vec![3, 1, 0, 0, 0, 0, 0, 0]), (47, vec![0, 0, 8, 0])] {
        let bytes = packet(protocol, outer.source.ip, outer.destination.ip, &[head, quoted.clone()].concat(), false);
        add(&[(Some(protocol), Some(outer)), (Some(6), Some(inner))], ethernet(0x0800, &bytes, false));
    }
    // Neither IP nor ARP.
    add(&[(None, None)], ethernet(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 5, 49, 6, 2, 0, 120, 0, 0], false));
    all
}

fn capture(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    // The variant with nanoseconds.
    out.extend([0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1].iter().flat_map(|word| word.to_le_bytes()));
    for frame in frames {
        let length = frame.bytes.len() as u32;
        let (seconds, rest) = (frame.at.0 / 1_000_000_000, frame.at.0 % 1_000_000_000);
        out.extend([seconds as u32, rest as u32, length, length].iter().flat_map(|word| word.to_le_bytes()));
        out.extend(&frame.bytes);
    }
    out
}

fn shown(file: &std::path::Path, filter: &str) -> Vec<usize> {
    let output = Command::new("tshark").arg("-nr").arg(file).args(["-Y", filter, "-T", "fields", "-e", "frame.number"]).output().unwrap();
    assert!(output.status.success(), "{filter}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().parse().unwrap()).collect()
}

#[test]
fn tshark_shows_the_frames_that_match() {
    let frames = frames();
    let file = std::env::temp_dir().join(format!("glasshive-scope-{}.pcap", std::process::id()));
    std::fs::write(&file, capture(&frames)).unwrap();
    let at = |index: usize| frames[index].at;
    let (from, to) = (at(0), at(frames.len() - 1));
    let wire = |a: &str, b: &str| Tuple { source: end(a), destination: end(b) };
    let of = |change: PacketMatch| PacketScope(vec![change]);
    let any = PacketMatch::default;
    let mut scopes = vec![
        of(any()),
        of(PacketMatch { since: Some(at(7)), until: Some(at(9)), ..any() }),
        of(PacketMatch { arp: true, ..any() }),
        of(PacketMatch { arp: true, a: Some(ip("10.0.0.1")), ..any() }),
        of(PacketMatch { arp: true, ..PacketMatch::between(ip("10.0.0.2"), ip("10.0.0.1")) }),
        of(PacketMatch::host(ip("10.0.0.1"), from, to)),
        of(PacketMatch::host(ip("fd00::2"), from, at(70))),
        of(PacketMatch::between(ip("10.0.0.3"), ip("10.0.0.2"))),
        of(PacketMatch::between(ip("10.0.0.254"), ip("10.0.0.9"))),
        of(PacketMatch::between(ip("10.0.7.2"), ip("10.0.7.1"))),
        of(PacketMatch::tuple(6, wire("10.0.7.1:1000", "10.0.7.2:22"), from, to)),
        of(PacketMatch { b_port: Some(22), ..any() }),
        of(PacketMatch { a: Some(ip("10.0.0.1")), b_port: Some(22), ..any() }),
        of(PacketMatch { a: Some(ip("10.0.0.1")), protocol: Some(6), b_port: Some(22), ..any() }),
        of(PacketMatch { a: Some(ip("10.0.0.2")), a_port: Some(22), protocol: Some(17), ..any() }),
        of(PacketMatch { protocol: Some(47), ..any() }),
        PacketScope(vec![
            PacketMatch::tuple(6, wire("10.0.0.1:1000", "10.0.0.2:22"), from, to),
            PacketMatch { arp: true, ..any() },
            PacketMatch::tuple(17, wire("[fd00::3]:53", "[fd00::2]:53"), from, to),
        ]),
    ];
    for protocol in [1, 6, 17, 58, 132] {
        scopes.push(of(PacketMatch { protocol: Some(protocol), ..any() }));
        for (a, b) in [("10.0.0.1:1000", "10.0.0.2:22"), ("10.0.0.2:80", "10.0.0.3:1000"), ("[fd00::1]:1000", "[fd00::2]:22")] {
            scopes.push(of(PacketMatch::tuple(protocol, wire(a, b), from, to)));
        }
    }
    for scope in scopes {
        let is_meant = |frame: &Frame| frame.layers.iter().any(|(protocol, ends)| scope.matches(frame.at, *protocol, *ends));
        let meant: Vec<usize> = (1..).zip(&frames).filter(|(_, frame)| is_meant(frame)).map(|(number, _)| number).collect();
        let filter = scope.display_filter();
        assert_eq!(shown(&file, &filter), meant, "{filter}");
    }
    std::fs::remove_file(&file).unwrap();
}
