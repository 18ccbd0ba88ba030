//! Golden bytes, round trips and damage.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_pcapng::{
    Block, BlockReader, Encoder, Interface, NameRecord, OptionList, Packet, ReadError, Secrets, SecretsKind, SectionHeader, Statistics,
    Timescale, UnknownBlock, code, link_type, parse_block,
};
use proptest::prelude::*;

/// The same bytes are opened by tshark 4.0 (checked by hand): two interfaces, four packets.
const GOLDEN: &[u8] = include_bytes!("../data/golden.pcapng");

fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

fn sample() -> Vec<Block<'static>> {
    let mut header = OptionList::new();
    header.push_text(code::SHB_APPLICATION, "glasshive");
    let ethernet = "ffffffffffff0200000000010800450000210000000040110000c6336401cb007101303900350 00d0000".replace(' ', "");
    let frame: Vec<u8> =
        (0..ethernet.len() / 2).map(|i| u8::from_str_radix(&ethernet[i * 2..][..2], 16).unwrap()).chain(*b"hello").collect();
    let raw = frame[14..].to_vec();
    let time = 1_700_000_000_123_456_789;
    vec![
        Block::SectionHeader(SectionHeader { options: header }),
        Block::Interface(Interface { snap_length: 262_144, ..Interface::new(link_type::ETHERNET, "eth0") }),
        Block::Interface(Interface::new(link_type::RAW_IP, "derived-plaintext")),
        Block::Secrets(Secrets {
            kind: SecretsKind::TLS_KEY_LOG,
            data: b"CLIENT_RANDOM 00 01\n".as_slice().into(),
            options: OptionList::default(),
        }),
        Block::Names(vec![
            NameRecord { address: "198.51.100.1".parse().unwrap(), names: vec!["visitor.example".into(), "v".into()] },
            NameRecord { address: "fd00:6768::1".parse().unwrap(), names: vec!["target.example".into()] },
        ]),
        Block::Packet(Packet::new(0, time, frame.clone())),
        Block::Packet(Packet::new(0, time + 1, frame).comment("session 01").comment("command: id")),
        Block::Packet(Packet { original_length: 1500, ..Packet::new(1, time + 2, raw.clone()) }),
        Block::Packet(Packet::new(1, time + 3, raw).comment("é")),
        Block::Statistics(Statistics { interface: 0, time: time + 4, received: Some(4), dropped: Some(0), options: OptionList::default() }),
    ]
}

fn encode(blocks: &[Block<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    blocks.iter().for_each(|block| encoder.block(block));
    encoder.take()
}

/// All blocks, owned by their debug text, and how reading ended.
fn read(bytes: &[u8]) -> (Vec<String>, Option<ReadError>, u64) {
    let mut reader = BlockReader::new(bytes);
    let mut seen = Vec::new();
    loop {
        match reader.next_block() {
            Ok(Some(block)) => seen.push(format!("{block:?}")),
            Ok(None) => return (seen, None, reader.unknown_blocks()),
            Err(error) => {
                assert!(matches!(reader.next_block(), Ok(None)), "nothing after an error");
                return (seen, Some(error), reader.unknown_blocks());
            }
        }
    }
}

fn shown(blocks: &[Block<'_>]) -> Vec<String> {
    blocks.iter().map(|block| format!("{block:?}")).collect()
}

#[test]
fn golden_bytes() {
    let written = encode(&sample());
    if std::env::var_os("GLASSHIVE_TEST_WRITE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/data/golden.pcapng"), &written).unwrap();
    }
    assert!(written == GOLDEN, "the encoder's bytes changed");
    let (seen, error, unknown) = read(GOLDEN);
    assert!(error.is_none() && unknown == 0, "{error:?}");
    assert_eq!(seen, shown(&sample()));
}

#[test]
fn golden_packet_block_byte_by_byte() {
    let bytes = encode(&[Block::Packet(Packet::new(2, 0x0011_2233_4455_6677, b"abcde".as_slice()).comment("hi"))]);
    #[rustfmt::skip]
    let expected = [
        6, 0, 0, 0, 52, 0, 0, 0, // type, length
        2, 0, 0, 0, 0x33, 0x22, 0x11, 0x00, 0x77, 0x66, 0x55, 0x44, // interface, time high, low
        5, 0, 0, 0, 5, 0, 0, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0, // lengths, data, padding
        1, 0, 2, 0, b'h', b'i', 0, 0, 0, 0, 0, 0, // comment, end of options
        52, 0, 0, 0,
    ];
    assert_eq!(bytes[..], expected[..]);
}

