//! Streams: order, holes, overlaps, bounds, any pieces and any numbers.

use super::*;
use proptest::prelude::*;

fn at(ms: i64) -> Timestamp {
    Timestamp(ms * 1_000_000)
}

#[derive(Default)]
struct Heard(Vec<u8>, Vec<(u64, u64)>);

impl Heard {
    fn hear(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(offset, bytes) => {
                assert_eq!(offset, self.0.len() as u64, "in order");
                self.0.extend_from_slice(bytes);
            }
            Piece::Gap(missing) => {
                self.1.push((self.0.len() as u64, missing));
                self.0.resize(self.0.len() + missing as usize, b'?');
            }
        }
    }
}

fn run(steps: &[(i64, u32, &[u8])]) -> (Heard, Vec<Seen>, Stream, Pool) {
    let (mut stream, mut pool, mut heard) = (Stream::default(), Pool::new(1 << 20), Heard::default());
    stream.begin(100);
    let seen = steps
        .iter()
        .map(|(ms, seq, bytes)| {
            let segment = Segment { seq: *seq, bytes, length: bytes.len() as u32 };
            stream.segment(at(*ms), segment, &mut pool, &mut |piece| heard.hear(piece))
        })
        .collect();
    (heard, seen, stream, pool)
}

#[test]
fn reordered_and_repeated_bytes_come_once_in_order() {
    let (heard, seen, stream, pool) = run(&[(0, 103, b"def"), (1, 100, b"abc"), (2, 100, b"abcdef"), (3, 106, b"g"), (4, 105, b"fgh")]);
    assert_eq!((heard.0.as_slice(), heard.1.len()), (&b"abcdefgh"[..], 0));
    let fresh: Vec<u64> = seen.iter().map(|seen| seen.fresh).collect();
    assert_eq!(fresh, [3, 3, 0, 1, 1]);
    assert!(seen[1].out_of_order && seen[2].retransmit && !seen[4].retransmit && seen.iter().all(|seen| seen.conflict.is_none()));
    assert_eq!((stream.missed, stream.held, pool.used), (0, 0, 8));
}

#[test]
fn the_first_bytes_win_and_others_are_told() {
    let (heard, seen, ..) = run(&[(0, 102, b"CD"), (1, 100, b"abcd"), (2, 100, b"abXX"), (3, 104, b"e")]);
    assert_eq!(heard.0, b"abCDe");
    assert_eq!((seen[1].conflict, seen[2].conflict), (Some(2), Some(2)));
}

#[test]
fn a_hole_is_told_when_the_receiver_has_the_bytes() {
    let (mut heard, _, mut stream, mut pool) = run(&[(0, 100, b"ab"), (1, 104, b"ef")]);
    let mut ack = |ms, ack, heard: &mut Heard| stream.acknowledged(at(ms), ack, &mut pool, &mut |piece| heard.hear(piece));
    ack(2, 106, &mut heard);
    assert_eq!(heard.0, b"ab", "captures reorder: not yet");
    ack(300, 106, &mut heard);
    assert_eq!((heard.0.as_slice(), heard.1.as_slice()), (&b"ab??ef"[..], &[(2, 2)][..]));
    ack(999, 107, &mut heard);
    assert_eq!(heard.1.len(), 1, "a FIN is no hole");
    assert_eq!(stream.missed, 2);
}

#[test]
fn what_the_capture_cut_is_a_gap_at_once() {
    let (mut stream, mut pool, mut heard) = (Stream::default(), Pool::new(1 << 20), Heard::default());
    for (seq, bytes, length) in [(100, &b"ab"[..], 10), (110, b"kl", 2)] {
        stream.segment(at(0), Segment { seq, bytes, length }, &mut pool, &mut |piece| heard.hear(piece));
    }
    assert_eq!(heard.0, b"ab????????kl");
}

