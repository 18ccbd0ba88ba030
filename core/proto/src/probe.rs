//! The first-bytes probe: names a protocol by content, never by port.
//!
//! Each protocol is one line of [`TABLE`] and one check function, which answers [`Verdict::Certain`]
//! only for bytes nothing else known to us would send first. It must never be asked to decide what a
//! service does; it explains malformed input and misplaced protocols.
//!
//! What is inferred, and the known misses: only the first bytes of one direction are seen, so
//! protocols whose client waits for the server (SMTP, FTP, POP3, IMAP, MySQL) are named by their
//! first command; `USER x` alone is FTP or POP3 and stays unsure; lower-case commands stay unsure
//! because prose looks like them.

mod binary;
mod text;

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

const fn def(name: &'static str, check: fn(&[u8]) -> Verdict) -> ProbeDef {
    ProbeDef { name, check }
}

/// All protocols known; on a tie the earlier wins.
pub static TABLE: &[ProbeDef] = &[
    def("tls", binary::tls),
    def("ssh", text::ssh),
    def("proxy", text::proxy),
    def("http2", text::http2),
    def("http", text::http),
    def("rtsp", text::rtsp),
    def("sip", text::sip),
    def("rdp", binary::rdp),
    def("iso-tsap", binary::iso_tsap),
    def("smb1", binary::smb1),
    def("smb2", binary::smb2),
    def("netbios-session", binary::netbios_session),
    def("dcerpc", binary::dcerpc),
    def("smtp", text::smtp),
    def("ftp", text::ftp),
    def("pop3", text::pop3),
    def("imap", text::imap),
    def("irc", text::irc),
    def("telnet", binary::telnet),
    def("mysql", binary::mysql),
    def("postgres", binary::postgres),
    def("mssql", binary::mssql),
    def("oracle-tns", binary::oracle_tns),
    def("mongodb", binary::mongodb),
    def("redis", text::redis),
    def("memcached", text::memcached),
    def("ldap", binary::ldap),
    def("kerberos", binary::kerberos),
    def("snmp", binary::snmp),
    def("dns", binary::dns),
    def("mqtt", binary::mqtt),
    def("amqp", text::amqp),
    def("socks4", binary::socks4),
    def("socks5", binary::socks5),
    def("vnc", text::vnc),
    def("x11", binary::x11),
    def("adb", binary::adb),
    def("modbus", binary::modbus),
    def("ajp", binary::ajp),
    def("java-rmi", text::java_rmi),
    def("bittorrent", text::bittorrent),
    def("git", text::git),
    def("rsync", text::rsync),
    def("stratum", text::stratum),
];

/// Names the protocol of the first bytes of one direction of a stream.
pub fn probe(first: &[u8]) -> Probe {
    let first = first.get(..LOOKED_AT).unwrap_or(first);
    let mut only = None;
    let mut unsure = 0_usize;
    for ProbeDef { name, check } in TABLE {
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
