//! The first-bytes probe: names a protocol by content, never by port.
//!
//! Each protocol is one line of [`TABLE`]: a check of the one who asks, which says [`Verdict::Certain`]
//! only for bytes nothing else known to us would send first, and one of the one who answers.
//! Datagrams, which are whole, have their own table ([`DATAGRAMS`]). It must never be asked to decide what a
//! service does; it explains malformed input and misplaced protocols.
//!
//! What is inferred, and the known misses: only the first bytes of one direction are seen, so
//! protocols whose client waits for the server (SMTP, FTP, POP3, IMAP, MySQL) are named by their
//! first command; `USER x` alone is FTP or POP3 and stays unsure; lower-case commands stay unsure
//! because prose looks like them.

mod answer;
mod binary;
mod datagram;
mod text;

pub use datagram::{DATAGRAMS, DatagramDef, datagram};

/// What a check says about the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// These bytes are this protocol.
    Certain,
    /// They may be; more bytes, or nothing at all, would tell.
    Unsure,
    /// No continuation makes them this protocol.
    NotForUs,
}

/// One protocol of the table.
#[derive(Debug, Clone, Copy)]
pub struct ProbeDef {
    /// Name, as events carry it.
    pub name: &'static str,
    /// Looks at the first bytes of one direction.
    pub check: fn(&[u8]) -> Verdict,
    /// Looks at the first bytes of the one who was asked.
    pub answer: fn(&[u8]) -> Fit,
}

/// Whether bytes are an answer in a protocol that the other side speaks, or may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Nobody who speaks the protocol answers so.
    No,
    /// More bytes would tell.
    More,
    /// It is an answer in the protocol, but others answer so too.
    Fits,
    /// Only this protocol answers so: the bytes name it without the other side.
    Names,
}

impl ProbeDef {
    /// Whether `asked` is what a client of this protocol sends first, as far as an answer in it would
    /// settle the rest: certain, or possible with a whole line or eight bytes there.
    pub fn may_ask(&self, asked: &[u8]) -> bool {
        match (self.check)(asked) {
            Verdict::Certain => true,
            Verdict::Unsure => asked.len() >= 8 || asked.contains(&b'\n'),
            Verdict::NotForUs => false,
        }
    }
}

/// The table's line of that name.
pub fn definition(name: &str) -> Option<&'static ProbeDef> {
    TABLE.iter().find(|def| def.name == name)
}

/// The protocol that only the answer of the one who was asked names.
pub fn answer(first: &[u8]) -> Option<&'static ProbeDef> {
    let first = first.get(..LOOKED_AT).unwrap_or(first);
    TABLE.iter().find(|def| (def.answer)(first) == Fit::Names)
}

/// The only protocol in which `asked` may be a request and `answered` is an answer.
pub fn pair(asked: &[u8], answered: &[u8]) -> Option<&'static ProbeDef> {
    let mut fitting = TABLE.iter().filter(|def| matches!((def.answer)(answered), Fit::Fits | Fit::Names) && def.may_ask(asked));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// What the table says together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The protocol: certain, or the only candidate left.
    pub protocol: Option<&'static str>,
    /// Certain; unsure while candidates remain; not for us when none does.
    pub verdict: Verdict,
}

/// How many first bytes are looked at.
pub const LOOKED_AT: usize = 4_096;

const fn def(name: &'static str, check: fn(&[u8]) -> Verdict, answer: fn(&[u8]) -> Fit) -> ProbeDef {
    ProbeDef { name, check, answer }
}

/// All protocols known; on a tie the earlier wins.
pub static TABLE: &[ProbeDef] = &[
    def("tls", binary::tls, answer::tls),
    def("ssh", text::ssh, answer::ssh),
    def("proxy", text::proxy, answer::none),
    def("http2", text::http2, answer::http2),
    def("http", text::http, answer::http),
    def("rtsp", text::rtsp, answer::rtsp),
    def("sip", text::sip, answer::sip),
    def("rdp", binary::rdp, answer::rdp),
    def("iso-tsap", binary::iso_tsap, answer::rdp),
    def("smb1", binary::smb1, answer::smb1),
    def("smb2", binary::smb2, answer::smb2),
    def("netbios-session", binary::netbios_session, answer::netbios_session),
    def("dcerpc", binary::dcerpc, answer::dcerpc),
    def("smtp", text::smtp, answer::smtp),
    def("ftp", text::ftp, answer::ftp),
    def("pop3", text::pop3, answer::pop3),
    def("imap", text::imap, answer::imap),
    def("irc", text::irc, answer::irc),
    def("telnet", binary::telnet, answer::telnet),
    def("mysql", binary::mysql, answer::mysql),
    def("postgres", binary::postgres, answer::postgres),
    def("mssql", binary::mssql, answer::mssql),
    def("oracle-tns", binary::oracle_tns, answer::oracle_tns),
    def("mongodb", binary::mongodb, answer::mongodb),
    def("redis", text::redis, answer::redis),
    def("memcached", text::memcached, answer::memcached),
    def("ldap", binary::ldap, answer::ldap),
    def("kerberos", binary::kerberos, answer::kerberos),
    def("snmp", binary::snmp, answer::snmp),
    def("dns", binary::dns, answer::dns),
    def("mqtt", binary::mqtt, answer::mqtt),
    def("amqp", text::amqp, answer::amqp),
    def("socks4", binary::socks4, answer::socks4),
    def("socks5", binary::socks5, answer::socks5),
    def("vnc", text::vnc, answer::vnc),
    def("x11", binary::x11, answer::x11),
    def("adb", binary::adb, answer::adb),
    def("modbus", binary::modbus, answer::modbus),
    def("ajp", binary::ajp, answer::ajp),
    def("java-rmi", text::java_rmi, answer::java_rmi),
    def("bittorrent", text::bittorrent, answer::bittorrent),
    def("git", text::git, answer::git),
    def("rsync", text::rsync, answer::rsync),
    def("stratum", text::stratum, answer::stratum),
];

/// Names the protocol of the first bytes of one direction of a stream.
pub fn probe(first: &[u8]) -> Probe {
    let first = first.get(..LOOKED_AT).unwrap_or(first);
    let mut only = None;
    let mut unsure = 0_usize;
    for ProbeDef { name, check, .. } in TABLE {
        match check(first) {
            Verdict::Certain => return Probe { protocol: Some(name), verdict: Verdict::Certain },
            Verdict::Unsure => {
                unsure = unsure.saturating_add(1);
                only = Some(*name);
            }
            Verdict::NotForUs => {}
        }
    }
    match unsure {
        0 => Probe { protocol: None, verdict: Verdict::NotForUs },
        1 => Probe { protocol: only, verdict: Verdict::Unsure },
        _ => Probe { protocol: None, verdict: Verdict::Unsure },
    }
}

/// A check's answer while it reads: `None` when the bytes end before it can tell.
type Seen = Option<Verdict>;

/// The answer of a check that may have run out of bytes.
fn verdict(seen: Seen) -> Verdict {
    seen.unwrap_or(Verdict::Unsure)
}

/// Compares with fixed first bytes.
fn prefix(first: &[u8], expected: &[u8]) -> Verdict {
    if first.iter().zip(expected).any(|(a, b)| a != b) {
        Verdict::NotForUs
    } else if first.len() >= expected.len() {
        Verdict::Certain
    } else {
        Verdict::Unsure
    }
}

#[cfg(test)]
#[path = "probe/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "probe/answer_tests.rs"]
mod answer_tests;
