//! TLS and SSL in clear: hellos of both sides, what was agreed on, and up to TLS 1.2 the certificate
//! and the key exchange's group. It never decrypts; it is done at the first byte that is encrypted.
//!
//! One `TlsServer` is said for a handshake, when all it can hold is known: with TLS 1.3 at the hello,
//! before at the key exchange, the end of the server's flight or of the clear part. A hello that only
//! asks the client for another (HelloRetryRequest) is said when no other followed.

use super::pair::Pair;
use super::say::{Say, text};
use super::side::Side;
use super::{Parser, Role, Step, certificate};
use glasshive_event::observation::{Fact, TlsClient, TlsServer};
use glasshive_proto::ja::{self, Carrier};
use glasshive_proto::tls::{self, ClientHello, ServerHello};
use glasshive_proto::tls_messages::{self, KeyExchange, message};
use glasshive_proto::{Parsed, ssl2};

/// Longest handshake message looked into, and most handshake bytes held of one side: with one record
/// in the window below 64 KiB.
const MESSAGE: usize = 45_056;
/// Most records that unread handshake bytes may come from.
const RECORDS: usize = 2_048;
/// Longest record (RFC 5246 §6.2.3: 2^14 + 2048).
const RECORD: usize = 18_432;
/// Most suites, and most application protocols, of one fact.
const CIPHERS: usize = 512;
const PROTOCOLS: usize = 32;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// One side's handshake bytes, put together from its records.
#[derive(Debug, Default)]
struct Flight {
    plain: Vec<u8>,
    /// Where each record's part of `plain` starts: (there, in the stream).
    map: Vec<(usize, u64)>,
    /// Messages read.
    messages: usize,
    /// Hellos read.
    hellos: usize,
    begun: bool,
    over: bool,
}

#[derive(Debug, Default)]
struct Tls {
    flights: Pair<Flight>,
    /// What is to be said of the server's hello.
    agreed: Option<TlsServer>,
    certificate: Option<Vec<u8>>,
    /// The last server hello asked for another client hello.
    retry: bool,
}

pub(super) fn new() -> Box<dyn Parser> {
    Box::<Tls>::default()
}

/// A server's hello that comes first shows that the direction is the other way round.
pub(super) fn role(first: &[u8]) -> Option<Role> {
    match (first.first(), first.get(2), first.get(5)) {
        (Some(22), _, Some(2)) | (Some(21), ..) => Some(Role::Server),
        (Some(0x80..), Some(4), _) => Some(Role::Server),
        _ => None,
    }
}

impl Parser for Tls {
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        loop {
            if self.flights.of(from).over {
                return self.side_over(from, say);
            }
            if side.peek().is_empty() {
                return Step::More;
            }
            let step = if self.flights.of(from).begun { self.record(from, side, say) } else { self.begin(from, side, say) };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn gap(&mut self, from: Role) -> Step {
        self.flights.of_mut(from).over = true;
        Step::SideDone
    }

    fn finish(&mut self, say: &mut Say<'_>) {
        self.say_server(say);
    }
}

impl Tls {
    /// The first byte of a side tells SSL 2 from what came after.
    fn begin(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        if side.peek().first().is_some_and(|b| b & 0x80 == 0) {
            self.flights.of_mut(from).begun = true;
            return None;
        }
        let input = side.peek();
        let incomplete = match from {
            Role::Client => match ssl2::client_hello(input) {
                Parsed::Done { value, used } => {
                    let ciphers = value.tls_ciphers();
                    say.fact(Fact::TlsClient(TlsClient { version: value.version, ciphers: bounded(&ciphers), ..TlsClient::default() }));
                    side.take(used);
                    let flight = self.flights.of_mut(from);
                    (flight.begun, flight.hellos, flight.messages) = (true, 1, 1);
                    return None;
                }
                other => other.map(|_| ()),
            },
            Role::Server => match ssl2::server_hello(input) {
                Parsed::Done { value, .. } => {
                    self.agreed = Some(TlsServer { version: value.version, ..TlsServer::default() });
                    say.application.version = Some(tls::version_name(value.version).into_owned());
                    self.certificate = (!value.certificate.is_empty()).then_some(value.certificate);
                    self.say_server(say);
                    return Some(Step::Done);
                }
                other => other.map(|_| ()),
            },
        };
        Some(match incomplete {
            Parsed::Incomplete { needed } => {
                side.want(input.len() + needed);
                Step::More
            }
            Parsed::Malformed { offset, what } => Step::malformed(side, offset, what),
            Parsed::Done { .. } => Step::More,
        })
    }

