//! LDAP before encryption: whether a bind shows its password, and StartTLS (RFC 4511 §4.2, §4.14).
//! What follows StartTLS is looked at anew. It keeps no name and no secret.

use super::say::Say;
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_event::observation::{ClearLogin, Fact, StartTls};
use glasshive_proto::{ParseError, Reader};

/// Longest message looked into; longer ones are passed over.
const MESSAGE: u64 = 32_768;
/// Messages of the client looked at: binds come first.
const MESSAGES: u8 = 32;

const BIND: u8 = 0x60;
const EXTENDED: u8 = 0x77;
/// `simple` of AuthenticationChoice.
const SIMPLE: u8 = 0x80;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

#[derive(Debug, Default)]
struct Ldap {
    login: bool,
    asked: bool,
    seen: u8,
}

pub(super) fn new() -> Box<dyn Parser> {
    Box::<Ldap>::default()
}

/// What a client's message asks for.
enum Asked {
    Password,
    Tls,
    Other,
}

impl Parser for Ldap {
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        loop {
            let input = side.peek();
            if self.asked && input.first() == Some(&22) {
                // The server's hello waits until the client's has opened the way.
                if from == Role::Server {
                    return Step::More;
                }
                say.fact(Fact::StartTls(StartTls { protocol: "ldap", offered: None, asked: true, started: true }));
                return Step::Inside("ldap");
            }
            let length = match length(input) {
                Ok(Some(length)) => length,
                Ok(None) => return Step::More,
                Err(e) => return Step::malformed(side, e.offset, e.what),
            };
            let whole = usize::try_from(length).ok().filter(|_| length <= MESSAGE);
            match (from, whole) {
                (Role::Client, Some(whole)) => {
                    let Some(message) = input.get(..whole) else {
                        side.want(whole);
                        return Step::More;
                    };
                    self.request(message, say);
                    self.seen += 1;
                    if self.seen >= MESSAGES {
                        return Step::Done;
                    }
                    side.take(whole);
                }
                _ => side.skip(length),
            }
            if side.skipping() || side.peek().is_empty() {
                return Step::More;
            }
        }
    }
}

impl Ldap {
    fn request(&mut self, message: &[u8], say: &mut Say<'_>) {
        match asked(message) {
            Ok(Asked::Password) if !std::mem::replace(&mut self.login, true) => {
                say.fact(Fact::ClearLogin(ClearLogin { protocol: "ldap", scheme: "simple" }));
            }
            Ok(Asked::Tls) => self.asked = true,
            _ => {}
        }
    }
}

/// Length of the message at the start, its header included; `None` while it cannot be told.
fn length(input: &[u8]) -> Result<Option<u64>, ParseError> {
    match input {
        [] => Ok(None),
        [0x30, rest @ ..] => {
            let mut r = Reader::at(rest, 1);
            match ber_length(&mut r) {
                Ok(length) => Ok(Some(length.saturating_add(r.offset() as u64))),
                Err(_) if rest.len() < 5 && rest.first().is_none_or(|&b| matches!(b, 0x81..=0x84)) => Ok(None),
                Err(e) => Err(e),
            }
        }
        _ => Err(ParseError::new(0, "not an LDAP message")),
    }
}

/// A definite length of at most four bytes (RFC 4511 §5.1).
fn ber_length(r: &mut Reader<'_>) -> Result<u64, ParseError> {
    match r.u8("LDAP length")? {
        short @ 0..=0x7f => Ok(u64::from(short)),
        long @ 0x81..=0x84 => {
            let bytes = r.take(usize::from(long & 0x7f), "LDAP length")?;
            Ok(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
        }
        _ => Err(r.error("LDAP length")),
    }
}

/// Reads tag and length, and gives the content.
fn element<'a>(r: &mut Reader<'a>) -> Result<(u8, Reader<'a>), ParseError> {
    let tag = r.u8("LDAP tag")?;
    let length = ber_length(r)?;
    Ok((tag, r.sub(usize::try_from(length).unwrap_or(usize::MAX), "LDAP element")?))
}

fn asked(message: &[u8]) -> Result<Asked, ParseError> {
    let (_, mut r) = element(&mut Reader::new(message))?;
    element(&mut r)?;
    let (operation, mut body) = element(&mut r)?;
    Ok(match operation {
        BIND => {
            element(&mut body)?;
            element(&mut body)?;
            let (choice, secret) = element(&mut body)?;
            if choice == SIMPLE && !secret.is_empty() { Asked::Password } else { Asked::Other }
        }
        EXTENDED => {
            let (_, mut name) = element(&mut body)?;
            if name.rest() == START_TLS { Asked::Tls } else { Asked::Other }
        }
        _ => Asked::Other,
    })
}
