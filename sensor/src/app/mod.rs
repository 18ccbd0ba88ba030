//! What a flow says: protocols by content, one file each, as facts for the detectors.
//!
//! A [`Conversation`] gets one flow's bytes in order (TCP) or datagram by datagram and turns them into
//! [`Fact`]s. It must never keep more than its bound, judge, or believe a length; bytes that break a
//! protocol become a `malformed` fact, once, and the conversation is left alone from there on.
//!
//! What a flow speaks is told by `core/proto`'s probe (`stream`, `datagrams`); a protocol with a line in
//! `PARSERS` is then read further.

mod certificate;
mod datagrams;
mod dns;
mod http;
mod ldap;
mod lines;
mod pair;
mod prelude;
mod say;
mod side;
mod ssh;
mod stream;
mod tls;

use datagrams::Datagrams;
use glasshive_event::Timestamp;
use glasshive_event::flow::Application;
use glasshive_event::observation::Fact;
use glasshive_proto::probe::ProbeDef;
use say::Say;
use side::Side;
use stream::Stream;

/// Which side of a flow bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The one who began it.
    Source,
    /// The one who was asked.
    Destination,
}

impl Speaker {
    fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Which part a side plays in its protocol. Mostly the source is the client, but not when capture
/// began late or the server called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Role {
    fn by(from: Speaker) -> Self {
        match from {
            Speaker::Source => Self::Client,
            Speaker::Destination => Self::Server,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What a parser says after it looked at one side's bytes.
#[derive(Debug)]
enum Step {
    /// It waits for more.
    More,
    /// It waits for more here, and can go on with the other side.
    Other,
    /// It needs nothing more of this side.
    SideDone,
    /// It needs nothing more at all.
    Done,
    /// What follows on both sides belongs to a protocol inside the named one.
    Inside(&'static str),
    /// Bytes that break the protocol, `offset` bytes into this side's stream.
    Malformed { offset: u64, what: &'static str, bytes: Vec<u8> },
}

impl Step {
    /// Malformed at `offset` of the bytes not yet taken.
    fn malformed(side: &Side, offset: usize, what: &'static str) -> Self {
        let bytes = side.peek().get(offset..).unwrap_or_default();
        let bytes = bytes.get(..256).unwrap_or(bytes).to_vec();
        Self::Malformed { offset: side.offset().saturating_add(offset as u64), what, bytes }
    }
}

/// Reads one conversation of one protocol.
trait Parser: std::fmt::Debug + Send {
    /// Takes what it can of one side's bytes. Called when there are some.
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step;

    /// Bytes of one side are missing that it had not asked to pass over.
    fn gap(&mut self, from: Role) -> Step {
        let _ = from;
        Step::Done
    }

    /// Nothing more comes of a side that has bytes no parser took.
    fn last(&mut self, from: Role, side: &mut Side) -> Step {
        let _ = (from, side);
        Step::More
    }

    /// Nothing more comes: what was kept back is to be said now.
    fn finish(&mut self, say: &mut Say<'_>) {
        let _ = say;
    }
}

/// One protocol that is read further than its name.
struct ParserDef {
    /// Name, as in `core/proto`'s probe.
    name: &'static str,
    /// A parser for one conversation.
    new: fn() -> Box<dyn Parser>,
    /// Which part the one plays who sent these first bytes, where they tell it.
    role: fn(&[u8]) -> Option<Role>,
}

const fn def(name: &'static str, new: fn() -> Box<dyn Parser>, role: fn(&[u8]) -> Option<Role>) -> ParserDef {
    ParserDef { name, new, role }
}

/// The bytes do not tell: the source is the client.
fn by_direction(_first: &[u8]) -> Option<Role> {
    None
}

/// All parsers of streams.
static PARSERS: &[ParserDef] = &[
    def("tls", tls::new, tls::role),
    def("ssh", ssh::new, by_direction),
    def("http", http::new, http::role),
    def("dns", dns::new, by_direction),
    def("smtp", lines::smtp, by_direction),
    def("ftp", lines::ftp, by_direction),
    def("pop3", lines::pop3, by_direction),
    def("imap", lines::imap, by_direction),
    def("ldap", ldap::new, by_direction),
    def("rdp", prelude::rdp, by_direction),
    def("mysql", prelude::mysql, by_direction),
    def("postgres", prelude::postgres, by_direction),
    def("socks4", prelude::socks4, by_direction),
    def("socks5", prelude::socks5, by_direction),
    def("proxy", prelude::proxy_header, by_direction),
];

fn parser_of(def: &ProbeDef) -> Option<&'static ParserDef> {
    PARSERS.iter().find(|parser| parser.name == def.name)
}

/// The parsers' state of one flow.
#[derive(Debug, Default)]
pub struct Conversation {
    application: Application,
    complained: bool,
    port: u16,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing was said yet.
    #[default]
    New,
    Stream(Box<Stream>),
    Datagrams(Box<Datagrams>),
    /// Nothing more is to be learned.
    Over,
}

impl Conversation {
    /// For a flow of that IP protocol to that port (the port only breaks ties, it never decides).
    pub fn new(protocol: u8, port: u16) -> Self {
        let _ = protocol;
        Self { port, ..Self::default() }
    }

    /// The next bytes of one side of a TCP stream, `offset` bytes into that side's stream.
    pub fn bytes(&mut self, at: Timestamp, from: Speaker, offset: u64, bytes: &[u8], out: &mut Vec<Fact>) {
        let _ = at;
        self.with_stream(out, |stream, say| stream.bytes(from, offset, bytes, say));
    }

    /// `missing` bytes of one side were not seen; the next [`Self::bytes`] comes after them.
    pub fn gap(&mut self, at: Timestamp, from: Speaker, missing: u64, out: &mut Vec<Fact>) {
        let _ = at;
        if missing > 0 {
            self.with_stream(out, |stream, say| stream.gap(from, missing, say));
        }
    }

    /// One datagram's payload.
    pub fn datagram(&mut self, at: Timestamp, from: Speaker, bytes: &[u8], out: &mut Vec<Fact>) {
        let _ = at;
        if matches!(self.state, State::New) {
            self.state = State::Datagrams(Box::new(Datagrams::new(self.port)));
        }
        let State::Datagrams(datagrams) = &mut self.state else { return };
        let mut say = Say { out, application: &mut self.application, complained: &mut self.complained };
        if !datagrams.take(from, bytes, &mut say) {
            self.state = State::Over;
        }
    }

    /// The flow ended: say what was kept back.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<Fact>) {
        let _ = at;
        if matches!(self.state, State::Stream(_)) {
            self.with_stream(out, |stream, say| {
                stream.finish(say);
                false
            });
        }
        self.state = State::Over;
    }

    /// What is known of the application; `None` until its protocol is known.
    pub fn application(&self) -> Option<&Application> {
        (!self.application.protocol.is_empty()).then_some(&self.application)
    }

    /// Bytes of payload held back for the parsers, at most 64 KiB a side.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Stream(stream) => stream.held(),
            _ => 0,
        }
    }

    /// Runs `act` on the stream's state, which says whether more can be learned.
    fn with_stream(&mut self, out: &mut Vec<Fact>, act: impl FnOnce(&mut Stream, &mut Say<'_>) -> bool) {
        if matches!(self.state, State::New) {
            self.state = State::Stream(Box::default());
        }
        let State::Stream(stream) = &mut self.state else { return };
        let mut say = Say { out, application: &mut self.application, complained: &mut self.complained };
        if !act(stream, &mut say) {
            self.state = State::Over;
        }
    }
}

#[cfg(test)]
mod tests;
