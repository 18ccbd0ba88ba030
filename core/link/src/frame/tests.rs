use super::*;
use crate::name::Role;
use glasshive_event::LogId;
use glasshive_event::text::{hex, unhex};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn samples() -> Vec<(&'static str, Message)> {
    let log = LogId([0x33; 16]);
    vec![
        (
            "hello",
            Message::Hello(Hello {
                oldest: 1,
                newest: 1,
                node: "edge".parse().unwrap(),
                role: Role::Sensor,
                product: "0.1.0".into(),
                log,
                first: 1,
                next: 300,
                chain_head: [0x44; 32],
            }),
        ),
        ("welcome", Message::Welcome(Welcome { version: 1, durable: 299, credit: 4_194_304, max_frame: 4_194_304, wall_ns: -5 })),
        (
            "batch",
            Message::Batch(Batch { log, first: 300, count: 1, chain_before: [0x44; 32], records: Bytes::from_static(b"\0\0\0\x02ab") }),
        ),
        ("ack", Message::Ack(Ack { durable: 300, credit: 9 })),
        ("nack", Message::Nack(Nack { expected: 300, why: NackWhy::Tamper })),
        ("gap", Message::Gap(GapFrame { log, from: 1, to: 299, why: "quota".into() })),
        ("checkpoint", Message::Checkpoint(Note { log, note: Bytes::from_static(b"note") })),
        ("ping", Message::Ping(Ping { id: 1, wall_ns: 1_700_000_000_000_000_000, next: 2 })),
        ("pong", Message::Pong(Pong { id: 1, wall_ns: 1_700_000_000_000_000_000, next: 2 })),
        ("goaway", Message::GoAway(GoAway { retry_after_ms: 1000, why: GoAwayWhy::Diverged, text: "why".into() })),
        ("join", Message::Join(Join { secret: [0x55; 32], node: "edge".parse().unwrap(), csr: "pem".into() })),
        ("joined", Message::Joined(Bytes::from_static(b"{}"))),
        ("renew", Message::Renew(Bytes::from_static(b"pem"))),
        ("renewed", Message::Renewed(Bytes::from_static(b"{}"))),
        (
            "file get",
            Message::FileGet(FileGet { request: 7, name: "ab".repeat(32).parse().unwrap(), offset: 1, len: u64::MAX, credit: 65536 }),
        ),
        ("file data", Message::FileData(FileData { request: 7, offset: 1, bytes: Bytes::from_static(b"data") })),
        ("file end", Message::FileEnd(FileEnd { request: 7, total: 5 })),
        ("cancel", Message::Cancel(7)),
        ("credit", Message::Credit(Credit { request: 7, bytes: 5 })),
        ("refused", Message::Refused(Refused { request: 7, why: RefusedWhy::NotSupported })),
        ("carve", Message::Carve(BulkRequest { request: 7, query: Bytes::from_static(b"q") })),
        ("carve data", Message::CarveData(FileData { request: 7, offset: 1, bytes: Bytes::from_static(b"data") })),
        ("carve end", Message::CarveEnd(BulkRequest { request: 7, query: Bytes::from_static(b"{}") })),
    ]
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    FrameCodec::new(MAX_FRAME).encode(message.frame().unwrap(), &mut out).unwrap();
    out.to_vec()
}

/// What the wire looks like in version 1. A change here breaks every node in the field: add a variant instead.
#[test]
fn golden_v1() {
    let golden: std::collections::BTreeMap<&str, &str> =
        include_str!("golden-v1.txt").lines().filter_map(|line| line.split_once(": ")).collect();
    for (name, message) in samples() {
        let wire = encoded(&message);
        assert_eq!(golden.get(name).copied(), Some(hex(&wire).as_str()), "{name}");
        let mut bytes = BytesMut::from(unhex(golden[name]).unwrap().as_slice());
        let frame = FrameCodec::new(MAX_FRAME).decode(&mut bytes).unwrap().unwrap();
        assert_eq!(Message::decode(&frame).unwrap(), message, "{name}");
        assert!(bytes.is_empty());
    }
}

