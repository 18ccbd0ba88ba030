//! Packets of every flavour, damage, and mutated files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_pcapng::{DamageKind, Packets, link_type};
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../data/golden.pcapng");

fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

type Seen = Vec<(u16, i64, u32, Vec<u8>)>;

fn read(bytes: &[u8]) -> (Seen, Option<(DamageKind, u64)>) {
    let mut packets = Packets::new(bytes);
    let mut seen = Seen::new();
    while let Some(packet) = packets.next_packet() {
        seen.push((packet.link_type, packet.time_ns, packet.original_length, packet.data.to_vec()));
    }
    assert!(packets.next_packet().is_none());
    (seen, packets.damage().map(|damage| (damage.kind, damage.offset)))
}

fn word(value: u32, big: bool) -> [u8; 4] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

/// A file of two packets, the second cut by the snap length.
fn classic(magic: u32, big: bool, version: (u16, u16), extra_record: usize, extra_file: usize) -> Vec<u8> {
    let mut out = word(magic, big).to_vec();
    for half in [version.0, version.1] {
        out.extend(if big { half.to_be_bytes() } else { half.to_le_bytes() });
    }
    [0, 0, 96, 0x3000_0001].iter().for_each(|value| out.extend(word(*value, big)));
    out.extend(vec![0; extra_file]);
    for (fraction, original, data) in [(7, 3, &b"abc"[..]), (8, 1500, b"de")] {
        let lengths = if version.1 < 3 { [original, data.len() as u32] } else { [data.len() as u32, original] };
        [1_700_000_000, fraction, lengths[0], lengths[1]].iter().for_each(|value| out.extend(word(*value, big)));
        out.extend(vec![0; extra_record]);
        out.extend(data);
    }
    out
}

#[test]
fn every_classic_flavour() {
    for (magic, unit, record, file, version) in [
        (0xa1b2_c3d4, 1000, 0, 0, (2, 4)),
        (0xa1b2_c3d4, 1000, 0, 0, (543, 0)),
        (0xa1b2_c3d4, 1000, 0, 0, (2, 2)),
        (0xa1b2_3c4d, 1, 0, 0, (2, 4)),
        (0xa12b_3c4d, 1, 0, 0, (2, 4)),
        (0xa1b2_cd34, 1000, 8, 0, (2, 4)),
        (0x1c00_01ac, 1, 0, 4, (2, 4)),
        (0x1c00_01ab, 1, 0, 4, (2, 4)),
    ] {
        for big in [false, true] {
            let start = 1_700_000_000_000_000_000;
            let expected = vec![(1, start + 7 * unit, 3, b"abc".to_vec()), (1, start + 8 * unit, 1500, b"de".to_vec())];
            assert_eq!(read(&classic(magic, big, version, record, file)), (expected, None), "{magic:x} {big} {version:?}");
        }
    }
}

#[test]
fn damage_comes_after_the_packets_before_it() {
    let good = classic(0xa1b2_c3d4, false, (2, 4), 0, 0);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let second = 24 + 16 + 3;
    for (bytes, packets, kind, offset) in [
        (Vec::new(), 0, DamageKind::Empty, 0),
        (b"abc".to_vec(), 0, DamageKind::CutHeader, 0),
        (b"GET / HTTP/1.0\r\n\r\n and so on".to_vec(), 0, DamageKind::NotACapture, 0),
        (good[..23].to_vec(), 0, DamageKind::CutHeader, 0),
        (with(4, &[9]), 0, DamageKind::BadVersion, 0),
        (good[..24 + 15].to_vec(), 0, DamageKind::CutRecord, 24),
        (good[..second - 1].to_vec(), 0, DamageKind::CutRecord, 24),
        (good[..second + 15].to_vec(), 1, DamageKind::CutRecord, second as u64),
        (good[..good.len() - 1].to_vec(), 1, DamageKind::CutRecord, second as u64),
        (with(second + 8, &[0xff; 4]), 1, DamageKind::BadLength, second as u64),
        (GOLDEN[..11].to_vec(), 0, DamageKind::CutHeader, 0),
        (GOLDEN[..GOLDEN.len() - 1].to_vec(), 4, DamageKind::CutRecord, 0),
        ([GOLDEN, &[0; 12]].concat(), 4, DamageKind::BadLength, GOLDEN.len() as u64),
    ] {
        let (seen, damage) = read(&bytes);
        let (found, place) = damage.unwrap();
        assert_eq!((seen.len(), found), (packets, kind));
        assert!(place == offset || (offset == 0 && bytes.starts_with(GOLDEN.get(..12).unwrap())), "{kind:?} {place}");
    }
    assert_eq!(read(&good[..24]), (Vec::new(), None), "no packets is no damage");
    assert_eq!(read(&good[..second]).0.len(), 1);
}

