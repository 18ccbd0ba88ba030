//! Takes a Telnet stream apart (RFC 854): text, commands, options and subnegotiations. It must never
//! hold more than one bounded subnegotiation.

pub(super) const SE: u8 = 240;
pub(super) const SB: u8 = 250;
pub(super) const WILL: u8 = 251;
pub(super) const WONT: u8 = 252;
pub(super) const DO: u8 = 253;
pub(super) const DONT: u8 = 254;
pub(super) const IAC: u8 = 255;

/// Bytes kept of one subnegotiation; the rest is dropped and counted.
const SUB: usize = 1024;

/// One piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text, its IAC IAC made one.
    Text(Vec<u8>),
    /// A command without argument.
    Command(u8),
    /// WILL, WONT, DO or DONT of an option.
    Option(u8, u8),
    /// A subnegotiation of an option.
    Sub(u8, Vec<u8>),
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Text,
    Iac,
    Verb(u8),
    SubOption,
    Sub(u8),
    SubIac(u8),
}

/// The parser between two reads.
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    sub: Vec<u8>,
    cut: u64,
}

impl Parser {
    /// Takes bytes, gives what is complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        for &byte in bytes {
            let piece = self.byte(byte, &mut text);
            if let Some(piece) = piece {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(piece);
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        pieces
    }

    /// Subnegotiation bytes dropped since the last call.
    pub(super) fn cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    fn byte(&mut self, byte: u8, text: &mut Vec<u8>) -> Option<Piece> {
        let (state, piece) = match (self.state, byte) {
            (State::Text, IAC) => (State::Iac, None),
            (State::Text, _) => {
                text.push(byte);
                (State::Text, None)
            }
            (State::Iac, IAC) => {
                text.push(IAC);
                (State::Text, None)
            }
            (State::Iac, WILL..=DONT) => (State::Verb(byte), None),
            (State::Iac, SB) => (State::SubOption, None),
            (State::Iac, _) => (State::Text, Some(Piece::Command(byte))),
            (State::Verb(verb), _) => (State::Text, Some(Piece::Option(verb, byte))),
            (State::SubOption, _) => (State::Sub(byte), None),
            (State::Sub(option), IAC) => (State::SubIac(option), None),
            (State::Sub(option), _) => {
                self.keep(byte);
                (State::Sub(option), None)
            }
            (State::SubIac(option), IAC) => {
                self.keep(IAC);
                (State::Sub(option), None)
            }
            (State::SubIac(option), SE) => (State::Text, Some(Piece::Sub(option, std::mem::take(&mut self.sub)))),
            // As BSD's telnetd: anything else after IAC ends the subnegotiation and counts as its own command.
            (State::SubIac(option), _) => {
                let sub = std::mem::take(&mut self.sub);
                let state = match byte {
                    WILL..=DONT => State::Verb(byte),
                    SB => State::SubOption,
                    _ => State::Text,
                };
                (state, Some(Piece::Sub(option, sub)))
            }
        };
        self.state = state;
        piece
    }

    fn keep(&mut self, byte: u8) {
        if self.sub.len() < SUB {
            self.sub.push(byte);
        } else {
            self.cut = self.cut.saturating_add(1);
        }
    }
}

/// Text as it goes out: IAC doubled.
pub(super) fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if byte == IAC {
            out.push(IAC);
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_commands_options_and_subnegotiations() {
        let mut parser = Parser::default();
        let pieces = parser.push(b"ab\xff\xff\xff\xf6c\xff\xfb\x18\xff\xfa\x18\0XTERM\xff\xf0d\xff\xfa\x1f\0\xff\xff\0\x18\xff\xf0");
        assert_eq!(
            pieces,
            [
                Piece::Text(b"ab\xff".to_vec()),
                Piece::Command(246),
                Piece::Text(b"c".to_vec()),
                Piece::Option(WILL, 24),
                Piece::Sub(24, b"\0XTERM".to_vec()),
                Piece::Text(b"d".to_vec()),
                Piece::Sub(31, b"\0\xff\0\x18".to_vec()),
            ]
        );
    }

    #[test]
    fn a_subnegotiation_is_bounded() {
        let mut parser = Parser::default();
        parser.push(b"\xff\xfa\x18");
        for _ in 0..100 {
            parser.push(&[b'a'; 1000]);
        }
        assert_eq!(parser.sub.len(), SUB);
        assert_eq!(parser.cut(), 100_000 - SUB as u64);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)))]
        #[test]
        fn cuts_do_not_matter(input in proptest::collection::vec(prop_oneof![Just(IAC), 238u8..=254, any::<u8>()], 0..64), cut in 0usize..64) {
            let flat = |pieces: Vec<Piece>| {
                let mut out: Vec<Piece> = Vec::new();
                for piece in pieces {
                    if let (Some(Piece::Text(a)), Piece::Text(b)) = (out.last_mut(), &piece) { a.extend_from_slice(b); } else { out.push(piece); }
                }
                out
            };
            let whole = flat(Parser::default().push(&input));
            let mut parser = Parser::default();
            let cut = cut.min(input.len());
            let mut pieces = parser.push(&input[..cut]);
            pieces.extend(parser.push(&input[cut..]));
            prop_assert_eq!(whole, flat(pieces));
        }
    }
}