#[test]
fn lengths_are_checked_before_anything_else() {
    let decode = |bytes: &[u8], max| FrameCodec::new(max).decode(&mut BytesMut::from(bytes));
    assert!(matches!(decode(&[0xff; 4], MAX_FRAME), Err(FrameError::Long(0xffff_ffff, MAX_FRAME))));
    assert!(matches!(decode(&(MAX_FRAME as u32 + 1).to_be_bytes(), usize::MAX), Err(FrameError::Long(..))));
    assert!(matches!(decode(&(MAX_UNPROVEN as u32 + 1).to_be_bytes(), MAX_UNPROVEN), Err(FrameError::Long(..))));
    assert!(matches!(decode(&[0, 0, 0, 1, 9], MAX_FRAME), Err(FrameError::Short(1))));
    assert!(matches!(decode(&[0, 0, 0, 2, 9, 2], MAX_FRAME), Err(FrameError::Flags(2))));
    assert!(matches!(decode(&[0, 0, 0, 3, 9, 0], MAX_FRAME), Ok(None)));
    assert!(matches!(decode(&[0, 0], MAX_FRAME), Ok(None)));
    let long = Frame::plain(1, vec![0; MAX_FRAME - 1]);
    assert!(FrameCodec::new(MAX_FRAME).encode(long, &mut BytesMut::new()).is_err());
    let unknown = Frame::plain(200, vec![1, 2, 3]);
    assert_eq!(Message::decode(&unknown).unwrap(), Message::Unknown(200));
}

#[test]
fn compression_helps_and_is_bounded() {
    let text: Vec<u8> = (0..20_000u32).flat_map(|n| format!("record {n} ").into_bytes()).collect();
    let frame = Frame::compressed(kind::BATCH, text.clone());
    assert!(frame.wire_len() < text.len() / 2);
    assert_eq!(frame.body().unwrap(), text);

    // A visitor can send zeros for hours: what would look like a bomb travels as it is.
    let zeros = vec![0; 1024 * 1024];
    let frame = Frame::compressed(kind::BATCH, zeros.clone());
    assert_eq!(frame.flags, 0);
    assert_eq!(frame.body().unwrap(), zeros);

    let bomb = |declared: usize, body: &[u8]| {
        let mut bytes = (declared as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        Frame { kind: kind::BATCH, flags: FLAG_ZSTD, body: bytes.into() }.body()
    };
    let small = zstd::bulk::compress(&zeros, 1).unwrap();
    assert!(matches!(bomb(zeros.len(), &small), Err(FrameError::Inflate("ratio too high"))));
    assert!(matches!(bomb(MAX_RAW + 1, &[0; 100_000]), Err(FrameError::Inflate("declared too large"))));
    let honest = zstd::bulk::compress(&text, 1).unwrap();
    assert!(bomb(text.len(), &honest).is_ok());
    for lie in [text.len() - 1, text.len() + 1, 0] {
        assert!(bomb(lie, &honest).is_err(), "declared {lie}");
    }
    let frame = Frame { kind: 3, flags: FLAG_ZSTD, body: Bytes::from_static(&[0, 0]) };
    assert!(frame.body().is_err());
}

fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Feeds bytes as they might come from a socket.
fn feed(bytes: &[u8]) {
    let mut codec = FrameCodec::new(MAX_FRAME);
    let mut buffer = BytesMut::new();
    for part in bytes.chunks(37) {
        buffer.extend_from_slice(part);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    if let Ok(message) = Message::decode(&frame) {
                        // Whatever is understood can be said again and means the same.
                        let again = Message::decode(&message.frame().unwrap()).unwrap();
                        assert_eq!(again, message);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[test]
fn mutated_frames_never_panic() {
    let text: Vec<u8> = (0..400u32).flat_map(|n| format!("record {n} ").into_bytes()).collect();
    let big = Batch { log: LogId([1; 16]), first: 1, count: 9, chain_before: [2; 32], records: text.into() };
    let mut seeds: Vec<Vec<u8>> = samples().iter().map(|(_, message)| encoded(message)).collect();
    seeds.push(encoded(&Message::Batch(big)));
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..6);
    let input = (prop::sample::select(seeds.clone()), prop::sample::select(seeds), edits);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases()) });
    runner
        .run(&input, |(first, second, edits)| {
            let mut bytes = [first, second].concat();
            for (at, value, how) in edits {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = value,
                    1 => bytes.insert(at, value),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            feed(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn arbitrary_bodies_never_panic() {
    let input = (any::<u8>(), 0..2u8, proptest::collection::vec(any::<u8>(), 0..200));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases()) });
    runner
        .run(&input, |(kind, flags, body)| {
            let mut bytes = (body.len() as u32 + 2).to_be_bytes().to_vec();
            bytes.extend([kind % 48, flags]);
            bytes.extend(body);
            feed(&bytes);
            Ok(())
        })
        .unwrap();
}
