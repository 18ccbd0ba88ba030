//! Frames taken apart: link layers, tunnels, fragments, what the capture cut, what is broken.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod build;

use build::*;
use glasshive_event::observation::Fact;
use glasshive_sensor::pipeline::{Packet, Pipeline};
use proptest::prelude::*;

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const INNER: [&str; 2] = ["192.168.7.1", "192.168.7.2"];
const LINKS: [u16; 17] = [0, 1, 9, 12, 14, 50, 51, 101, 104, 105, 108, 113, 127, 228, 229, 276, 147];

fn inner() -> Vec<u8> {
    v4(INNER[0], INNER[1], 17, &datagram(1111, 2222, b"inner"))
}

fn inner_frame() -> Vec<u8> {
    eth(0x0800, &inner())
}

fn layers(told: &Told) -> Vec<String> {
    let mut all: Vec<_> = told.flows.iter().map(|flow| flow.layers.join(" ")).collect();
    all.sort_by_key(String::len);
    all
}

#[test]
fn link_layers_lead_to_ip() {
    let ip = inner();
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip].concat();
    let sll = [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0][..], &ip].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0][..], &ip].concat();
    let wlan = |first: [u8; 2], qos: &[u8]| [&first[..], &[0; 2], &[1; 6], &[2; 6], &[4; 6], &[0; 2], qos, &snap].concat();
    let radiotap = |flags: u8, frame: Vec<u8>| [&[0, 0, 17, 0, 3, 0, 0, 0][..], &[0; 8], &[flags], &frame].concat();
    for (link, frame, expected) in [
        (1, eth(0x0800, &ip), "eth ipv4 udp"),
        (1, eth(snap.len() as u16, &snap), "eth llc ipv4 udp"),
        (1, eth(0x8100, &[&[0x60, 5, 8, 0][..], &ip].concat()), "eth vlan ipv4 udp"),
        (1, eth(0x88a8, &[&[0, 5, 0x81, 0, 0, 0, 8, 0][..], &ip].concat()), "eth vlan vlan ipv4 udp"),
        (1, eth(0x9100, &[&[0, 5, 8, 0][..], &ip].concat()), "eth vlan ipv4 udp"),
        (1, eth(0x8847, &[&[0, 0, 0x10, 64, 0, 0, 0x11, 64][..], &ip].concat()), "eth mpls mpls ipv4 udp"),
        (1, eth(0x8847, &[&[0, 0, 0x11, 64, 0, 0, 0, 0][..], &inner_frame()].concat()), "eth mpls eth ipv4 udp"),
        (1, eth(0x8864, &[&[0x11, 0, 0, 1, 0, (ip.len() + 2) as u8, 0, 0x21][..], &ip].concat()), "eth pppoe ppp ipv4 udp"),
        (101, ip.clone(), "ipv4 udp"),
        (12, ip.clone(), "ipv4 udp"),
        (228, ip.clone(), "ipv4 udp"),
        (0, [&[2, 0, 0, 0][..], &ip].concat(), "null ipv4 udp"),
        (108, [&[0, 0, 0, 2][..], &ip].concat(), "null ipv4 udp"),
        (113, sll, "sll ipv4 udp"),
        (276, sll2, "sll ipv4 udp"),
        (104, [&[0x0f, 0, 8, 0][..], &ip].concat(), "hdlc ipv4 udp"),
        (9, [&[0xff, 3, 0, 0x21][..], &ip].concat(), "ppp ipv4 udp"),
        (50, [&[0x21][..], &ip].concat(), "ppp ipv4 udp"),
        (105, wlan([8, 2], &[]), "wlan llc ipv4 udp"),
        (127, radiotap(0, wlan([8, 1], &[])), "wlan llc ipv4 udp"),
        (127, radiotap(0x20, wlan([0x88, 1], &[0, 0, 0, 0])), "wlan llc ipv4 udp"),
    ] {
        let told = one(link, frame);
        assert_eq!((layers(&told), told.counts.malformed), (vec![expected.to_owned()], 0), "{link}");
        assert_eq!(told.flows[0].wire.destination.to_string(), "192.168.7.2:2222");
    }
    // No tag, tag 0 and a real one are told apart.
    let tagged = |tag: u16| one(1, eth(0x8100, &[&tag.to_be_bytes()[..], &[8, 0], &ip].concat())).flows[0].vlans.clone();
    assert_eq!((one(1, eth(0x0800, &ip)).flows[0].vlans.clone(), tagged(0), tagged(0xe005)), (vec![], vec![0], vec![5]));
    // What is unknown or no IP is counted.
    let counts = |link, frame| {
        let counts = one(link, frame).counts;
        (counts.unknown_link, counts.not_ip, counts.malformed)
    };
    assert_eq!(
        (counts(147, ip.clone()), counts(1, eth(0x88cc, &ip)), counts(127, radiotap(0, wlan([0x80, 0], &[])))),
        ((1, 0, 0), (0, 1, 0), (0, 1, 0))
    );
}

