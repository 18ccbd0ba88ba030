use super::*;
use crate::frames;
use crate::ring::tests::{scratch, settings, write};
use crate::ring::{LossSpan, RingSettings};
use glasshive_event::{PacketMatch, PacketScope, Timestamp};
use glasshive_pcapng::BlockReader;
use proptest::prelude::*;
use std::net::IpAddr;

/// Mixed traffic: flows between few hosts, fragments, ARP, a tunnel, an ICMP quote, something that is not IP.
fn traffic(count: u32) -> Vec<(i64, Vec<u8>)> {
    let mut out = Vec::new();
    for n in 0..count {
        let (a, b) = ([10, 0, 0, (n % 5) as u8], [10, 0, 1, (n % 3) as u8]);
        let payload = n.to_be_bytes();
        let tcp = [&(2000 + (n % 7) as u16).to_be_bytes()[..], &80u16.to_be_bytes(), &[0; 16], &payload].concat();
        let data = match n % 11 {
            0..=3 => frames::frame(17, a, b, 0, &frames::udp(1000 + (n % 7) as u16, 53, &payload)),
            4 | 5 => frames::frame(6, a, b, 0, &tcp),
            6 => {
                frames::frame(6, b, a, 0, &[&80u16.to_be_bytes()[..], &(2000 + (n % 7) as u16).to_be_bytes(), &[0; 16], &payload].concat())
            }
            7 => frames::frame(17, a, b, 185, &payload),
            8 => frames::frame(
                17,
                [172, 16, 0, 1],
                [172, 16, 0, 2],
                0,
                &frames::udp(9, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &frames::frame(6, a, b, 0, &tcp)].concat()),
            ),
            9 => {
                let mut arp = vec![0xff; 12];
                arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
                arp.extend(a);
                arp.extend([0; 6]);
                arp.extend(b);
                arp.extend(payload);
                arp
            }
            _ => [&[1; 12][..], &[0x88, 0xcc], &payload].concat(),
        };
        // Neighbours may stand in the wrong order, as with several queues.
        out.push((i64::from(n ^ 3) * 1_000_000, data));
    }
    out
}

/// A ring of that traffic in several segments.
fn made(count: u32) -> (tempfile::TempDir, Vec<(i64, Vec<u8>)>) {
    let (dir, all) = (scratch(), traffic(count));
    // Each run of the ring's threads leaves one segment.
    for part in all.chunks(all.len().div_ceil(3)) {
        write(settings(dir.path()), part.chunks(100).map(<[_]>::to_vec));
    }
    (dir, all)
}

/// The packets of a file, in its order.
fn packets(bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut reader = BlockReader::new(bytes);
    let mut out = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        if let Block::Packet(packet) = block {
            out.push((packet.time.unwrap() as i64, packet.data.into_owned()));
        }
    }
    out
}

fn carved(dir: &std::path::Path, selection: &Selection) -> (Vec<(i64, Vec<u8>)>, CarveStatement) {
    let mut out = Vec::new();
    let statement = RingCarver::new(RingDir::new(dir)).carve_to(selection, 1 << 30, &mut out).unwrap();
    assert_eq!(statement.bytes, out.len() as u64);
    (packets(&out), statement)
}

/// What must come out: every packet tested, sorted by time.
fn truth(all: &[(i64, Vec<u8>)], selection: &Selection) -> Vec<(i64, Vec<u8>)> {
    let filter = Filter::new(selection).unwrap();
    let mut expected: Vec<_> = all.iter().filter(|(at, data)| filter.passes(Timestamp(*at), data)).cloned().collect();
    expected.sort_by_key(|(at, _)| *at);
    expected
}

