//! What is weak, and why. The words are ours: no byte of a peer gets into them.

use crate::Severity;
use glasshive_event::observation::{Certificate, Identified, SshAgreed, TlsServer};

pub(super) const TLS12: u16 = 0x0303;
pub(super) const TLS13: u16 = 0x0304;
/// Techniques of what makes the key space smaller.
const KEY_SPACE: &[&str] = &["T1600.001", "T1600"];
const OTHER: &[&str] = &["T1600"];
const MIDDLE: &[&str] = &["T1600", "T1557"];

/// One weakness.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Weakness {
    /// What part of the agreement it is in.
    pub(super) kind: &'static str,
    /// What was agreed on.
    pub(super) what: String,
    /// What is wrong with it.
    pub(super) why: &'static str,
    /// Techniques.
    pub(super) techniques: &'static [&'static str],
    /// How bad.
    pub(super) severity: Severity,
    /// How sure.
    pub(super) confidence: u8,
    /// Metric, value and the value it should have reached.
    pub(super) measure: Option<(&'static str, u32, u32)>,
}

impl Weakness {
    fn new(kind: &'static str, what: impl Into<String>, why: &'static str) -> Self {
        Self { kind, what: what.into(), why, techniques: OTHER, severity: Severity::Medium, confidence: 90, measure: None }
    }

    fn small(kind: &'static str, what: impl Into<String>, why: &'static str, measure: Option<(&'static str, u32, u32)>) -> Self {
        Self { techniques: KEY_SPACE, measure, ..Self::new(kind, what, why) }
    }

    /// Deprecated rather than broken: seen everywhere.
    fn old(self) -> Self {
        Self { severity: Severity::Low, ..self }
    }

    /// The server's random says it could have agreed on more, which the client had offered.
    pub(super) fn pushed_down(agreed: u16, offered: u16) -> Self {
        let what = format!("{} where the client offered {}", version(agreed), version(offered));
        let why = "the server marks that it can do better, so one of the two hellos was changed on the way";
        Self { techniques: MIDDLE, severity: Severity::High, confidence: 85, ..Self::new("downgrade", what, why) }
    }

    /// The server agreed on more before.
    pub(super) fn regression(before: u16, agreed: u16) -> Self {
        let what = format!("{} after {} within a day", version(agreed), version(before));
        let why = "the client offered the better version again, so the server was weakened or the hello changed on the way";
        Self { techniques: MIDDLE, severity: Severity::High, confidence: 75, ..Self::new("regression", what, why) }
    }
}

/// A version as a number that grows with it: SSL 2's is on the wire above none of the others.
pub(super) fn rank(version: u16) -> u16 {
    if version < 0x0300 { 0x0200 } else { version }
}

fn version(version: u16) -> &'static str {
    match version {
        0x0000..=0x02ff => "SSL 2",
        0x0300 => "SSL 3",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        TLS12 => "TLS 1.2",
        TLS13 => "TLS 1.3",
        _ => "a version not known",
    }
}

/// What is weak in a ServerHello and the key exchange that follows it.
pub(super) fn tls(hello: &TlsServer, bits: u32) -> Vec<Weakness> {
    let mut found = Vec::new();
    match hello.version {
        0..=0x0300 => found.push(Weakness::new("version", version(hello.version), "it is broken and forbidden (RFC 6176, RFC 7568)")),
        0x0301 | 0x0302 => found.push(Weakness::new("version", version(hello.version), "it is deprecated (RFC 8996)").old()),
        _ => {}
    }
    if hello.version >= 0x0300 {
        found.extend(suite(hello.cipher));
    }
    if let Some(have) = hello.dh_bits.filter(|have| *have < bits) {
        let what = format!("a Diffie-Hellman prime of {have} bits");
        found.push(Weakness::small("dh", what, "it is too short", Some(("dh_bits", have, bits))));
    }
    if let Some(1..=5 | 15..=19) = hello.group {
        found.push(Weakness::small("group", "an elliptic curve below 224 bits", "it is too short", None));
    }
    found
}

/// What is weak in a cipher suite (IANA's numbers).
fn suite(number: u16) -> Option<Weakness> {
    let why = match number {
        0x0000..=0x0002 | 0x002c..=0x002e | 0x003b | 0x00b0 | 0x00b1 | 0x00b4 | 0x00b5 | 0x00b8 | 0x00b9 => "it does not encrypt",
        0xc001 | 0xc006 | 0xc00b | 0xc010 | 0xc015 | 0xc039..=0xc03b | 0xc0b4 | 0xc0b5 => "it does not encrypt",
        0x0003 | 0x0006 | 0x0008 | 0x000b | 0x000e | 0x0011 | 0x0014 | 0x0017 | 0x0019 | 0x0026..=0x002b | 0x0060..=0x0065 => {
            "its keys were cut for export"
        }
        0x0018 | 0x001a | 0x001b | 0x0034 | 0x003a | 0x0046 | 0x006c | 0x006d | 0x0089 | 0x009b | 0x00a6 | 0x00a7 | 0x00bf | 0x00c5 => {
            "nobody proves who they are"
        }
        0xc016..=0xc019 => "nobody proves who they are",
        0x0004 | 0x0005 | 0x0020 | 0x0024 | 0x0066 | 0x008a | 0x008e | 0x0092 => "RC4 is broken (RFC 7465)",
        0xc002 | 0xc007 | 0xc00c | 0xc011 | 0xc033 => "RC4 is broken (RFC 7465)",
        0x0009 | 0x000c | 0x000f | 0x0012 | 0x0015 | 0x001e | 0x0022 => "DES has 56 bits",
        0x0007 | 0x0021 | 0x0025 => "IDEA works on blocks of 64 bits",
        0x000a | 0x000d | 0x0010 | 0x0013 | 0x0016 | 0x001f | 0x0023 | 0x008b | 0x008f | 0x0093 => "3DES works on blocks of 64 bits",
        0xc003 | 0xc008 | 0xc00d | 0xc012 | 0xc01a..=0xc01c | 0xc034 => "3DES works on blocks of 64 bits",
        _ => return None,
    };
    let short = why.starts_with("its keys") || why.starts_with("DES");
    let what = format!("cipher suite 0x{number:04x}");
    let weakness = if short { Weakness::small("cipher", what, why, None) } else { Weakness::new("cipher", what, why) };
    Some(if why.ends_with("blocks of 64 bits") { weakness.old() } else { weakness })
}