fn gre(head: &[u8], payload: &[u8]) -> Vec<u8> {
    v4(A, B, 47, &[head, payload].concat())
}

fn on_udp(port: u16, head: &[u8], payload: &[u8]) -> Vec<u8> {
    v4(A, B, 17, &datagram(5555, port, &[head, payload].concat()))
}

fn inner6() -> Vec<u8> {
    v6("fd00::1", "fd00::2", 17, &datagram(1111, 2222, b"inner"))
}

/// Each tunnel with what it carries, and the two flows' layers.
fn tunnels() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let vxlan = [8, 0, 0, 0, 0, 0, 1, 0];
    vec![
        (gre(&[0, 0, 8, 0], &inner()), "ipv4 gre", "ipv4 gre ipv4 udp"),
        (gre(&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &inner()), "ipv4 gre", "ipv4 gre ipv4 udp"),
        (gre(&[0, 0, 0x65, 0x58], &inner_frame()), "ipv4 gre", "ipv4 gre eth ipv4 udp"),
        (gre(&[0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0x21], &inner()), "ipv4 gre", "ipv4 gre ppp ipv4 udp"),
        (
            gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0], &inner_frame()),
            "ipv4 gre erspan",
            "ipv4 gre erspan eth ipv4 udp",
        ),
        (v4(A, B, 4, &inner()), "ipv4", "ipv4 ipv4 udp"),
        (v4(A, B, 41, &inner6()), "ipv4", "ipv4 ipv6 udp"),
        (v6("fd00::1", "fd00::2", 4, &inner()), "ipv6", "ipv6 ipv4 udp"),
        (v4(A, B, 97, &[&[0x30, 0][..], &inner_frame()].concat()), "ipv4 etherip", "ipv4 etherip eth ipv4 udp"),
        (on_udp(4789, &vxlan, &inner_frame()), "ipv4 udp vxlan", "ipv4 udp vxlan eth ipv4 udp"),
        (on_udp(6081, &[1, 0, 0x65, 0x58, 0, 0, 9, 0, 1, 2, 3, 4], &inner_frame()), "ipv4 udp geneve", "ipv4 udp geneve eth ipv4 udp"),
        (on_udp(6081, &[0, 0, 8, 0, 0, 0, 9, 0], &inner()), "ipv4 udp geneve", "ipv4 udp geneve ipv4 udp"),
        (on_udp(3544, &[], &inner6()), "ipv4 udp teredo", "ipv4 udp teredo ipv6 udp"),
        (
            on_udp(3544, &[0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 9, 9, 9, 9, 9, 9], &inner6()),
            "ipv4 udp teredo",
            "ipv4 udp teredo ipv6 udp",
        ),
        (on_udp(2152, &[0x30, 255, 0, 9, 0, 0, 0, 1], &inner()), "ipv4 udp gtp", "ipv4 udp gtp ipv4 udp"),
        (on_udp(2152, &[0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0], &inner()), "ipv4 udp gtp", "ipv4 udp gtp ipv4 udp"),
        (on_udp(1701, &[0, 2, 0, 1, 0, 1, 0xff, 3, 0, 0x21], &inner()), "ipv4 udp l2tp", "ipv4 udp l2tp ppp ipv4 udp"),
    ]
}