fn scope(one: PacketMatch) -> Selection {
    Selection { scope: PacketScope(vec![one]), ..Selection::default() }
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn selections_find_what_they_mean() {
    let (dir, all) = made(3300);
    let check = |selection: &Selection, least: usize| {
        let (found, statement) = carved(dir.path(), selection);
        let expected = truth(&all, selection);
        assert!(found == expected, "{selection:?}: {} found, {} expected", found.len(), expected.len());
        assert!(found.len() >= least && found.is_sorted_by_key(|(at, _)| *at), "{selection:?}: {}", found.len());
        assert_eq!((statement.matched, statement.exported, statement.limited), (found.len() as u64, found.len() as u64, false));
        assert_eq!(statement.segments.iter().map(|segment| segment.exported).sum::<u64>(), statement.exported);
        assert!(statement.segments.iter().all(|segment| segment.complete && segment.sha256.len() == 64));
        found
    };
    let all_of_it = check(&scope(PacketMatch::default()), 3300);
    assert_eq!(all_of_it.len(), 3300);
    // A connection: both directions, and the fragments that have no ports.
    let flow = PacketMatch {
        protocol: Some(17),
        a: ip("10.0.0.1"),
        a_port: Some(1000),
        b: ip("10.0.1.1"),
        b_port: Some(53),
        ..PacketMatch::default()
    };
    let found = check(&scope(flow.clone()), 10);
    assert!(found.iter().any(|(_, data)| data[20..22] == [0, 185]));
    let other_way = PacketMatch { a: flow.b, a_port: flow.b_port, b: flow.a, b_port: flow.a_port, ..flow.clone() };
    assert_eq!(check(&scope(other_way), 10), found);
    // Within a tunnel too.
    let tcp = PacketMatch { protocol: Some(6), a: ip("10.0.0.2"), b: ip("10.0.1.1"), ..PacketMatch::default() };
    assert!(check(&scope(tcp), 20).iter().any(|(_, data)| data[23] == 17));
    for one in [
        PacketMatch { arp: true, ..PacketMatch::default() },
        PacketMatch { arp: true, a: ip("10.0.0.4"), ..PacketMatch::default() },
        PacketMatch { a_port: Some(53), ..PacketMatch::default() },
        PacketMatch { a: ip("10.0.0.3"), b_port: Some(80), ..PacketMatch::default() },
        PacketMatch { protocol: Some(17), ..PacketMatch::default() },
        PacketMatch { since: Some(Timestamp(500_000_000)), until: Some(Timestamp(600_000_000)), ..PacketMatch::default() },
        PacketMatch { a: ip("172.16.0.1"), since: Some(Timestamp(900_000_000)), ..PacketMatch::default() },
    ] {
        check(&scope(one), 20);
    }
    for one in [PacketMatch { a: ip("10.9.9.9"), ..PacketMatch::default() }, PacketMatch { protocol: Some(99), ..PacketMatch::default() }] {
        assert!(check(&scope(one), 0).is_empty());
    }
    let id = glasshive_proto::community_id::community_id(6, ip("10.0.1.1").unwrap(), 80, ip("10.0.0.0").unwrap(), 2005).unwrap();
    let by_id = Selection { communities: vec![id], ..scope(PacketMatch::default()) };
    check(&by_id, 5);
    let bpf = Selection { bpf: Some("udp port 53 and host 10.0.0.1".into()), ..scope(PacketMatch::default()) };
    check(&bpf, 50);
    let two = Selection { scope: PacketScope(vec![flow, PacketMatch { arp: true, ..PacketMatch::default() }]), ..Selection::default() };
    check(&two, 50);
    assert!(check(&Selection::default(), 0).is_empty(), "no match means nothing");
    let mut empty = Vec::new();
    RingCarver::new(RingDir::new(dir.path())).carve_to(&Selection::default(), 1 << 20, &mut empty).unwrap();
    let mut reader = BlockReader::new(&empty[..]);
    while reader.next_block().unwrap().is_some() {}
    assert!(reader.timescale(0).is_some(), "a file without packets describes an interface");
}

#[test]
fn a_limit_keeps_whole_packets_in() {
    let (dir, all) = made(600);
    for limit in [0, 50, 300, 5_000] {
        let mut out = Vec::new();
        let statement = RingCarver::new(RingDir::new(dir.path())).carve_to(&scope(PacketMatch::default()), limit, &mut out).unwrap();
        assert!(statement.limited && out.len() as u64 <= limit && statement.bytes == out.len() as u64);
        let found = packets(&out);
        assert_eq!(found.len() as u64, statement.exported);
        let mut expected = all.clone();
        expected.sort_by_key(|(at, _)| *at);
        assert!(expected.starts_with(&found));
    }
}

#[test]
fn a_lost_or_damaged_index_costs_nothing_but_time() {
    let (dir, all) = made(900);
    let ring = RingDir::new(dir.path());
    let selection = scope(PacketMatch { a: ip("10.0.0.1"), b_port: Some(53), ..PacketMatch::default() });
    let expected = truth(&all, &selection);
    std::fs::remove_file(ring.index(1)).unwrap();
    std::fs::write(ring.index(2), vec![7; 5000]).unwrap();
    let path = ring.index(3);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (found, statement) = carved(dir.path(), &selection);
    assert!(found == expected);
    assert!(statement.notes.iter().any(|note| note.contains("index was damaged")), "{:?}", statement.notes);
}

#[test]
fn an_index_of_another_segment_brings_nothing_wrong() {
    let (dir, all) = made(900);
    let ring = RingDir::new(dir.path());
    std::fs::copy(ring.index(1), ring.index(2)).unwrap();
    let selection = scope(PacketMatch { a: ip("10.0.0.1"), ..PacketMatch::default() });
    let expected = truth(&all, &selection);
    let (found, _) = carved(dir.path(), &selection);
    assert!(found.iter().all(|packet| expected.contains(packet)) && found.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn what_is_missing_is_said() {
    let dir = scratch();
    let ring = RingDir::new(dir.path());
    for part in traffic(900).chunks(300) {
        write(settings(dir.path()), [part.to_vec()]);
    }
    ring.purge(1).unwrap();
    let lost =
        |from: i64, cause: &str| LossSpan { from: Timestamp(from), to: Timestamp(from + 10), cause: cause.into(), count: 7, bytes: 0 };
    let lines: Vec<u8> = [lost(400_000_000, "capture_kernel"), lost(400_000_000, "analysis"), lost(880_000_000, "ring")]
        .iter()
        .flat_map(|span| [serde_json::to_vec(span).unwrap(), b"\n".to_vec()].concat())
        .collect();
    std::fs::write(ring.losses_path(), lines).unwrap();
    let (found, statement) = carved(dir.path(), &scope(PacketMatch::default()));
    assert_eq!((found.len(), statement.purged.len()), (600, 1));
    assert_eq!(statement.purged[0].until, Some(Timestamp(299_000_000)));
    assert_eq!(statement.lost.iter().map(|lost| lost.packets).collect::<Vec<_>>(), [Some(7), Some(7)]);
    let late = scope(PacketMatch { since: Some(Timestamp(350_000_000)), until: Some(Timestamp(500_000_000)), ..PacketMatch::default() });
    let (_, statement) = carved(dir.path(), &late);
    assert_eq!((statement.purged.len(), statement.lost.len()), (0, 1));
}

/// The active segment is read up to its mark, and with an index of its beginning only.
#[test]
fn a_segment_that_is_being_written_is_carved() {
    let (dir, all) = made(900);
    let ring = RingDir::new(dir.path());
    let selection = scope(PacketMatch { a_port: Some(53), ..PacketMatch::default() });
    let bytes = std::fs::read(ring.segment(3)).unwrap();
    std::fs::rename(ring.segment(3), ring.hidden(3)).unwrap();
    std::fs::remove_file(ring.meta_path(3)).unwrap();
    let (found, statement) = carved(dir.path(), &selection);
    assert!(found == truth(&all, &selection));
    assert!(statement.segments.last().is_some_and(|segment| !segment.complete && segment.sha256.len() == 64));
    for cut in [bytes.len() - 150, bytes.len() / 2, 100, 10, 0] {
        std::fs::write(ring.hidden(3), &bytes[..cut]).unwrap();
        let (found, statement) = carved(dir.path(), &selection);
        assert!(truth(&all, &selection).starts_with(&found[..200]) && found.len() > 200);
        assert!(!statement.notes.iter().any(|note| note.contains("damaged and could not")), "{:?}", statement.notes);
    }
}

#[test]
fn interfaces_of_other_kinds_are_kept_apart() {
    let dir = scratch();
    write(settings(dir.path()), [vec![(1, frames::frame(17, [10, 0, 0, 1], [10, 0, 0, 2], 0, &frames::udp(1, 2, b"a")))]]);
    let raw = RingSettings { link_type: 101, ..settings(dir.path()) };
    write(raw, [vec![(2, frames::ip4(17, [10, 0, 0, 1], [10, 0, 0, 2], 0, &frames::udp(1, 2, b"b")))]]);
    let mut out = Vec::new();
    let selection = Selection { bpf: Some("udp dst port 2".into()), ..scope(PacketMatch { a: ip("10.0.0.1"), ..PacketMatch::default() }) };
    let statement = RingCarver::new(RingDir::new(dir.path())).carve_to(&selection, 1 << 20, &mut out).unwrap();
    assert_eq!(statement.exported, 2);
    let mut reader = BlockReader::new(&out[..]);
    let (mut links, mut of) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block().unwrap() {
        match block {
            Block::Interface(interface) => links.push(interface.link_type),
            Block::Packet(packet) => of.push(packet.interface),
            _ => {}
        }
    }
    assert_eq!((links, of), (vec![1, 101], vec![0, 1]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases().min(400)))]
    /// Any selection: what comes out is what testing every packet gives.
    #[test]
    fn carving_equals_testing_every_packet(
        protocol in prop_oneof![Just(None), Just(Some(6u8)), Just(Some(17)), Just(Some(1))],
        a in prop::option::of(0u8..6), b in prop::option::of(0u8..4),
        ports in (prop::option::of(prop_oneof![1000u16..1008, Just(53), Just(80), 2000u16..2008]), prop::option::of(prop_oneof![Just(53u16), Just(80)])),
        arp in prop::bool::weighted(0.1),
        times in (prop::option::of(0i64..700), prop::option::of(0i64..700)),
    ) {
        thread_local! { static MADE: (tempfile::TempDir, Vec<(i64, Vec<u8>)>) = made(660); }
        MADE.with(|(dir, all)| {
            let selection = scope(PacketMatch {
                protocol: if arp { None } else { protocol },
                a: a.map(|last| [10, 0, 0, last].into()),
                a_port: ports.0,
                b: b.map(|last| [10, 0, 1, last].into()),
                b_port: ports.1,
                arp,
                since: times.0.map(|at| Timestamp(at * 1_000_000)),
                until: times.1.map(|at| Timestamp(at * 1_000_000)),
            });
            let (found, _) = carved(dir.path(), &selection);
            prop_assert!(found == truth(all, &selection), "{selection:?}");
            Ok(())
        })?;
    }
}
