//! The state of a TCP connection: handshake, end, and the words Zeek has for both.

use super::stream::{Piece, Pool, Seen, Segment, Stream};
use crate::decode::Tcp;
use glasshive_event::Timestamp;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Letters of a history: upper case for the source.
const LETTERS: &[u8] = b"shadfrctwgqi^";

/// What happened so far, each letter once a side, at most 26.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: u32,
    text: String,
}

impl History {
    pub(super) fn note(&mut self, letter: u8, from_source: bool) {
        let Some(place) = LETTERS.iter().position(|known| *known == letter) else { return };
        let bit = 1u32 << (place.saturating_mul(2).saturating_add(usize::from(from_source)) & 31);
        if self.seen & bit == 0 {
            self.seen |= bit;
            self.text.push(char::from(if from_source { letter.to_ascii_uppercase() } else { letter }));
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What one segment did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) seen: Seen,
    /// The handshake was completed by it.
    pub(super) established: bool,
}

/// A connection. Side 0 is the source.
#[derive(Debug, Default)]
pub(super) struct Connection {
    streams: [Stream; 2],
    /// First sequence numbers: the source's SYN, the destination's SYN-ACK.
    isn: [Option<u32>; 2],
    syn_at: Option<Timestamp>,
    pub(super) rtt_ns: Option<i64>,
    pub(super) established: bool,
    fin: [bool; 2],
    /// Who reset it, and whether both had sent FIN before.
    reset: Option<(usize, bool)>,
}

impl Connection {
    /// Whether a SYN is the one this connection began with, again.
    pub(super) fn is_same_syn(&self, side: usize, seq: u32) -> bool {
        self.isn.get(side).is_some_and(|isn| *isn == Some(seq))
    }

    pub(super) fn has_syn(&self) -> bool {
        self.isn[0].is_some()
    }

    /// Whether it has ended on the wire.
    pub(super) fn is_closed(&self) -> bool {
        self.reset.is_some() || self.fin == [true, true]
    }

    pub(super) fn was_reset(&self) -> bool {
        self.reset.is_some_and(|(_, finished)| !finished)
    }

    pub(super) fn missed(&self) -> [u64; 2] {
        [self.streams[0].missed, self.streams[1].missed]
    }

    /// Takes a segment of `side`. What comes out of either stream goes to `out` with its side.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn segment(
        &mut self,
        at: Timestamp,
        side: usize,
        tcp: &Tcp<'_>,
        payload: &[u8],
        length: u32,
        history: &mut History,
        pool: &mut Pool,
        out: &mut dyn FnMut(usize, Piece<'_>),
    ) -> Step {
        let source = side == 0;
        let [syn, ack, fin, reset] = [SYN, ACK, FIN, RST].map(|flag| tcp.flags & flag != 0);
        let mut step = Step::default();
        let data_seq = if syn { tcp.seq.wrapping_add(1) } else { tcp.seq };
        self.letters(tcp, length, source, history);

        let [first, second] = &mut self.streams;
        let (mine, theirs) = if source { (first, second) } else { (second, first) };
        if syn && !reset {
            step.seen.retransmit = self.isn.get(side).is_some_and(|isn| *isn == Some(tcp.seq));
            if let Some(isn) = self.isn.get_mut(side)
                && isn.is_none()
                && (source != ack)
            {
                *isn = Some(tcp.seq);
            }
            match (source, ack) {
                (true, false) => self.syn_at = Some(at),
                (false, true) if self.rtt_ns.is_none() => {
                    self.rtt_ns = self.syn_at.map(|since| at.0.saturating_sub(since.0)).filter(|rtt| *rtt >= 0);
                }
                _ => {}
            }
            mine.begin(data_seq);
        }
        if length > 0 && !reset {
            let syn_again = step.seen.retransmit;
            step.seen = mine.segment(at, Segment { seq: data_seq, bytes: payload, length }, pool, &mut |piece| out(side, piece));
            step.seen.retransmit |= syn_again;
        }
        if step.seen.retransmit {
            history.note(b't', source);
        }
        if ack {
            theirs.acknowledged(at, tcp.ack, pool, &mut |piece| out(1usize.saturating_sub(side), piece));
            let answered = self.isn[1].map(|isn| isn.wrapping_add(1));
            if source && !reset && !self.established && self.isn[0].is_some() {
                // RFC 9293 §3.5: the source acknowledges the SYN it got (or, with packets lost, more).
                let far = answered.map(|expected| tcp.ack.wrapping_sub(expected).cast_signed());
                step.established = far.is_some_and(|far| far >= 0);
                self.established |= step.established;
            }
        }
        if fin && !reset {
            mine.fin(data_seq, length);
            if let Some(done) = self.fin.get_mut(side) {
                *done = true;
            }
        }
        if reset && self.reset.is_none() {
            self.reset = Some((side, self.fin == [true, true]));
        }
        step
    }

    fn letters(&self, tcp: &Tcp<'_>, length: u32, source: bool, history: &mut History) {
        let [syn, ack, fin, reset] = [SYN, ACK, FIN, RST].map(|flag| tcp.flags & flag != 0);
        if syn && (fin || reset) {
            history.note(b'q', source);
        } else if fin && reset {
            history.note(b'i', source);
        }
        match (syn, ack) {
            (true, true) => history.note(b'h', source),
            (true, false) => history.note(b's', source),
            _ => {}
        }
        if length > 0 {
            history.note(b'd', source);
        } else if ack && !syn && !fin && !reset {
            history.note(b'a', source);
        }
        if tcp.window == 0 && !syn && !reset && !fin {
            history.note(b'w', source);
        }
        if fin {
            history.note(b'f', source);
        }
        if reset {
            history.note(b'r', source);
        }
    }

    /// The end: what was held comes out.
    pub(super) fn finish(&mut self, at: Timestamp, pool: &mut Pool, out: &mut dyn FnMut(usize, Piece<'_>)) {
        for (side, stream) in self.streams.iter_mut().enumerate() {
            stream.finish(at, pool, &mut |piece| out(side, piece));
        }
    }

    /// Zeek's `conn_state`.
    pub(super) fn state(&self, answered: bool) -> &'static str {
        let (asked, accepted) = (self.isn[0].is_some(), self.isn[1].is_some());
        let reset = self.reset.filter(|(_, finished)| !finished).map(|(side, _)| side);
        match (asked, accepted, reset, self.fin) {
            (true, true, Some(0), _) => "RSTO",
            (true, true, Some(_), _) => "RSTR",
            (true, true, None, [true, true]) => "SF",
            (true, true, None, [true, false]) => "S2",
            (true, true, None, [false, true]) => "S3",
            (true, true, None, _) => "S1",
            (true, false, Some(0), _) => "RSTOS0",
            (true, false, Some(_), _) => "REJ",
            (true, false, None, [true, _]) => "SH",
            (true, false, None, _) if !answered => "S0",
            (false, true, Some(1), _) => "RSTRH",
            (false, true, None, [_, true]) => "SHR",
            _ => "OTH",
        }
    }
}
