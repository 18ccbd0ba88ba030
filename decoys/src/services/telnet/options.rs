//! Option negotiation as the claimed daemon does it: what it asks first, what it asks when that is
//! answered, and what it answers. Each answer is to one request, so that no two peers can loop.

use super::iac::{DO, DONT, IAC, Piece, SB, SE, WILL, WONT};
use serde::Deserialize;

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SGA: u8 = 3;
const STATUS: u8 = 5;
const TTYPE: u8 = 24;
const NAWS: u8 = 31;
const TSPEED: u8 = 32;
const LFLOW: u8 = 33;
const LINEMODE: u8 = 34;
const XDISPLOC: u8 = 35;
const OLD_ENVIRON: u8 = 36;
const AUTHENTICATION: u8 = 37;
const ENCRYPT: u8 = 38;
const NEW_ENVIRON: u8 = 39;

/// Which telnetd is claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Daemon {
    /// Linux NetKit telnetd; nmap calls it `Linux telnetd`.
    #[default]
    Linux,
    /// GNU inetutils telnetd 2.4 as Debian 12 ships it; nmap 7.93 has no name for it.
    Inetutils,
}

impl Daemon {
    /// Options it offers and asks for before anything else.
    fn first(self) -> &'static [(u8, u8)] {
        const ASKED: [(u8, u8); 4] = [(DO, TTYPE), (DO, TSPEED), (DO, XDISPLOC), (DO, NEW_ENVIRON)];
        const DEBIAN_12: [(u8, u8); 7] =
            [(WILL, AUTHENTICATION), (WILL, ENCRYPT), (DO, TTYPE), (DO, TSPEED), (DO, XDISPLOC), (DO, NEW_ENVIRON), (DO, OLD_ENVIRON)];
        match self {
            Self::Linux => &ASKED,
            Self::Inetutils => &DEBIAN_12,
        }
    }

    /// What follows when the first ones are answered.
    fn second(self) -> &'static [(u8, u8)] {
        match self {
            Self::Linux => &[(WILL, SGA), (DO, ECHO), (DO, NAWS), (WILL, STATUS), (DO, LFLOW)],
            Self::Inetutils => &[(WILL, SGA), (DO, ECHO), (DO, LINEMODE), (DO, NAWS), (WILL, STATUS), (DO, LFLOW)],
        }
    }
}

/// How far the negotiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The first options are not all answered.
    First,
    /// The answer to DO ECHO is awaited.
    Echo,
    /// The login prompt may come.
    Ready,
}