/// A big-endian file written by hand: microseconds by default, a simple packet, an unknown block.
#[rustfmt::skip]
const BIG: &[u8] = &[
    0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 28,
    0, 0, 0, 1, 0, 0, 0, 32, 0, 1, 0, 0, 0, 0, 0, 4, 0, 2, 0, 2, b'l', b'o', 0, 0, 0, 0, 0, 0, 0, 0, 0, 32,
    0x7f, 0, 0, 1, 0, 0, 0, 16, 1, 2, 3, 4, 0, 0, 0, 16,
    0, 0, 0, 6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 9, b'x', b'y', b'z', 0, 0, 0, 0, 36,
    0, 0, 0, 3, 0, 0, 0, 20, 0, 0, 0, 9, b'a', b'b', b'c', b'd', 0, 0, 0, 20,
    0, 0, 0, 5, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 40,
];

#[test]
fn big_endian_file() {
    let mut reader = BlockReader::new(BIG);
    assert_eq!(reader.next_block().unwrap(), Some(Block::SectionHeader(SectionHeader::default())));
    let Some(Block::Interface(interface)) = reader.next_block().unwrap() else { panic!() };
    assert_eq!((interface.link_type, interface.snap_length, interface.options.text(code::IF_NAME)), (1, 4, Some("lo")));
    assert_eq!(interface.timescale, Timescale::MICROSECONDS);
    let Some(Block::Packet(packet)) = reader.next_block().unwrap() else { panic!() };
    assert_eq!((packet.time, packet.original_length, packet.data.as_ref()), (Some(1 << 32 | 2), 9, b"xyz".as_slice()));
    let Some(Block::Packet(packet)) = reader.next_block().unwrap() else { panic!() };
    assert_eq!((packet.time, packet.original_length, packet.data.as_ref()), (None, 9, b"abcd".as_slice()));
    let Some(Block::Statistics(statistics)) = reader.next_block().unwrap() else { panic!() };
    assert_eq!((statistics.time, statistics.received, statistics.dropped), (7, Some(42), None));
    assert!(reader.next_block().unwrap().is_none());
    assert_eq!((reader.unknown_blocks(), reader.offset(), reader.timescale(0)), (1, BIG.len() as u64, Some(Timescale::MICROSECONDS)));
}

#[test]
fn sections_of_both_orders_in_one_file() {
    let (seen, error, unknown) = read(&[BIG, GOLDEN, BIG].concat());
    assert!(error.is_none(), "{error:?}");
    assert_eq!((seen.len(), unknown), (5 + sample().len() + 5, 2));
}

#[test]
fn every_truncation_is_told() {
    let ends: Vec<usize> = (0..GOLDEN.len()).filter(|end| read(&GOLDEN[..*end]).1.is_none()).collect();
    // Only block boundaries end cleanly: one before each block.
    assert_eq!(ends.len(), sample().len());
    for end in (0..GOLDEN.len()).filter(|end| !ends.contains(end)) {
        let error = read(&GOLDEN[..end]).1.unwrap();
        assert!(matches!(error, ReadError::NotPcapng | ReadError::Truncated { .. }), "{end} {error}");
    }
}

#[test]
fn damage_is_told_with_its_offset() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut bytes = GOLDEN.to_vec();
        change(&mut bytes);
        assert_eq!(read(&bytes).1.unwrap().to_string(), expected);
    }
    check(|bytes| bytes[0] = 0, "not a pcapng file");
    check(|bytes| bytes[8] = 0, "damaged block at byte 0: byte-order magic");
    check(|bytes| bytes[12] = 2, "damaged block at byte 0: version of the format is not 1");
    check(
        |bytes| {
            let end = usize::from(bytes[4]);
            bytes[end - 1] = 1;
        },
        "damaged block at byte 0: the lengths at its ends differ",
    );
    check(|bytes| bytes[4] = 13, "damaged block at byte 0: length");
    check(|bytes| bytes[4..8].fill(0xff), "damaged block at byte 0: length");
    check(|bytes| bytes[4..8].copy_from_slice(&[0, 0, 0, 0xf0]), "block of 4026531840 bytes at byte 0 is over the limit of 16777216");
    let no_interface = encode(&[Block::SectionHeader(SectionHeader::default()), Block::Packet(Packet::new(0, 0, b"".as_slice()))]);
    assert_eq!(read(&no_interface).1.unwrap().to_string(), "damaged block at byte 28: it names an interface that was not described");
}

