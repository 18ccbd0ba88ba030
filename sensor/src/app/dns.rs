//! DNS and its kin by form: over TCP with a length (RFC 1035 §4.2.2), in datagrams, mDNS, LLMNR and
//! NetBIOS names included. It says what was asked and answered and never resolves.

use super::say::{Say, TEXT, text};
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_event::observation::{Dns, Fact};
use glasshive_proto::Parsed;
use glasshive_proto::dns::{self, Message};

/// Longest message of a stream that is looked into; longer ones are passed over.
const LONGEST: usize = 60_000;

/// Messages of a stream, each side by itself.
#[derive(Debug)]
struct Stream;

pub(super) fn new() -> Box<dyn Parser> {
    Box::new(Stream)
}

impl Parser for Stream {
    fn advance(&mut self, _from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        loop {
            let input = side.peek();
            let Some(length) = input.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length))) else {
                return Step::More;
            };
            if length > LONGEST {
                side.skip(length as u64 + 2);
                return Step::More;
            }
            match dns::tcp_message(input) {
                Parsed::Done { value, used } => {
                    self::say(&value, used - 2, say);
                    side.take(used);
                }
                Parsed::Incomplete { needed } => {
                    side.want(input.len() + needed);
                    return Step::More;
                }
                Parsed::Malformed { offset, what } => return Step::malformed(side, offset, what),
            }
        }
    }
}

/// Most questions of one message said.
const QUESTIONS: usize = 16;

/// Says one message of `bytes` bytes: once, or once for each of several questions, the bytes with the
/// first only.
pub(super) fn say(message: &Message, bytes: usize, say: &mut Say<'_>) {
    let asked = message.questions.iter().map(|q| (&q.name, q.kind, q.class));
    let answered = message.answers.first().filter(|_| message.questions.is_empty()).map(|r| (&r.name, r.kind, r.class));
    let extended = message.edns.as_ref().map_or(0, |edns| u16::from(edns.extended_rcode) << 4);
    let mut fact = Dns {
        id: message.header.id,
        response: message.header.is_response(),
        rcode: u16::from(message.header.rcode()) | extended,
        answers: message.header.counts[1],
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        ..Dns::default()
    };
    if message.questions.is_empty() && answered.is_none() {
        say.fact(Fact::Dns(fact.clone()));
    }
    for (name, qtype, qclass) in asked.chain(answered).take(QUESTIONS) {
        let name = name.to_string();
        let shown = if name.len() > 1 { name.strip_suffix('.').unwrap_or(&name) } else { &name };
        (fact.name, fact.qtype, fact.qclass) = (text(shown.as_bytes(), TEXT), qtype, qclass);
        say.fact(Fact::Dns(fact.clone()));
        fact.bytes = 0;
    }
}