#[test]
fn tunnels_are_an_outer_and_an_inner_flow() {
    for (packet, outer, within) in tunnels() {
        let told = one(101, packet);
        assert_eq!((layers(&told), told.counts.malformed), (vec![outer.to_owned(), within.to_owned()], 0));
        let deep = told.flows.iter().max_by_key(|flow| flow.layers.len()).unwrap();
        assert_eq!(deep.wire.destination.port, 2222);
        assert_ne!(told.flows[0].flow, told.flows[1].flow);
    }
    // On a tunnel's port, but nothing of the kind.
    for (port, payload) in
        [(4789, &b"hello, this is no tunnel"[..]), (6081, b"x"), (3544, b"GET / HTTP"), (2152, &[0x32, 1, 0, 0, 0, 0, 0, 0])]
    {
        let told = one(101, on_udp(port, &[], payload));
        assert_eq!((layers(&told), told.counts.malformed), (vec!["ipv4 udp".to_owned()], 0), "{port}");
    }
}

/// Every tunnel within every other, cut at every length: the outer flow is there as soon as its header is, and what
/// is only cut is no fault.
#[test]
fn nested_tunnels_and_every_cut() {
    let mut all: Vec<Vec<u8>> = tunnels().into_iter().map(|(packet, ..)| packet).collect();
    for (packet, ..) in tunnels() {
        let within = if packet[0] >> 4 == 4 { 4 } else { 41 };
        all.push(v4("172.16.0.1", "172.16.0.2", within, &packet));
        all.push(v4(
            "172.16.0.1",
            "172.16.0.2",
            17,
            &datagram(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &eth(if within == 4 { 0x0800 } else { 0x86dd }, &packet)].concat()),
        ));
    }
    for packet in all {
        for length in 0..packet.len() {
            let mut told = Told::default();
            let mut pipeline = Pipeline::new(settings()).unwrap();
            let cut = Packet {
                at: glasshive_event::Timestamp(START),
                link_type: 101,
                data: &packet[..length],
                original_length: packet.len() as u32,
            };
            pipeline.packet(&cut, &mut |output| told.take(output));
            pipeline.finish(glasshive_event::flow::FlowEnd::Shutdown, &mut |output| told.take(output));
            assert!(told.malformed.is_empty(), "{length} of {}: {:?}", packet.len(), told.malformed);
            let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
            assert_eq!(told.flows.is_empty(), length < header, "{length}");
            assert!(told.flows.iter().all(|flow| flow.sent.truncated == 1));
        }
    }
}

#[test]
fn ports_survive_a_short_capture() {
    let frame = tcp((A, 4000), (B, 22), SYN, 1, 0, b"");
    for (length, ports) in [(14 + 20 + 4, true), (14 + 20 + 3, false), (14 + 20 + 13, true), (14 + 20 + 20, true)] {
        let mut told = Told::default();
        let mut pipeline = Pipeline::new(settings()).unwrap();
        let cut = Packet { at: glasshive_event::Timestamp(START), link_type: 1, data: &frame[..length], original_length: 60 };
        pipeline.packet(&cut, &mut |output| told.take(output));
        pipeline.finish(glasshive_event::flow::FlowEnd::Shutdown, &mut |output| told.take(output));
        assert_eq!((told.flows[0].wire.destination.port == 22, told.malformed.len()), (ports, 0), "{length}");
    }
}

#[test]
fn depth_and_layers_are_bounded_and_told() {
    let mut packet = inner();
    for _ in 0..40 {
        packet = v4(A, B, 4, &packet);
    }
    let told = one(101, packet);
    assert_eq!((told.flows.len(), told.malformed.len()), (16, 1));
    let ids: std::collections::BTreeSet<_> = told.flows.iter().map(|flow| flow.flow).collect();
    assert_eq!(ids.len(), 16, "equal tuples within each other are flows of their own");
    let tags = [0u8, 1, 0x81, 0].repeat(100);
    let told = one(1, eth(0x8100, &tags));
    assert_eq!((told.flows.len(), told.malformed[0].what.as_str()), (0, "more layers than are taken apart"));
    let frames = (0..100).fold(inner_frame(), |frame, _| eth(0x6558, &frame));
    assert_eq!(one(1, frames).malformed.len(), 1);
    let mut extended = datagram(1, 2, b"x");
    for _ in 0..40 {
        extended = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &extended].concat();
    }
    assert_eq!(one(101, v6("fd00::1", "fd00::2", 60, &extended)).malformed[0].what, "more extension headers than are followed");
}