    fn record(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let input = side.peek();
        let kind = input.first().copied().unwrap_or_default();
        if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) {
            // After an SSL 2 hello an SSL 2 server would go on in its own records.
            if self.flights.of(from).messages > 0 && self.flights.of(from).plain.is_empty() && kind & 0x80 != 0 {
                self.flights.of_mut(from).over = true;
                return None;
            }
            return Some(Step::malformed(side, 0, "TLS record type"));
        }
        if input.get(1).is_some_and(|&major| major != 3) {
            return Some(Step::malformed(side, 1, "TLS record version"));
        }
        let Some(&[_, _, _, high, low]) = input.first_chunk::<5>() else {
            side.want(5);
            return Some(Step::More);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > RECORD || length == 0 && kind != APPLICATION_DATA {
            return Some(Step::malformed(side, 3, "TLS record length"));
        }
        let flight = self.flights.of_mut(from);
        match kind {
            HANDSHAKE => {}
            // Sent in TLS 1.3 for the sake of old middle boxes (RFC 8446 appendix D.4), around a retry too.
            CHANGE_CIPHER_SPEC if self.retry => {}
            // A warning may come before the hello (RFC 6066 §3); it is two bytes, an encrypted one more.
            ALERT if length == 2 && input.get(5).is_none_or(|&level| level == 1) => {}
            _ => {
                flight.over = true;
                return None;
            }
        }
        let Some(body) = input.get(5..5 + length) else {
            side.want(5 + length);
            return Some(Step::More);
        };
        if kind == HANDSHAKE {
            if flight.plain.len() + length > MESSAGE {
                return Some(Step::malformed(side, 5, "TLS handshake message too long"));
            }
            if flight.map.len() >= RECORDS {
                return Some(Step::malformed(side, 0, "TLS handshake message cut into too many records"));
            }
            flight.map.push((flight.plain.len(), side.offset() + 5));
            flight.plain.extend_from_slice(body);
        }
        side.take(5 + length);
        self.messages(from, say)
    }

    /// Reads the whole messages among the handshake bytes.
    fn messages(&mut self, from: Role, say: &mut Say<'_>) -> Option<Step> {
        let plain = std::mem::take(&mut self.flights.of_mut(from).plain);
        let map = std::mem::take(&mut self.flights.of_mut(from).map);
        let mut at = 0;
        let mut step = None;
        while step.is_none() && !self.flights.of(from).over {
            let rest = plain.get(at..).unwrap_or_default();
            let Some(&[kind, a, b, c]) = rest.first_chunk::<4>() else { break };
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX).saturating_add(4);
            let place = Place { plain: &plain, map: &map, at };
            let flight = self.flights.of(from);
            let wrong_first = match from {
                Role::Client => kind != message::CLIENT_HELLO,
                Role::Server => kind != message::SERVER_HELLO && kind != message::HELLO_REQUEST,
            };
            if flight.messages == 0 && wrong_first {
                step = Some(place.malformed(0, "not a TLS hello"));
                break;
            }
            if length > MESSAGE {
                step = Some(place.malformed(1, "TLS handshake message too long"));
                break;
            }
            let Some(whole) = rest.get(..length) else { break };
            self.flights.of_mut(from).messages += 1;
            step = match from {
                Role::Client => self.client_message(kind, whole, &place, say),
                Role::Server => self.server_message(kind, whole, &place, say),
            };
            at += length;
        }
        let flight = self.flights.of_mut(from);
        if flight.over || step.is_some() {
            return step;
        }
        if at == 0 {
            (flight.plain, flight.map) = (plain, map);
        } else {
            // What is left keeps its places in the stream.
            let place = Place { plain: &plain, map: &map, at };
            flight.plain = plain.get(at..).unwrap_or_default().to_vec();
            if !flight.plain.is_empty() {
                let rest = map.iter().filter(|(start, _)| *start > at).map(|(start, stream)| (start - at, *stream));
                flight.map = std::iter::once((0, place.stream(0))).chain(rest).collect();
            }
        }
        step
    }

    fn client_message(&mut self, kind: u8, whole: &[u8], place: &Place<'_>, say: &mut Say<'_>) -> Option<Step> {
        if kind != message::CLIENT_HELLO {
            // Its certificate or key exchange: nothing more is to be learned from it.
            self.flights.of_mut(Role::Client).over = true;
            return None;
        }
        match tls::client_hello_message(whole) {
            Parsed::Done { value, .. } => {
                self.flights.of_mut(Role::Client).hellos += 1;
                say_client(&value, say);
                if let Some(fault) = value.faults.first() {
                    let bytes = whole.get(fault.offset..).unwrap_or_default();
                    say.malformed("tls", fault.what, place.stream(fault.offset), bytes);
                }
                None
            }
            Parsed::Malformed { offset, what } => Some(place.malformed(offset, what)),
            Parsed::Incomplete { .. } => None,
        }
    }