/// The negotiation of one connection.
pub(super) struct Options {
    daemon: Daemon,
    stage: Stage,
    unanswered: Vec<u8>,
    awaited_subs: Vec<u8>,
    binary: (bool, bool),
    will_echo: bool,
    said: Vec<String>,
    /// Terminal type, as told.
    pub(super) term: String,
    /// Columns and rows, as told.
    pub(super) size: Option<(u16, u16)>,
    /// Environment, as told: pairs of name and value.
    pub(super) environment: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Option replies and variables kept for the record.
const KEPT: usize = 64;

impl Options {
    /// The negotiation and the bytes it begins with.
    pub(super) fn new(daemon: Daemon) -> (Self, Vec<u8>) {
        let first = daemon.first();
        let options = Self {
            daemon,
            stage: Stage::First,
            unanswered: first.iter().map(|(_, option)| *option).collect(),
            awaited_subs: Vec::new(),
            binary: (false, false),
            will_echo: false,
            said: Vec::new(),
            term: String::new(),
            size: None,
            environment: Vec::new(),
        };
        (options, bytes(first))
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// What the visitor said about options, for the record.
    pub(super) fn said(&self) -> String {
        self.said.join(" ")
    }

    /// The visitor types without waiting for the negotiation: takes what is missing as refused.
    pub(super) fn impatient(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.stage == Stage::First {
            self.unanswered.clear();
            self.awaited_subs.clear();
            out.extend(self.advance());
        }
        if self.stage == Stage::Echo {
            out.extend(self.echo());
        }
        out
    }

    /// Takes an option or subnegotiation; returns the bytes to answer.
    pub(super) fn take(&mut self, piece: &Piece) -> Vec<u8> {
        let mut out = Vec::new();
        match piece {
            Piece::Option(verb, option) => {
                self.say(*verb, *option);
                out.extend(self.option(*verb, *option));
            }
            Piece::Sub(option, sub) => self.sub(*option, sub),
            Piece::Text(_) | Piece::Command(_) => {}
        }
        if self.stage == Stage::First {
            out.extend(self.advance());
        }
        out
    }

    fn advance(&mut self) -> Vec<u8> {
        if !self.unanswered.is_empty() || !self.awaited_subs.is_empty() {
            return Vec::new();
        }
        self.stage = Stage::Echo;
        bytes(self.daemon.second())
    }

    fn echo(&mut self) -> Vec<u8> {
        self.stage = Stage::Ready;
        if std::mem::replace(&mut self.will_echo, true) { Vec::new() } else { bytes(&[(WILL, ECHO)]) }
    }

    fn option(&mut self, verb: u8, option: u8) -> Vec<u8> {
        if let Some(at) = self.unanswered.iter().position(|asked| *asked == option) {
            self.unanswered.remove(at);
            let wants_sub = matches!(option, TTYPE | TSPEED | XDISPLOC | NEW_ENVIRON | OLD_ENVIRON);
            if verb == WILL && wants_sub {
                self.awaited_subs.push(option);
                return vec![IAC, SB, option, 1, IAC, SE];
            }
            return Vec::new();
        }
        match (verb, option) {
            (WILL | WONT, ECHO) if self.stage == Stage::Echo => self.echo(),
            (WILL, BINARY) if !std::mem::replace(&mut self.binary.0, true) => bytes(&[(DO, BINARY)]),
            (DO, BINARY) if !std::mem::replace(&mut self.binary.1, true) => bytes(&[(WILL, BINARY)]),
            // Answers to what the second wave offered or asked.
            (DO | DONT, ECHO | SGA | STATUS) | (WILL | WONT, NAWS | LFLOW | LINEMODE | SGA | BINARY) | (DO, BINARY) => Vec::new(),
            (WILL, _) => bytes(&[(DONT, option)]),
            (DO, _) => bytes(&[(WONT, option)]),
            _ => Vec::new(),
        }
    }

    fn sub(&mut self, option: u8, sub: &[u8]) {
        self.awaited_subs.retain(|awaited| *awaited != option);
        match (option, sub) {
            (TTYPE, [0, term @ ..]) => {
                self.term = term.iter().take(40).filter(|b| b.is_ascii_graphic()).map(|b| char::from(b.to_ascii_lowercase())).collect();
            }
            (NAWS, [a, b, c, d]) => self.size = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            (NEW_ENVIRON | OLD_ENVIRON, [0 | 2, variables @ ..]) => self.variables(variables),
            _ => {}
        }
    }

    /// RFC 1572: VAR 0, VALUE 1, ESC 2, USERVAR 3.
    fn variables(&mut self, text: &[u8]) {
        let (mut name, mut value, mut in_value, mut escaped) = (Vec::new(), Vec::new(), false, false);
        for byte in text.iter().copied().chain([0]) {
            match byte {
                _ if escaped => {
                    escaped = false;
                    if in_value { value.push(byte) } else { name.push(byte) }
                }
                2 => escaped = true,
                1 => in_value = true,
                0 | 3 => {
                    if !name.is_empty() && self.environment.len() < KEPT {
                        self.environment.push((std::mem::take(&mut name), std::mem::take(&mut value)));
                    }
                    (name, value, in_value) = (Vec::new(), Vec::new(), false);
                }
                _ if in_value => value.push(byte),
                _ => name.push(byte),
            }
        }
    }

    fn say(&mut self, verb: u8, option: u8) {
        if self.said.len() < KEPT {
            let verb = match verb {
                WILL => "WILL",
                WONT => "WONT",
                DO => "DO",
                _ => "DONT",
            };
            self.said.push(format!("{verb}-{option}"));
        }
    }
}

fn bytes(options: &[(u8, u8)]) -> Vec<u8> {
    options.iter().flat_map(|(verb, option)| [IAC, *verb, *option]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::telnet::iac::Parser;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
    }

    fn feed(options: &mut Options, text: &[u8]) -> Vec<u8> {
        Parser::default().push(text).iter().flat_map(|piece| options.take(piece)).collect()
    }

    /// Recorded from inetutils-telnetd 2:2.4-2+deb12u3.
    #[test]
    fn inetutils_as_recorded() {
        let (mut options, first) = Options::new(Daemon::Inetutils);
        assert_eq!(first, hex("fffb25 fffb26 fffd18 fffd20 fffd23 fffd27 fffd24"));
        let asked = feed(&mut options, &hex("fffe25 fffe26 fffb18 fffb20 fffb23 fffb27 fffc24"));
        let mut sorted: Vec<_> = asked.chunks(6).collect();
        sorted.sort_unstable();
        assert_eq!(sorted.concat(), hex("fffa1801fff0 fffa2001fff0 fffa2301fff0 fffa2701fff0"));
        let told =
            [hex("fffa2000"), b"38400,38400".to_vec(), hex("fff0 fffa2300fff0 fffa2700fff0 fffa1800"), b"XTERM".to_vec(), hex("fff0")]
                .concat();
        assert_eq!(feed(&mut options, &told), hex("fffb03 fffd01 fffd22 fffd1f fffb05 fffd21"));
        assert_eq!(options.stage(), Stage::Echo);
        assert_eq!(feed(&mut options, &hex("fffd03 fffb1f fffa1f00500018fff0 fffc22 fffe05 fffc21 fffc01 fffd01")), hex("fffb01"));
        assert_eq!((options.stage(), options.size, options.term.as_str()), (Stage::Ready, Some((80, 24)), "xterm"));
        assert_eq!(feed(&mut options, &hex("fffb55 fffd55")), hex("fffe55 fffc55"));
    }

    #[test]
    fn refusals_and_impatience_get_on() {
        let (mut options, first) = Options::new(Daemon::Linux);
        assert_eq!(first, hex("fffd18 fffd20 fffd23 fffd27"));
        assert_eq!(feed(&mut options, &hex("fffc18 fffc20 fffc23 fffc27")), hex("fffb03 fffd01 fffd1f fffb05 fffd21"));
        assert_eq!(options.impatient(), hex("fffb01"));
        assert_eq!(options.stage(), Stage::Ready);
        assert_eq!(options.impatient(), b"");
        let (mut options, _) = Options::new(Daemon::Linux);
        assert_eq!(options.impatient(), hex("fffb03 fffd01 fffd1f fffb05 fffd21 fffb01"));
    }

    #[test]
    fn environment_with_escapes() {
        let (mut options, _) = Options::new(Daemon::Linux);
        feed(&mut options, &[&hex("fffa2700 00")[..], b"USER\x01-f root\x03X\x01a\x02\x01b", &hex("fff0")].concat());
        assert_eq!(options.environment, [(b"USER".to_vec(), b"-f root".to_vec()), (b"X".to_vec(), b"a\x01b".to_vec())]);
    }
}