/// A datagram of 40 payload bytes in pieces of 16, in an order.
fn pieces(order: &[usize]) -> Vec<(i64, Vec<u8>)> {
    let whole = datagram(1111, 2222, &[b'x'; 40]);
    let piece = |index: usize| {
        let (from, to) = (index * 16, (index * 16 + 16).min(whole.len()));
        let more = if to < whole.len() { 0x2000 } else { 0 };
        fragment(A, B, 17, 99, more | (from / 8) as u16, &whole[from..to])
    };
    order.iter().enumerate().map(|(at, index)| (START + at as i64, piece(*index))).collect()
}

#[test]
fn fragments_in_any_order_are_one_datagram() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let told = run_as(101, &pieces(&order), settings());
        let sent = &told.flows[0].sent;
        assert_eq!((told.flows.len(), told.flows[0].wire.destination.port), (1, 2222));
        assert_eq!((sent.packets, sent.fragments, sent.ip_bytes, sent.payload_bytes), (3, 3, 108, 40), "{order:?}");
        assert_eq!(told.counts.malformed, 0);
    }
    // A piece twice is nothing.
    let told = run_as(101, &pieces(&[0, 0, 1, 1, 2]), settings());
    assert_eq!((told.flows[0].sent.packets, told.flows[0].sent.payload_bytes, told.malformed.len()), (5, 40, 0));
}

#[test]
fn fragments_that_never_become_whole_are_told() {
    let mut lonely = pieces(&[0, 2]);
    lonely.push((START + 40 * SECOND, udp((A, 1), (B, 9), b"x")[14..].to_vec()));
    let told = run_as(101, &lonely, settings());
    assert_eq!((told.malformed.len(), told.malformed[0].what.as_str()), (1, "fragments that never became whole"));
    let flow = told.flows.iter().find(|flow| flow.sent.fragments > 0).unwrap();
    assert_eq!((flow.wire.destination.port, flow.sent.packets), (2222, 2), "the first has the ports");
    // Without the first there are none; the end of the capture is no fault.
    let told = run_as(101, &pieces(&[1, 2]), settings());
    assert_eq!((told.flows[0].wire.destination.port, told.flows[0].sent.packets, told.malformed.len()), (0, 2, 0));
}

#[test]
fn fragments_that_lie_are_told() {
    let overlap = |bytes: &[u8]| {
        let mut all = pieces(&[0, 1]);
        all.push((START + 5, fragment(A, B, 17, 99, 0x2000 | 1, bytes)));
        all.extend(pieces(&[2]).into_iter().map(|(_, data)| (START + 6, data)));
        run_as(101, &all, settings())
    };
    assert!(overlap(&[b'x'; 16]).malformed.is_empty(), "the same bytes again");
    let told = overlap(b"xxxxyyyyxxxxxxxx");
    assert_eq!(
        (told.malformed.len(), told.malformed[0].what.as_str(), told.malformed[0].offset),
        (1, "fragments overlap with other bytes", 24)
    );
    assert_eq!(told.flows[0].sent.sample, "78".repeat(40), "the first wins");
    for (place, bytes, what) in [
        (0x2000, &b"1234567"[..], "fragment of a length that cannot be"),
        (0x1fff, &[0; 64], "fragment beyond the largest datagram"),
        (0x1fff, &[], "fragment of a length that cannot be"),
    ] {
        assert_eq!(one(101, fragment(A, B, 17, 1, place, bytes)).malformed[0].what, what);
    }
    let mut ends = pieces(&[2]);
    ends.push((START + 1, fragment(A, B, 17, 99, 9, b"more after the end")));
    assert_eq!(run_as(101, &ends, settings()).malformed[0].what, "fragments that disagree on the end");
}

#[test]
fn fragments_are_bounded() {
    let flood: Vec<_> = (0..3000u16).map(|n| (START, fragment(A, B, 17, n, 0x2000, &datagram(n, 7, &[0; 1400])))).collect();
    let told = run_as(101, &flood, settings());
    assert_eq!((told.counts.flows, told.counts.reassembly_evicted), (3000, 3000 - 1024));
}