    fn server_message(&mut self, kind: u8, whole: &[u8], place: &Place<'_>, say: &mut Say<'_>) -> Option<Step> {
        let body = whole.get(4..).unwrap_or_default();
        match kind {
            message::SERVER_HELLO => match tls::server_hello_message(whole) {
                Parsed::Done { value, .. } => self.server_hello(&value, say),
                Parsed::Malformed { offset, what } => return Some(place.malformed(offset, what)),
                Parsed::Incomplete { .. } => {}
            },
            message::CERTIFICATE if self.certificate.is_none() => match tls_messages::first_certificate(body) {
                Ok(der) => self.certificate = der.map(<[u8]>::to_vec),
                Err(e) => return Some(place.malformed(e.offset + 4, e.what)),
            },
            message::SERVER_KEY_EXCHANGE => {
                let cipher = self.agreed.as_ref().map_or(0, |agreed| agreed.cipher);
                match tls_messages::server_key_exchange(body, tls_messages::exchange(cipher)) {
                    Ok(KeyExchange { group, dh_bits }) => {
                        if let Some(agreed) = &mut self.agreed {
                            (agreed.group, agreed.dh_bits) = (group, dh_bits);
                        }
                        self.flights.of_mut(Role::Server).over = true;
                    }
                    Err(e) => return Some(place.malformed(e.offset + 4, e.what)),
                }
            }
            message::SERVER_HELLO_DONE => self.flights.of_mut(Role::Server).over = true,
            _ => {}
        }
        None
    }

    fn server_hello(&mut self, hello: &ServerHello, say: &mut Say<'_>) {
        let version = hello.negotiated();
        let agreed = TlsServer {
            ja3s: ja::ja3s(hello),
            version,
            cipher: hello.cipher,
            group: hello.key_share_group(),
            dh_bits: None,
            downgrade_sentinel: hello.downgrade_sentinel(),
        };
        say.application.version = Some(tls::version_name(version).into_owned());
        say.application.cipher = Some(format!("0x{:04x}", hello.cipher));
        say.application.ja3s = Some(agreed.ja3s.clone());
        self.retry = hello.is_retry();
        self.agreed = Some(agreed);
        let flight = self.flights.of_mut(Role::Server);
        flight.hellos += 1;
        // The rest of TLS 1.3's flight is encrypted.
        flight.over = version >= 0x0304 && !self.retry;
    }

    fn side_over(&mut self, from: Role, say: &mut Say<'_>) -> Step {
        if from == Role::Server {
            self.say_server(say);
        }
        let client = self.flights.of(Role::Client);
        if self.flights.of(Role::Server).over && (client.over || client.hellos > 0) { Step::Done } else { Step::SideDone }
    }

    fn say_server(&mut self, say: &mut Say<'_>) {
        if let Some(agreed) = self.agreed.take() {
            say.fact(Fact::TlsServer(agreed));
        }
        if let Some(der) = self.certificate.take() {
            say.fact(Fact::Certificate(certificate::read(&der)));
        }
    }
}

/// A message's place among the handshake bytes and in the stream.
struct Place<'a> {
    plain: &'a [u8],
    map: &'a [(usize, u64)],
    /// Where the message starts.
    at: usize,
}

impl Place<'_> {
    /// Offset in the stream of the message's byte `offset`.
    fn stream(&self, offset: usize) -> u64 {
        let at = self.at + offset;
        let part = self.map.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let (start, stream) = self.map.get(part).copied().unwrap_or_default();
        stream + at.saturating_sub(start) as u64
    }

    fn malformed(&self, offset: usize, what: &'static str) -> Step {
        let bytes = self.plain.get(self.at + offset..).unwrap_or_default();
        Step::Malformed { offset: self.stream(offset), what, bytes: bytes.get(..256).unwrap_or(bytes).to_vec() }
    }
}

fn say_client(hello: &ClientHello, say: &mut Say<'_>) {
    let fact = TlsClient {
        ja3: ja::ja3(hello),
        ja4: ja::ja4(hello, Carrier::Tcp),
        sni: hello.sni.as_deref().map(|sni| text(sni, 255)),
        alpn: hello.alpn.iter().take(PROTOCOLS).map(|name| text(name, 255)).collect(),
        version: hello.highest_version().unwrap_or(hello.version),
        ciphers: bounded(&hello.ciphers),
    };
    let application = &mut *say.application;
    if application.ja3.is_none() {
        application.ja3 = Some(fact.ja3.clone());
        application.ja4 = Some(fact.ja4.clone());
        application.sni.clone_from(&fact.sni);
    }
    say.fact(Fact::TlsClient(fact));
}

fn bounded(ciphers: &[u16]) -> Vec<u16> {
    ciphers.get(..CIPHERS).unwrap_or(ciphers).to_vec()
}