/// What is weak in a certificate.
pub(super) fn certificate(certificate: &Certificate, bits: u32) -> Vec<Weakness> {
    let mut found = Vec::new();
    let (have, name, wanted) = match certificate.key.as_str() {
        "rsa" => (certificate.key_bits, "RSA", bits),
        "dsa" => (certificate.key_bits, "DSA", bits),
        "ec" => (certificate.key_bits, "elliptic-curve", 224),
        _ => (u32::MAX, "", 0),
    };
    if have < wanted && have > 0 {
        let what = format!("a certificate with an {name} key of {have} bits");
        found.push(Weakness::small("key", what, "it is too short", Some(("key_bits", have, wanted))));
    }
    let signature = certificate.signature.to_ascii_lowercase();
    for (part, what) in [("md2", "MD2"), ("md4", "MD4"), ("md5", "MD5"), ("sha1", "SHA-1"), ("sha-1", "SHA-1")] {
        if signature.contains(part) {
            let weakness = Weakness::new("signature", format!("a certificate signed with {what}"), "its collisions can be made");
            found.push(if what == "SHA-1" { weakness.old() } else { weakness });
            break;
        }
    }
    found
}

/// Names of SSH's algorithms, and what is weak in them; a name ending in `*` stands for all that begin so.
static SSH: &[(&str, &str, &str)] = &[
    ("kex", "diffie-hellman-group1-sha1", "its prime has 1024 bits"),
    ("kex", "rsa1024-sha1", "its key has 1024 bits"),
    ("kex", "diffie-hellman-group14-sha1", "SHA-1's collisions can be made"),
    ("kex", "diffie-hellman-group-exchange-sha1", "SHA-1's collisions can be made"),
    ("kex", "gss-group1-sha1-*", "its prime has 1024 bits"),
    ("host_key", "ssh-dss", "its key has 1024 bits"),
    ("host_key", "ssh-rsa", "it signs with SHA-1"),
    ("cipher", "none", "it does not encrypt"),
    ("cipher", "des-cbc*", "DES has 56 bits"),
    ("cipher", "3des-*", "3DES works on blocks of 64 bits"),
    ("cipher", "blowfish-*", "Blowfish works on blocks of 64 bits"),
    ("cipher", "cast128-*", "CAST-128 works on blocks of 64 bits"),
    ("cipher", "idea-*", "IDEA works on blocks of 64 bits"),
    ("cipher", "arcfour*", "RC4 is broken"),
    ("mac", "none", "nothing protects against change"),
    ("mac", "hmac-md5*", "MD5 is broken"),
    ("mac", "hmac-sha1-96*", "its tags are cut to 96 bits"),
];

/// What is weak in what SSH's sides agreed on.
pub(super) fn ssh(agreed: &SshAgreed) -> Vec<Weakness> {
    let mut found: Vec<Weakness> = Vec::new();
    let line = agreed.server.to_bytes();
    if line.starts_with(b"SSH-1.") && !line.starts_with(b"SSH-1.99") {
        found.push(Weakness::new("ssh", "SSH 1", "it is broken"));
    }
    let names = [("kex", &agreed.kex), ("host_key", &agreed.host_key)]
        .into_iter()
        .chain(agreed.ciphers.iter().map(|name| ("cipher", name)))
        .chain(agreed.macs.iter().map(|name| ("mac", name)));
    for (kind, name) in names {
        let row =
            SSH.iter().find(|(of, known, _)| *of == kind && known.strip_suffix('*').map_or(known == name, |begin| name.starts_with(begin)));
        let Some((kind, known, why)) = row else { continue };
        let what = format!("{} {}", kind.replace('_', " "), known.trim_end_matches(['*', '-']));
        let weakness = if why.contains("1024") || why.contains("56") {
            Weakness::small(kind, what, why, None)
        } else {
            Weakness::new(kind, what, why)
        };
        let weakness = if why.contains("SHA-1") || why.ends_with("blocks of 64 bits") { weakness.old() } else { weakness };
        if !found.contains(&weakness) {
            found.push(weakness);
        }
    }
    found
}

/// Protocols whose own encryption is weak. A client that knows SMB 2 asks for it in the form of SMB 1,
/// so the answer decides.
pub(super) fn spoken(identified: &Identified) -> Vec<Weakness> {
    let [_, answer] = &identified.samples;
    match identified.protocol {
        "smb1" if answer.get(8..16) == Some("ff534d42") => {
            vec![Weakness::new("protocol", "SMB 1", "it does not encrypt, and signs with MD5").old()]
        }
        _ => Vec::new(),
    }
}
