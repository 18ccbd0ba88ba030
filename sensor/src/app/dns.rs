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
                    say.fact(Fact::Dns(fact(&value, used - 2)));
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

/// The fact of one message of `bytes` bytes.
pub(super) fn fact(message: &Message, bytes: usize) -> Dns {
    let question = message.questions.first().map(|q| (&q.name, q.kind, q.class));
    let (name, qtype, qclass) = match question.or(message.answers.first().map(|r| (&r.name, r.kind, r.class))) {
        Some((name, kind, class)) => (name.to_string(), kind, class),
        None => (String::new(), 0, 0),
    };
    let shown = if name.len() > 1 { name.strip_suffix('.').unwrap_or(&name) } else { &name };
    let extended = message.edns.as_ref().map_or(0, |edns| u16::from(edns.extended_rcode) << 4);
    Dns {
        id: message.header.id,
        response: message.header.is_response(),
        rcode: u16::from(message.header.rcode()) | extended,
        name: text(shown.as_bytes(), TEXT),
        qtype,
        qclass,
        answers: message.header.counts[1],
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
    }
}
