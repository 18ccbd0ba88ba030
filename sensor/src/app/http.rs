//! HTTP/1.x (RFC 9112): every request and response in clear, pipelined ones included. Bodies are
//! passed over by their framing and never kept; a secret is seen but never said.
//!
//! Responses are read by the methods of the requests before them. So when bytes of the client are
//! missing the parser stops: a response to HEAD read as one to GET would be misread for good.

use super::pair::Pair;
use super::say::{Say, TEXT, text};
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_event::WireText;
use glasshive_event::observation::{Carried, Fact, HttpRequest, HttpResponse};
use glasshive_proto::Parsed;
use glasshive_proto::http::{self, Headers, RequestHead, ResponseHead, Rules, Version};
use std::collections::VecDeque;

/// Longest head; below the window's size, so that a longer one is malformed before the window is full.
const HEAD: usize = 61_440;
const RULES: Rules = Rules { head: HEAD, ..Rules::lenient() };
/// Most requests that wait for their responses.
const PIPELINED: usize = 1_024;
/// Longest line of a chunk's size, and all trailers together.
const CHUNK_LINE: usize = 4_096;
const TRAILERS: usize = 16_384;
/// Longest target kept.
const TARGET: usize = 4_096;

/// What a request means for its response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    Other,
}

/// What a side's next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// A head, of which `scanned` bytes hold no end; `checked`: its first line was looked at.
    #[default]
    Start,
    Head {
        scanned: usize,
        checked: bool,
    },
    ChunkSize,
    /// The line end after a chunk's bytes.
    ChunkEnd,
    Trailers {
        seen: usize,
    },
    /// A client that asked to speak something else, until the answer.
    Waiting,
    Over,
}

enum Head {
    Request(RequestHead),
    Response(ResponseHead),
}

#[derive(Debug, Default)]
struct Http {
    at: Pair<At>,
    asked: VecDeque<Asked>,
}

pub(super) fn new() -> Box<dyn Parser> {
    Box::<Http>::default()
}

/// A response that comes first shows that the direction is the other way round.
pub(super) fn role(first: &[u8]) -> Option<Role> {
    first.starts_with(b"HTTP").then_some(Role::Server)
}

impl Parser for Http {
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        while !side.skipping() && !side.peek().is_empty() {
            let step = match *self.at.of(from) {
                At::Start => self.start(from, side),
                At::Head { scanned, checked } => self.head(from, scanned, checked, side, say),
                At::ChunkSize => self.chunk_size(from, side),
                At::ChunkEnd => self.chunk_end(from, side),
                At::Trailers { seen } => self.trailers(from, seen, side),
                At::Waiting => Some(Step::More),
                At::Over => Some(Step::SideDone),
            };
            if let Some(step) = step {
                return step;
            }
        }
        Step::More
    }

    /// A head that never ended may have been wrong all along.
    fn last(&mut self, from: Role, side: &mut Side) -> Step {
        match (self.at.of(from), self.read(from, side.peek())) {
            (At::Head { .. }, Parsed::Malformed { offset, what }) => Step::malformed(side, offset, what),
            _ => Step::More,
        }
    }

    fn gap(&mut self, from: Role) -> Step {
        *self.at.of_mut(from) = At::Over;
        if from == Role::Client { Step::Done } else { Step::SideDone }
    }
}

impl Http {
    fn go(&mut self, from: Role, at: At) -> Option<Step> {
        *self.at.of_mut(from) = at;
        None
    }

    /// Empty lines before a head (RFC 9112 §2.2).
    fn start(&mut self, from: Role, side: &mut Side) -> Option<Step> {
        let empty = side.peek().iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        side.take(empty);
        if side.peek().is_empty() {
            return Some(Step::More);
        }
        self.go(from, At::Head { scanned: 0, checked: false })
    }

