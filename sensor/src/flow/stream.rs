//! One direction of a TCP connection put in order: the first to claim a byte wins, holes become gaps.
//!
//! It must never hold more than its bound, nor wait for bytes the receiver has acknowledged for longer
//! than packets are reordered on their way to the sensor.

use glasshive_event::Timestamp;
use std::collections::BTreeMap;

/// Bytes held out of order by one direction.
const MAX_PENDING: usize = 512 << 10;
/// What a held piece costs besides its bytes.
const PIECE_COST: usize = 64;
/// Delivered bytes remembered to compare retransmits with.
const TAIL: usize = 2048;
/// How far a segment or acknowledgement may be ahead (the largest window there is).
const MAX_AHEAD: i64 = 1 << 30;
/// How long acknowledged bytes may still come: captures reorder.
const REORDER_NS: i64 = 200_000_000;

/// Bytes all streams may hold together.
#[derive(Debug)]
pub(super) struct Pool {
    used: usize,
    limit: usize,
    /// Segments let go for want of room.
    pub(super) evicted: u64,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: 0, limit, evicted: 0 }
    }

    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used.saturating_add(bytes) <= self.limit;
        if fits {
            self.used = self.used.saturating_add(bytes);
        }
        fits
    }

    fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

/// What comes out, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes at an offset.
    Bytes(u64, &'a [u8]),
    /// So many bytes were not seen.
    Gap(u64),
}

/// What a segment turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Bytes on the wire that were not seen before.
    pub(super) fresh: u64,
    pub(super) retransmit: bool,
    pub(super) out_of_order: bool,
    /// Where its bytes differ from those seen before.
    pub(super) conflict: Option<u64>,
}

/// One segment's place and bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    /// What was captured of it.
    pub(super) bytes: &'a [u8],
    /// How much was sent.
    pub(super) length: u32,
}

type Out<'o> = &'o mut dyn FnMut(Piece<'_>);

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Sequence number of offset 0.
    base: Option<u32>,
    next: u64,
    /// End of the furthest byte that was sent.
    reach: u64,
    acked: u64,
    fin: Option<u64>,
    pending: BTreeMap<u64, Vec<u8>>,
    held: usize,
    tail: Vec<u8>,
    hole_since: Option<Timestamp>,
    /// Bytes nobody saw.
    pub(super) missed: u64,
}

impl Stream {
    /// The first byte's sequence number, unless known.
    pub(super) fn begin(&mut self, seq: u32) {
        self.base.get_or_insert(seq);
    }

    fn place(&self, seq: u32) -> Option<i64> {
        let expected = self.base?.wrapping_add(self.next as u32);
        (self.next as i64).checked_add(i64::from(seq.wrapping_sub(expected).cast_signed()))
    }