fn block(kind: u32, body: &[u8], big: bool) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = word(body.len() as u32 + 12, big);
    [&word(kind, big)[..], &length, &body, &length].concat()
}

fn section(big: bool) -> Vec<u8> {
    let version = if big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d, big)[..], &version, &[0xff; 8]].concat(), big)
}

fn interface(link: u16, options: &[u8], big: bool) -> Vec<u8> {
    let link = if big { link.to_be_bytes() } else { link.to_le_bytes() };
    block(1, &[&link[..], &[0; 2], &word(0, big), options].concat(), big)
}

/// Two sections of different byte order, each with own interfaces, every packet block and unknown ones between.
#[test]
fn sections_interfaces_and_every_packet_block() {
    for big in [false, true] {
        let words = |values: &[u32]| values.iter().flat_map(|value| word(*value, big)).collect::<Vec<u8>>();
        let option = |code: u16, value: &[u8]| {
            let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
            let mut out = [&half(code)[..], &half(value.len() as u16), value].concat();
            out.resize(out.len().next_multiple_of(4), 0);
            out
        };
        let seconds = option(9, &[0]);
        let offset = option(14, &if big { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() });
        let short = if big { [0, 1, 0, 9] } else { [1, 0, 9, 0] };
        let one = [
            section(big),
            interface(link_type::ETHERNET, &[], big),
            interface(link_type::RAW_IP, &[seconds, offset].concat(), big),
            block(0xbad, b"private", big),
            block(6, &[words(&[0, 0, 7, 3, 9]), b"abc".to_vec()].concat(), big),
            block(3, &[words(&[2]), b"sp".to_vec()].concat(), big),
            block(2, &[short.to_vec(), words(&[0, 5, 2, 2]), b"pb".to_vec()].concat(), big),
        ]
        .concat();
        let expected = [(1, 7000, 9, b"abc".to_vec()), (1, 7000, 2, b"sp".to_vec()), (101, 105_000_000_000, 2, b"pb".to_vec())];
        let other = [section(!big), interface(113, &[], !big), block(3, &[&word(1, !big)[..], b"x"].concat(), !big)].concat();
        let (seen, damage) = read(&[one.clone(), other, one].concat());
        assert_eq!(damage, None);
        assert_eq!((&seen[..3], &seen[4..]), (&expected[..], &expected[..]));
        assert_eq!((seen[3].0, &seen[3].3[..]), (113, &b"x"[..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

    /// Whatever the bytes: an end, never more than was there, and no packets after the damage.
    #[test]
    fn mutated_files_end(which in 0usize..4, at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..9), cut: prop::sample::Index, remove in 0usize..8) {
        let mut file = match which {
            0 => classic(0xa1b2_c3d4, false, (2, 4), 0, 0),
            1 => classic(0xa1b2_cd34, true, (2, 4), 8, 0),
            _ => GOLDEN.to_vec(),
        };
        let at = at.index(file.len());
        let until = (at + remove).min(file.len());
        file.splice(at..until, bytes);
        if which == 3 {
            let keep = cut.index(file.len() + 1);
            file.truncate(keep);
        }
        let (seen, _) = read(&file);
        prop_assert!(seen.iter().map(|(_, _, _, data)| data.len()).sum::<usize>() <= file.len());
        prop_assert!(seen.iter().all(|(_, _, original, data)| *original as usize >= data.len()));
    }

    #[test]
    fn arbitrary_bytes_end(magic in prop::sample::select(vec![0xa1b2_c3d4u32, 0xa1b2_cd34, 0x0a0d_0d0a, 0]), mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = magic.to_le_bytes().to_vec();
        file.append(&mut bytes);
        read(&file);
    }
}