    /// A head is read when its end is there, not at every segment; its first line as soon as it ends.
    fn head(&mut self, from: Role, scanned: usize, checked: bool, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let input = side.peek();
        let mut checked = checked;
        let new = input.get(scanned..).unwrap_or_default();
        if !checked && let Some(end) = new.iter().position(|&b| b == b'\n') {
            let line = input.get(..=scanned + end).unwrap_or_default();
            match self.read(from, line) {
                Parsed::Malformed { offset, what } => return Some(Step::malformed(side, offset, what)),
                // HTTP/0.9 has no more than this.
                Parsed::Done { value, used } => return self.take(&value, used, side, say),
                Parsed::Incomplete { .. } => checked = true,
            }
        }
        if !ends(input, scanned.saturating_sub(3)) && input.len() < HEAD {
            return self.wait(from, At::Head { scanned: input.len(), checked });
        }
        match self.read(from, input) {
            Parsed::Done { value, used } => self.take(&value, used, side, say),
            Parsed::Incomplete { .. } => self.wait(from, At::Head { scanned: input.len(), checked }),
            Parsed::Malformed { offset, what } => Some(Step::malformed(side, offset, what)),
        }
    }

    fn read(&self, from: Role, input: &[u8]) -> Parsed<Head> {
        match from {
            Role::Client => http::request_head(input, &RULES).map(Head::Request),
            Role::Server => http::response_head(input, &RULES).map(Head::Response),
        }
    }

    fn take(&mut self, head: &Head, used: usize, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        match head {
            Head::Request(head) => self.request(head, used, side, say),
            Head::Response(head) => self.response(head, used, side, say),
        }
    }

    fn wait(&mut self, from: Role, at: At) -> Option<Step> {
        *self.at.of_mut(from) = at;
        Some(Step::More)
    }

    fn request(&mut self, head: &RequestHead, used: usize, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let (line, headers) = (&head.request, &head.headers);
        let optional = |name| headers.get(name).map(|value| text(value, TEXT));
        if say.application.version.is_none() {
            say.application.version = version_text(line.version);
        }
        say.fact(Fact::HttpRequest(HttpRequest {
            method: text(&line.method, 64),
            target: text(&line.target, TARGET),
            version: WireText::from(version_text(line.version).map(|v| format!("HTTP/{v}")).unwrap_or_default()),
            host: optional("host"),
            user_agent: optional("user-agent"),
            cleartext_credential: headers.all("authorization").chain(headers.all("proxy-authorization")).any(shows_secret),
        }));
        // HTTP/0.9: one line, and the answer has no head.
        if line.version == Version::Missing {
            return Some(Step::Done);
        }
        let body = match framing(headers, side) {
            Ok(Framing::OtherCoding) => return Some(Step::malformed(side, 0, "HTTP transfer coding of a request")),
            Ok(Framing::None) => Framing::Length(0),
            Ok(body) => body,
            Err(step) => return Some(step),
        };
        if self.asked.len() >= PIPELINED {
            return Some(Step::Done);
        }
        let asked = match line.method.as_slice() {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        };
        self.asked.push_back(asked);
        side.take(used);
        // What follows an upgrade is HTTP only if the server says no (RFC 9110 §7.8).
        let leaves = asked == Asked::Connect || (headers.get("upgrade").is_some() && body == Framing::Length(0));
        if leaves { self.go(Role::Client, At::Waiting) } else { self.body(Role::Client, body, side) }
    }

    fn response(&mut self, head: &ResponseHead, used: usize, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let headers = &head.headers;
        if let Some(version) = version_text(head.version) {
            say.application.version = Some(version);
        }
        let optional = |name| headers.get(name).map(|value| text(value, TEXT));
        say.fact(Fact::HttpResponse(HttpResponse {
            status: head.status,
            server: optional("server"),
            content_type: optional("content-type"),
        }));
        if head.status == 101 {
            if headers.get("upgrade").is_some_and(|to| to.eq_ignore_ascii_case(b"websocket")) {
                say.fact(Fact::Carried(Carried { inside: "http", protocol: "websocket", both: true, samples: Default::default() }));
            }
            return Some(Step::Done);
        }
        if head.status / 100 == 1 {
            side.take(used);
            return self.go(Role::Server, At::Start);
        }
        let asked = self.asked.pop_front().unwrap_or(Asked::Other);
        if asked == Asked::Connect && head.status / 100 == 2 {
            side.take(used);
            return Some(Step::Inside("http"));
        }
        let body = match framing(headers, side) {
            _ if asked == Asked::Head || matches!(head.status, 204 | 304) => Framing::Length(0),
            Ok(Framing::OtherCoding | Framing::None) => Framing::Length(u64::MAX),
            Ok(body) => body,
            Err(step) => return Some(step),
        };
        side.take(used);
        let next = self.body(Role::Server, body, side);
        if *self.at.of(Role::Client) == At::Waiting && self.asked.is_empty() {
            *self.at.of_mut(Role::Client) = At::Start;
            return Some(Step::Other);
        }
        next
    }

