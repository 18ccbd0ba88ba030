//! Mail and file transfer commands, line by line (SMTP, FTP, POP3, IMAP): whether a login shows its
//! secret, and STARTTLS. What follows STARTTLS is looked at anew. It keeps no line and no secret.
//!
//! Known misses: a line that begins with the bytes of a TLS record is taken for TLS; capabilities are
//! known by their word in any of the server's lines.

use super::say::Say;
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_event::observation::{ClearLogin, Fact, StartTls};

/// Longest line looked at; the rest of a longer one is passed over.
const LINE: usize = 2_048;

/// What differs between the protocols.
#[derive(Debug)]
struct Words {
    protocol: &'static str,
    /// The client's command that asks for TLS, and the server's word for it among its capabilities.
    ask: &'static [&'static [u8]],
    /// Commands that ask for the capabilities.
    capabilities: &'static [&'static [u8]],
    /// Commands that show a secret, and how to call them.
    login: &'static [(&'static [u8], &'static str)],
    /// Whether commands come after a tag.
    tagged: bool,
}

static SMTP: Words = Words {
    protocol: "smtp",
    ask: &[b"STARTTLS"],
    capabilities: &[b"EHLO ", b"LHLO "],
    login: &[(b"AUTH PLAIN", "PLAIN"), (b"AUTH LOGIN", "LOGIN")],
    tagged: false,
};
static FTP: Words =
    Words { protocol: "ftp", ask: &[b"AUTH TLS", b"AUTH SSL"], capabilities: &[b"FEAT"], login: &[(b"PASS ", "PASS")], tagged: false };
static POP3: Words = Words {
    protocol: "pop3",
    ask: &[b"STLS"],
    capabilities: &[b"CAPA"],
    login: &[(b"PASS ", "PASS"), (b"AUTH PLAIN", "PLAIN")],
    tagged: false,
};
static IMAP: Words = Words {
    protocol: "imap",
    ask: &[b"STARTTLS"],
    capabilities: &[b"CAPABILITY"],
    login: &[(b"LOGIN ", "LOGIN"), (b"AUTHENTICATE PLAIN", "PLAIN"), (b"AUTHENTICATE LOGIN", "LOGIN")],
    tagged: true,
};

#[derive(Debug)]
struct Lines {
    words: &'static Words,
    /// In the middle of a line too long to look at, by role.
    in_long_line: super::pair::Pair<bool>,
    listed: bool,
    offered: bool,
    asked: bool,
    login: bool,
    said: bool,
}

fn lines(words: &'static Words) -> Box<dyn Parser> {
    Box::new(Lines { words, in_long_line: Default::default(), listed: false, offered: false, asked: false, login: false, said: false })
}

pub(super) fn smtp() -> Box<dyn Parser> {
    lines(&SMTP)
}

pub(super) fn ftp() -> Box<dyn Parser> {
    lines(&FTP)
}

pub(super) fn pop3() -> Box<dyn Parser> {
    lines(&POP3)
}

pub(super) fn imap() -> Box<dyn Parser> {
    lines(&IMAP)
}

impl Parser for Lines {
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        loop {
            let input = side.peek();
            let in_long_line = self.in_long_line.of_mut(from);
            if !*in_long_line && input.first() == Some(&22) {
                if input.get(1).is_some_and(|&major| major != 3) {
                    return Step::malformed(side, 0, "control byte in a line");
                }
                if input.len() < 2 {
                    return Step::More;
                }
                // The server's hello waits here until the client's has opened the way.
                if from == Role::Server {
                    return Step::More;
                }
                self.say(true, say);
                return Step::Inside(self.words.protocol);
            }
            let Some(end) = input.iter().position(|&b| b == b'\n') else {
                if input.len() > LINE {
                    *in_long_line = true;
                    side.take(input.len());
                }
                return Step::More;
            };
            let whole = !std::mem::replace(in_long_line, false) && end <= LINE;
            let line = input.get(..end).unwrap_or_default().to_ascii_uppercase();
            side.take(end + 1);
            if whole {
                match from {
                    Role::Client => self.command(line.trim_ascii(), say),
                    Role::Server => self.offered |= self.words.ask.iter().any(|word| holds(&line, word)),
                }
            }
        }
    }

    fn finish(&mut self, say: &mut Say<'_>) {
        self.say(false, say);
    }
}

impl Lines {
    fn command(&mut self, line: &[u8], say: &mut Say<'_>) {
        let command = match (self.words.tagged, line.iter().position(|&b| b == b' ')) {
            (true, Some(space)) => line.get(space + 1..).unwrap_or_default(),
            _ => line,
        };
        let begins = |word: &&[u8]| command.starts_with(word.trim_ascii_end());
        self.listed |= self.words.capabilities.iter().any(begins);
        self.asked |= self.words.ask.iter().any(begins);
        let shown = self.words.login.iter().find(|(word, _)| command.starts_with(word));
        if let Some((_, scheme)) = shown
            && !std::mem::replace(&mut self.login, true)
        {
            say.fact(Fact::ClearLogin(ClearLogin { protocol: self.words.protocol, scheme }));
        }
    }

    fn say(&mut self, started: bool, say: &mut Say<'_>) {
        if (self.listed || self.asked || started) && !std::mem::replace(&mut self.said, true) {
            let offered = (self.listed || self.offered).then_some(self.offered);
            say.fact(Fact::StartTls(StartTls { protocol: self.words.protocol, offered, asked: self.asked, started }));
        }
    }
}

fn holds(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}