#[test]
fn ipv6_extension_headers_and_fragments() {
    let whole = datagram(1111, 2222, &[b'x'; 24]);
    let frag = |place: u16, next: u8, bytes: &[u8]| [&[next, 0][..], &place.to_be_bytes(), &[0, 0, 0, 5], bytes].concat();
    let ip = |next: u8, bytes: Vec<u8>| v6("fd00::1", "fd00::2", next, &bytes);
    let hop = |next: u8, bytes: Vec<u8>| [&[next, 0, 1, 4, 0, 0, 0, 0][..], &bytes].concat();
    for packets in [
        vec![ip(17, whole.clone())],
        vec![ip(0, hop(60, hop(17, whole.clone())))],
        // Atomic: alone.
        vec![ip(44, frag(0, 17, &whole))],
        vec![ip(51, [&[17, 4, 0, 0][..], &[0; 20], &whole].concat())],
        vec![ip(44, frag(1, 17, &whole[..16])), ip(44, frag(16, 17, &whole[16..]))],
        vec![ip(0, hop(44, frag(16, 60, &hop(17, whole.clone())[16..]))), ip(0, hop(44, frag(1, 60, &hop(17, whole.clone())[..16])))],
    ] {
        let count = packets.len() as u64;
        let told = run_as(101, &packets.into_iter().map(|packet| (START, packet)).collect::<Vec<_>>(), settings());
        assert_eq!(
            (told.flows.len(), told.flows[0].wire.destination.port, told.flows[0].sent.packets, told.counts.malformed),
            (1, 2222, count, 0)
        );
    }
    // Jumbograms and what a host hands to its network card whole have length 0.
    let mut zero = ip(17, whole);
    zero[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(one(101, zero).flows[0].sent.payload_bytes, 24);
}

#[test]
fn arp_is_told_with_the_frames_own_sender() {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &[2, 0, 0, 0, 0, 9], &[10, 0, 0, 1], &[2, 0, 0, 0, 0, 2], &[10, 0, 0, 2]].concat();
    let told = one(1, eth(0x0806, &body));
    let Fact::Arp(arp) = &told.facts[0] else { panic!("{:?}", told.facts) };
    assert_eq!((arp.operation, arp.frame_mac.as_str(), arp.sender_mac.as_str()), (2, "02:00:00:00:00:01", "02:00:00:00:00:09"));
    assert_eq!((arp.sender.to_string(), arp.target.to_string(), told.flows.len()), (A.to_owned(), B.to_owned(), 0));
    assert_eq!(one(1, eth(0x0806, &body[..20])).malformed[0].protocol, "arp");
}

#[test]
fn broken_headers_are_told_with_their_place() {
    let good = tcp((A, 1), (B, 2), SYN, 1, 0, b"");
    let broken = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        one(1, bad).malformed
    };
    for (at, byte, protocol, what, offset) in [
        (14, 0x55, "eth", "IP version", 14),
        (14, 0x43, "ipv4", "header length", 14),
        (17, 10, "ipv4", "total length shorter than the header", 14),
        (17, 99, "ipv4", "a length beyond the end of the packet", 34),
        (46, 0x10, "tcp", "header length of TCP", 34),
        (46, 0xf0, "tcp", "options", 54),
    ] {
        let found = broken(at, byte);
        assert_eq!(found.len(), 1, "{what}");
        assert_eq!((found[0].protocol, found[0].what.as_str(), found[0].offset), (protocol, what, offset));
    }
    let told = one(101, v4(A, B, 17, &[0, 1, 0, 2, 0, 7, 0, 0]));
    assert_eq!((told.malformed[0].what.as_str(), told.flows[0].wire.destination.port), ("length of UDP", 2));
}