    fn body(&mut self, from: Role, body: Framing, side: &mut Side) -> Option<Step> {
        match body {
            Framing::Length(length) => {
                side.skip(length);
                self.go(from, At::Start)
            }
            _ => self.go(from, At::ChunkSize),
        }
    }

    /// `hex [;extension] CRLF` (RFC 9112 §7.1).
    fn chunk_size(&mut self, from: Role, side: &mut Side) -> Option<Step> {
        let input = side.peek();
        let Some(end) = input.iter().position(|&b| b == b'\n') else {
            return if input.len() > CHUNK_LINE { Some(Step::malformed(side, CHUNK_LINE, "HTTP chunk size")) } else { Some(Step::More) };
        };
        let line = input.get(..end).unwrap_or_default().trim_ascii();
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = line.get(..digits).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u64::from_str_radix(d, 16).ok());
        let after = line.get(digits).is_none_or(|b| matches!(b, b';' | b' ' | b'\t'));
        let Some(size) = size.filter(|&size| after && size < u64::MAX / 2 && end <= CHUNK_LINE) else {
            return Some(Step::malformed(side, digits.min(end), "HTTP chunk size"));
        };
        side.take(end + 1);
        if size == 0 {
            return self.go(from, At::Trailers { seen: 0 });
        }
        side.skip(size);
        self.go(from, At::ChunkEnd)
    }

    fn chunk_end(&mut self, from: Role, side: &mut Side) -> Option<Step> {
        let used = match side.peek() {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            [b'\r'] => return Some(Step::More),
            [b'\r', ..] => return Some(Step::malformed(side, 1, "end of an HTTP chunk")),
            _ => return Some(Step::malformed(side, 0, "end of an HTTP chunk")),
        };
        side.take(used);
        self.go(from, At::ChunkSize)
    }

    fn trailers(&mut self, from: Role, seen: usize, side: &mut Side) -> Option<Step> {
        let input = side.peek();
        let Some(end) = input.iter().position(|&b| b == b'\n') else {
            return if input.len() > CHUNK_LINE { Some(Step::malformed(side, CHUNK_LINE, "HTTP trailer")) } else { Some(Step::More) };
        };
        let last = matches!(input.get(..end), Some([] | [b'\r']));
        if seen + end > TRAILERS {
            return Some(Step::malformed(side, 0, "HTTP trailers too long"));
        }
        side.take(end + 1);
        self.go(from, if last { At::Start } else { At::Trailers { seen: seen + end + 1 } })
    }
}

/// Whether an empty line ends the head at or after `from`.
fn ends(input: &[u8], from: usize) -> bool {
    let new = input.get(from..).unwrap_or_default();
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

fn version_text(version: Version) -> Option<String> {
    match version {
        Version::Missing => None,
        Version::Http(major, minor) => Some(format!("{major}.{minor}")),
    }
}

/// Schemes whose parameter is the secret itself (RFC 7617, RFC 6750).
fn shows_secret(value: &[u8]) -> bool {
    let scheme = value.split(|b| *b == b' ').next().unwrap_or_default();
    value.len() > scheme.len() + 1 && (scheme.eq_ignore_ascii_case(b"basic") || scheme.eq_ignore_ascii_case(b"bearer"))
}

/// How the end of a body is told (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// A coding whose last is not chunked: the body ends with the connection.
    OtherCoding,
    None,
}

fn framing(headers: &Headers, side: &Side) -> Result<Framing, Step> {
    if let Some(coding) = headers.all("transfer-encoding").last() {
        let last = coding.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        return Ok(if last.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::OtherCoding });
    }
    let mut length = None;
    for header in headers.list.iter().filter(|header| header.is("content-length")) {
        for value in header.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|value| value.parse::<u64>().ok());
            match (number, length) {
                (Some(number), None) => length = Some(number),
                (Some(number), Some(before)) if number == before => {}
                _ => return Err(Step::malformed(side, header.offset, "HTTP content length")),
            }
        }
    }
    Ok(length.map_or(Framing::None, Framing::Length))
}