#[test]
fn memory_is_bounded_for_one_and_for_all() {
    let (mut stream, mut pool, mut heard) = (Stream::default(), Pool::new(1 << 20), Heard::default());
    stream.begin(0);
    for n in 0..2000u32 {
        let segment = Segment { seq: 1 + n * 1000, bytes: &[7; 999], length: 999 };
        stream.segment(at(0), segment, &mut pool, &mut |piece| heard.hear(piece));
        assert!(stream.held <= MAX_PENDING + 1100 && pool.used <= 1 << 20);
    }
    assert!(stream.missed >= 1000);
    stream.finish(at(1), &mut pool, &mut |piece| heard.hear(piece));
    assert_eq!((pool.used, stream.missed, heard.0.len()), (0, 2000, 2_000_000));
    let (mut stream, mut small) = (Stream::default(), Pool::new(500));
    stream.begin(0);
    for n in 0..9u32 {
        stream.segment(at(0), Segment { seq: 1 + n * 200, bytes: &[1; 100], length: 100 }, &mut small, &mut |_| {});
    }
    assert!(small.evicted == 6 && small.used <= 500, "{small:?}");
}

#[test]
fn offsets_go_past_four_gigabytes() {
    let (mut stream, mut pool, mut last) = (Stream::default(), Pool::new(1 << 20), 0);
    stream.begin(u32::MAX - 5);
    let chunk = vec![0; 1 << 20];
    for n in 0..5000u32 {
        let segment = Segment { seq: (u32::MAX - 5).wrapping_add(n.wrapping_mul(1 << 20)), bytes: &chunk, length: 1 << 20 };
        let mut hear = |piece: Piece<'_>| match piece {
            Piece::Bytes(offset, bytes) => last = offset + bytes.len() as u64,
            Piece::Gap(_) => panic!("no gap"),
        };
        stream.segment(at(0), segment, &mut pool, &mut hear);
    }
    assert_eq!(last, 5000 << 20);
}

fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Any pieces of one text in any order give the text back where it was seen, and gaps elsewhere.
    #[test]
    fn any_order_gives_the_text(pieces in prop::collection::vec((0usize..200, 1usize..60), 0..40), base: u32) {
        let text: Vec<u8> = (0..260).map(|n| b'a' + (n % 25) as u8).collect();
        let (mut stream, mut pool, mut heard) = (Stream::default(), Pool::new(1 << 20), Heard::default());
        stream.begin(base);
        let mut sent = vec![false; 260];
        let mut fresh = 0;
        for (from, length) in pieces {
            let bytes = &text[from..from + length];
            let segment = Segment { seq: base.wrapping_add(from as u32), bytes, length: length as u32 };
            let seen = stream.segment(at(0), segment, &mut pool, &mut |piece| heard.hear(piece));
            prop_assert_eq!(seen.conflict, None);
            fresh += seen.fresh;
            sent[from..from + length].fill(true);
        }
        stream.finish(at(9), &mut pool, &mut |piece| heard.hear(piece));
        prop_assert_eq!(fresh, sent.iter().filter(|sent| **sent).count() as u64);
        prop_assert_eq!((pool.used, stream.held), (0, 0));
        for (at, byte) in heard.0.iter().enumerate() {
            prop_assert_eq!(*byte, if sent[at] { text[at] } else { b'?' });
        }
        prop_assert!(sent[heard.0.len()..].iter().all(|sent| !sent));
    }

    /// Hostile numbers: no panic, bounds hold, output is in order.
    #[test]
    fn any_numbers_are_answered(steps in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..9), 0u32..20, any::<u8>()), 0..40)) {
        let (mut stream, mut pool) = (Stream::default(), Pool::new(400));
        let mut next = 0u64;
        for (ms, (seq, bytes, more, what)) in steps.into_iter().enumerate() {
            let mut hear = |piece: Piece<'_>| match piece {
                Piece::Bytes(offset, bytes) => {
                    assert_eq!(offset, next);
                    next += bytes.len() as u64;
                }
                Piece::Gap(missing) => next += missing,
            };
            let seq = if what & 8 == 0 { seq % 64 } else { seq };
            let now = at(ms as i64 * 100);
            match what % 4 {
                0 => stream.acknowledged(now, seq, &mut pool, &mut hear),
                1 => stream.fin(seq, more),
                _ => {
                    let length = bytes.len() as u32 + more;
                    stream.segment(now, Segment { seq, bytes: &bytes, length }, &mut pool, &mut hear);
                }
            }
            prop_assert!(pool.used <= 400);
        }
        stream.finish(at(99_999), &mut pool, &mut |_| {});
        prop_assert_eq!(pool.used, 0);
    }
}