    /// A segment with payload.
    pub(super) fn segment(&mut self, at: Timestamp, segment: Segment<'_>, pool: &mut Pool, out: Out<'_>) -> Seen {
        self.begin(segment.seq);
        let place = self.place(segment.seq).unwrap_or(0);
        let skipped = place.min(0).unsigned_abs();
        let length = u64::from(segment.length).saturating_sub(skipped);
        let mut seen = Seen::default();
        if length == 0 {
            // Before what is known of the stream.
            seen.retransmit = true;
            return seen;
        }
        let start = u64::try_from(place).unwrap_or(0);
        if start.saturating_sub(self.next) > MAX_AHEAD as u64 {
            return seen;
        }
        let bytes = segment.bytes.get(skipped as usize..).unwrap_or_default();
        let end = start.saturating_add(length);
        seen.conflict = self.conflict(start, bytes);
        seen.fresh = self.fresh(start, end);
        // A keepalive repeats one byte, often not even the right one.
        let keepalive = length == 1 && end == self.next;
        seen.retransmit = seen.fresh == 0 && !keepalive;
        seen.out_of_order = seen.fresh > 0 && end <= self.reach;
        if keepalive {
            seen.conflict = None;
        }
        self.reach = self.reach.max(end);
        if self.pending.is_empty() && start <= self.next {
            let known = self.next.saturating_sub(start) as usize;
            if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
                self.deliver(new, pool, out);
            }
        } else {
            self.hold(start, bytes, pool);
            self.drain(at, pool, out);
        }
        let kept = start.saturating_add(bytes.len() as u64);
        if kept < end && self.next >= kept {
            // The capture cut the segment: the rest will not come.
            let until = self.pending.first_key_value().map_or(end, |(first, _)| end.min(*first));
            self.skip_to(until, pool, out);
            self.drain(at, pool, out);
        }
        if self.held > MAX_PENDING {
            self.force(at, pool, out);
        }
        seen
    }

    /// The stream's last byte.
    pub(super) fn fin(&mut self, seq: u32, length: u32) {
        self.begin(seq);
        if let Some(end) = self.place(seq).and_then(|place| u64::try_from(place).ok()) {
            self.fin.get_or_insert(end.saturating_add(length.into()));
        }
    }

    /// The other side has everything before `ack`.
    pub(super) fn acknowledged(&mut self, at: Timestamp, ack: u32, pool: &mut Pool, out: Out<'_>) {
        self.begin(ack);
        let Some(place) = self.place(ack) else { return };
        let ahead = place.saturating_sub(self.next as i64);
        if (0..=MAX_AHEAD).contains(&ahead) {
            let mut acked = place.unsigned_abs();
            if let Some(fin) = self.fin {
                acked = acked.min(fin);
            }
            self.acked = self.acked.max(acked);
        }
        self.settle(at, pool, out);
    }

    /// Whether bytes the receiver has were waited for long enough.
    fn settle(&mut self, at: Timestamp, pool: &mut Pool, out: Out<'_>) {
        // One byte more may be a FIN that was not captured.
        if self.acked <= self.next.saturating_add(1) {
            if self.pending.is_empty() {
                self.hole_since = None;
            }
            return;
        }
        let since = *self.hole_since.get_or_insert(at);
        if at.0.saturating_sub(since.0) < REORDER_NS {
            return;
        }
        let until = self.pending.first_key_value().map_or(self.acked, |(first, _)| self.acked.min(*first));
        self.skip_to(until, pool, out);
        self.drain(at, pool, out);
    }

    /// The end: what was held comes out, with the holes told.
    pub(super) fn finish(&mut self, at: Timestamp, pool: &mut Pool, out: Out<'_>) {
        while !self.pending.is_empty() {
            self.force(at, pool, out);
        }
        if self.acked > self.next.saturating_add(1) {
            self.skip_to(self.acked, pool, out);
        }
        pool.give(self.tail.len());
        self.tail = Vec::new();
    }

    fn force(&mut self, at: Timestamp, pool: &mut Pool, out: Out<'_>) {
        if let Some((first, _)) = self.pending.first_key_value() {
            self.skip_to(*first, pool, out);
            self.drain(at, pool, out);
        }
    }

    fn skip_to(&mut self, offset: u64, pool: &mut Pool, out: Out<'_>) {
        let missing = offset.saturating_sub(self.next);
        if missing > 0 {
            self.missed = self.missed.saturating_add(missing);
            self.next = offset;
            pool.give(self.tail.len());
            self.tail.clear();
            out(Piece::Gap(missing));
        }
        self.hole_since = None;
    }

    fn deliver(&mut self, bytes: &[u8], pool: &mut Pool, out: Out<'_>) {
        out(Piece::Bytes(self.next, bytes));
        self.next = self.next.saturating_add(bytes.len() as u64);
        let before = self.tail.len();
        let keep = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
        let old = self.tail.len().saturating_add(keep.len()).saturating_sub(TAIL).min(before);
        let grown = before.saturating_sub(old).saturating_add(keep.len()).saturating_sub(before);
        if pool.take(grown) {
            self.tail.drain(..old);
            self.tail.extend_from_slice(keep);
        } else {
            // No room to remember: nothing to compare retransmits with.
            pool.give(before);
            self.tail = Vec::new();
        }
    }

    fn drain(&mut self, at: Timestamp, pool: &mut Pool, out: Out<'_>) {
        while let Some(entry) = self.pending.first_entry() {
            if *entry.key() > self.next {
                self.hole_since.get_or_insert(at);
                return;
            }
            let (start, piece) = entry.remove_entry();
            let cost = piece.len().saturating_add(PIECE_COST);
            self.held = self.held.saturating_sub(cost);
            pool.give(cost);
            let known = self.next.saturating_sub(start) as usize;
            if let Some(new) = piece.get(known..).filter(|new| !new.is_empty()) {
                self.deliver(new, pool, out);
            }
            self.hole_since = None;
        }
    }

    /// Keeps what is new of a segment's bytes.
    fn hold(&mut self, start: u64, bytes: &[u8], pool: &mut Pool) {
        let end = start.saturating_add(bytes.len() as u64);
        let mut parts = Vec::new();
        let mut at = start.max(self.next);
        for (first, last) in self.held_within(start, end) {
            if first > at {
                parts.push((at, first.min(end)));
            }
            at = at.max(last);
        }
        if at < end {
            parts.push((at, end));
        }
        for (from, to) in parts {
            let Some(part) = bytes.get(from.saturating_sub(start) as usize..to.saturating_sub(start) as usize) else { continue };
            let cost = part.len().saturating_add(PIECE_COST);
            if !pool.take(cost) {
                pool.evicted = pool.evicted.saturating_add(1);
                continue;
            }
            self.held = self.held.saturating_add(cost);
            self.pending.insert(from, part.to_vec());
        }
    }

    /// First and last offset of held pieces that touch a range, in order.
    fn held_within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let from = self.pending.range(..=start).next_back().map_or(start, |(first, _)| *first);
        let pieces = self.pending.range(from..end.max(from));
        pieces.map(|(first, piece)| (*first, first.saturating_add(piece.len() as u64))).filter(move |(_, last)| *last > start)
    }

    /// Bytes of a range neither delivered nor held.
    fn fresh(&self, start: u64, end: u64) -> u64 {
        let start = start.max(self.next);
        let held: u64 =
            self.held_within(start, end).map(|(first, last)| last.min(end).saturating_sub(first.max(start))).fold(0, u64::saturating_add);
        end.saturating_sub(start).saturating_sub(held)
    }

    /// The first offset at which bytes differ from those delivered or held.
    fn conflict(&self, start: u64, bytes: &[u8]) -> Option<u64> {
        let end = start.saturating_add(bytes.len() as u64);
        let differs = |known_at: u64, known: &[u8]| {
            let (from, to) = (known_at.max(start), known_at.saturating_add(known.len() as u64).min(end));
            if from >= to {
                return None;
            }
            let old = known.get(from.saturating_sub(known_at) as usize..to.saturating_sub(known_at) as usize)?;
            let new = bytes.get(from.saturating_sub(start) as usize..to.saturating_sub(start) as usize)?;
            let same = old.iter().zip(new).position(|(old, new)| old != new)?;
            Some(from.saturating_add(same as u64))
        };
        let tail_at = self.next.saturating_sub(self.tail.len() as u64);
        differs(tail_at, &self.tail).or_else(|| {
            let from = self.pending.range(..=start).next_back().map_or(start, |(first, _)| *first);
            self.pending.range(from..end.max(from)).find_map(|(first, piece)| differs(*first, piece))
        })
    }
}

#[cfg(test)]
mod tests {
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
}