/// tshark over frames of one link type: the fields of each frame.
fn tshark(link_type: u16, frames: &[Vec<u8>], fields: &[&str]) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frames.pcap");
    let mut file =
        [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, link_type.into()].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    for frame in frames {
        file.extend([1_767_225_600, 0, frame.len() as u32, frame.len() as u32].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    std::fs::write(&path, file).unwrap();
    let mut command = std::process::Command::new("tshark");
    command.arg("-n").arg("-r").arg(&path).args(["--enable-protocol", "communityid", "-T", "fields"]);
    // It takes port 2222 for a protocol of its own.
    command.args(["--disable-protocol", "cipio"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.env("HOME", dir.path()).output().expect("tshark must be installed: tests/install.sh test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// The frames of these tests are real: tshark finds the same ports and Community IDs in them.
#[test]
fn tshark_agrees_on_the_tunnels() {
    let frames: Vec<Vec<u8>> = tunnels().into_iter().map(|(packet, ..)| packet).collect();
    let seen = tshark(101, &frames, &["udp.dstport", "communityid", "_ws.malformed", "frame.protocols"]);
    assert_eq!(seen.len(), frames.len());
    for (frame, fields) in frames.into_iter().zip(seen) {
        let told = one(101, frame);
        assert!(fields[0].split(',').any(|port| port == "2222") && fields[2].is_empty(), "{fields:?}");
        let ours: Vec<&str> = told.flows.iter().map(|flow| flow.community_id.as_str()).collect();
        assert!(fields[1].split(',').all(|id| ours.contains(&id)), "{fields:?} {ours:?}");
    }
}

fn sources() -> Vec<(u16, Vec<u8>)> {
    let mut all: Vec<(u16, Vec<u8>)> = tunnels().into_iter().map(|(packet, ..)| (101, packet)).collect();
    all.push((1, tcp((A, 1), (B, 2), SYN | ACK, 1, 2, b"payload")));
    all.push((1, icmp(A, B, 8, 1, b"ping")));
    all.push((
        101,
        v6("fd00::1", "fd00::2", 0, &[&[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 5][..], &datagram(1, 2, b"x")].concat()),
    ));
    all.extend(pieces(&[0, 1, 2]).into_iter().map(|(_, data)| (101, data)));
    all
}

/// Frames of the corpus, when there is one: a few of every file.
fn corpus_frames() -> Vec<(u16, Vec<u8>)> {
    let Some(corpus) = std::env::var_os("GLASSHIVE_CORPUS") else {
        println!("not run with frames of the corpus: GLASSHIVE_CORPUS is not set");
        return Vec::new();
    };
    let list = std::fs::read_to_string(std::path::Path::new(&corpus).join("MANIFEST.tsv")).unwrap();
    let mut frames = Vec::new();
    for path in list.lines().skip(1).filter_map(|line| line.split('\t').next()) {
        let mut packets = glasshive_pcapng::Packets::new(std::fs::File::open(std::path::Path::new(&corpus).join(path)).unwrap());
        for _ in 0..12 {
            let Some(found) = packets.next_packet() else { break };
            frames.push((found.link_type, found.data.to_vec()));
        }
    }
    frames
}

/// No panic, every packet counted, and equal twice.
fn answered(packets: &[(u16, Vec<u8>, u32)]) {
    let once = || {
        let (mut pipeline, mut told) = (Pipeline::new(settings()).unwrap(), Told::default());
        for (index, (link_type, data, more)) in packets.iter().enumerate() {
            let original_length = (data.len() as u32).saturating_add(*more);
            let packet =
                Packet { at: glasshive_event::Timestamp(START + index as i64 * SECOND), link_type: *link_type, data, original_length };
            pipeline.packet(&packet, &mut |output| told.take(output));
        }
        pipeline.finish(glasshive_event::flow::FlowEnd::Shutdown, &mut |output| told.take(output));
        assert_eq!(pipeline.counts().packets, packets.len() as u64);
        assert!(told.malformed.iter().all(|fact| fact.bytes.len() <= 512));
        told.text
    };
    assert_eq!(once(), once());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

    #[test]
    fn arbitrary_bytes_over_all_links(packets in prop::collection::vec((prop::sample::select(&LINKS[..]), prop::collection::vec(any::<u8>(), 0..120), 0u32..3), 1..4)) {
        answered(&packets);
    }
}

#[test]
fn mutated_frames_are_answered() {
    let mut frames = sources();
    frames.extend(corpus_frames());
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let strategy = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::collection::vec(change, 0..4), any::<prop::sample::Index>(), 0u32..2),
        1..5,
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(fuzz_cases()));
    let run = |picked: Vec<(prop::sample::Index, Vec<(prop::sample::Index, u8)>, prop::sample::Index, u32)>| {
        let mutated: Vec<_> = picked
            .into_iter()
            .map(|(which, changes, cut, more)| {
                let (link, mut data) = frames[which.index(frames.len())].clone();
                for (at, byte) in changes {
                    if !data.is_empty() {
                        // Headers are where lengths are.
                        let reach = data.len().min(96);
                        data[at.index(reach)] = byte;
                    }
                }
                if more == 1 {
                    data.truncate(cut.index(data.len() + 1));
                }
                (link, data, more)
            })
            .collect();
        answered(&mutated);
        Ok(())
    };
    runner.run(&strategy, run).unwrap();
}