#[test]
fn a_lying_length_allocates_nothing() {
    let mut bytes = encode(&[Block::SectionHeader(SectionHeader::default())]);
    bytes.extend([6, 0, 0, 0, 0, 0, 0, 0x7f, 1, 2, 3]);
    let mut reader = BlockReader::with_limit(bytes.as_slice(), u32::MAX);
    assert!(reader.next_block().unwrap().is_some());
    assert!(matches!(reader.next_block(), Err(ReadError::Truncated { offset: 28 })));
}

#[test]
fn names_are_kept_within_a_record() {
    let long = "n".repeat(70_000);
    let address = "192.0.2.1".parse().unwrap();
    let records = vec![
        NameRecord { address, names: vec![long.as_str().into()] },
        NameRecord { address, names: vec![] },
        NameRecord { address, names: vec!["a\0b".into(), long.as_str().into()] },
    ];
    let bytes = encode(&[Block::Names(records)]);
    assert_eq!(parse_block(&bytes, false, 0).unwrap(), Block::Names(vec![NameRecord { address, names: vec!["a".into()] }]));
}

fn options() -> impl Strategy<Value = OptionList<'static>> {
    // Codes above those that become fields of their own.
    proptest::collection::vec((100u16..200, proptest::collection::vec(any::<u8>(), 0..40)), 0..5).prop_map(|list| {
        let mut options = OptionList::new();
        list.into_iter().for_each(|(code, value)| options.push(code, value));
        options
    })
}

fn block() -> impl Strategy<Value = Block<'static>> {
    let data = || proptest::collection::vec(any::<u8>(), 0..200);
    let name = "[^\0]{0,12}".prop_map(std::borrow::Cow::Owned);
    let record =
        (any::<std::net::IpAddr>(), proptest::collection::vec(name, 1..4)).prop_map(|(address, names)| NameRecord { address, names });
    prop_oneof![
        options().prop_map(|options| Block::SectionHeader(SectionHeader { options })),
        (any::<u16>(), any::<u32>(), any::<u8>(), any::<i64>(), options()).prop_map(
            |(link_type, snap_length, resolution, offset_seconds, options)| {
                Block::Interface(Interface { link_type, snap_length, timescale: Timescale { resolution, offset_seconds }, options })
            }
        ),
        (any::<u32>(), any::<u64>(), any::<u32>(), data(), options()).prop_map(|(interface, time, original_length, data, options)| {
            Block::Packet(Packet { interface, time: Some(time), original_length, data: data.into(), options })
        }),
        (any::<u32>(), data(), options()).prop_map(|(kind, data, options)| Block::Secrets(Secrets {
            kind: SecretsKind(kind),
            data: data.into(),
            options
        })),
        proptest::collection::vec(record, 0..4).prop_map(Block::Names),
        (any::<u32>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), options()).prop_map(
            |(interface, time, received, dropped, options)| {
                Block::Statistics(Statistics { interface, time, received, dropped, options })
            }
        ),
        (0x7f00_0000u32.., proptest::collection::vec(any::<[u8; 4]>(), 0..20))
            .prop_map(|(kind, body)| Block::Unknown(UnknownBlock { kind, body: body.concat().into() })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

    #[test]
    fn blocks_round_trip(block in block()) {
        let bytes = encode(std::slice::from_ref(&block));
        prop_assert_eq!(bytes.len() % 4, 0);
        prop_assert_eq!(parse_block(&bytes, false, 0).unwrap(), block);
    }

    #[test]
    fn mutations_are_answered(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>(), big: bool) {
        let mut bytes = if big { [BIG, GOLDEN].concat() } else { [GOLDEN, BIG].concat() };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 4).max(28));
        let (seen, _, _) = read(&bytes);
        prop_assert!(seen.len() <= bytes.len() / 12);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), big: bool, snap: u32) {
        let _ = read(&bytes);
        let _ = parse_block(&bytes, big, snap);
    }
}
