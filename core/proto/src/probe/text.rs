//! Checks of protocols whose first bytes are text, or start with a fixed string.

use super::Verdict::{Certain, NotForUs, Unsure};
use super::{Seen, Verdict, prefix, verdict};

pub(super) fn ssh(first: &[u8]) -> Verdict {
    match (prefix(first, b"SSH-2."), prefix(first, b"SSH-1.")) {
        (NotForUs, other) | (other, _) => other,
    }
}

/// PROXY protocol, both versions.
pub(super) fn proxy(first: &[u8]) -> Verdict {
    let one = |family: &[u8]| prefix(first, &[b"PROXY ", family].concat());
    best(&[one(b"TCP4 "), one(b"TCP6 "), one(b"UNKNOWN"), prefix(first, &crate::proxy::SIGNATURE)])
}

pub(super) fn http2(first: &[u8]) -> Verdict {
    prefix(first, b"PRI * HTTP/2.0\r\n")
}

pub(super) fn amqp(first: &[u8]) -> Verdict {
    best(&[prefix(first, b"AMQP\0\0\x09"), prefix(first, b"AMQP\0\x01\0\0"), prefix(first, b"AMQP\x03\x01\0\0")])
}

pub(super) fn vnc(first: &[u8]) -> Verdict {
    matched(first, b"RFB ###.###\n")
}

pub(super) fn java_rmi(first: &[u8]) -> Verdict {
    let one = |kind| prefix(first, &[b'J', b'R', b'M', b'I', 0, 2, kind]);
    best(&[one(0x4b), one(0x4c), one(0x4d)])
}

pub(super) fn bittorrent(first: &[u8]) -> Verdict {
    prefix(first, b"\x13BitTorrent protocol")
}

pub(super) fn rsync(first: &[u8]) -> Verdict {
    matched(first, b"@RSYNCD: #")
}

/// A pkt-line asking for a service of git's own protocol.
pub(super) fn git(first: &[u8]) -> Verdict {
    let (length, rest) = first.split_at_checked(4).unwrap_or((first, &[]));
    if !length.iter().all(u8::is_ascii_hexdigit) {
        return NotForUs;
    }
    best(&[prefix(rest, b"git-upload-pack /"), prefix(rest, b"git-receive-pack /"), prefix(rest, b"git-upload-archive /")])
}

/// Mining pools' JSON lines.
pub(super) fn stratum(first: &[u8]) -> Verdict {
    const CALLS: &[&[u8]] = &[b"\"mining.", b"\"eth_submitLogin\"", b"\"method\":\"login\"", b"\"method\": \"login\""];
    match first.first() {
        Some(b'{') if CALLS.iter().any(|call| contains(first, call)) => Certain,
        Some(b'{') | None => Unsure,
        Some(_) => NotForUs,
    }
}

/// Methods common enough to name HTTP before its version is seen.
const HTTP_METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
];

/// A request line with an HTTP/1 version, `GET /path` alone (HTTP/0.9), or a status line.
pub(super) fn http(first: &[u8]) -> Verdict {
    if first.starts_with(b"HTTP") || first.is_empty() {
        return best(&[matched(first, b"HTTP/1.# ###"), matched(first, b"HTTP/0.9 ###")]);
    }
    let (line, complete) = line_of(first);
    let Some((method, target)) = split_word(line) else {
        let method = line.iter().all(|&b| b.is_ascii_uppercase() || b == b'-' || b == b'_') && line.len() <= 24;
        return if method && !complete { Unsure } else { NotForUs };
    };
    if method.is_empty() || method.len() > 24 || !method.iter().all(|&b| b.is_ascii_uppercase() || b == b'-' || b == b'_') {
        return NotForUs;
    }
    if line.iter().any(|&b| b < b' ' && b != b'\t' || b == 0x7f) {
        return NotForUs;
    }
    if complete {
        return match last_word(line) {
            b"HTTP/1.0" | b"HTTP/1.1" => Certain,
            target if method == b"GET" && target.starts_with(b"/") && line.len() == 4 + target.len() => Certain,
            _ => NotForUs,
        };
    }
    // Other protocols share the form `METHOD target VERSION`.
    if [b"rtsp:".as_slice(), b"sip:", b"sips:", b"tel:"].iter().any(|scheme| target.starts_with(scheme)) || contains(line, b" RTSP/") {
        return NotForUs;
    }
    let path = target.starts_with(b"/") || target.starts_with(b"http");
    if target.is_empty() || path || HTTP_METHODS.contains(&method) || contains(line, b" HTTP/1.") { Unsure } else { NotForUs }
}

pub(super) fn rtsp(first: &[u8]) -> Verdict {
    versioned(first, b"RTSP/1.0", &[b"rtsp://", b"rtspu://"])
}

pub(super) fn sip(first: &[u8]) -> Verdict {
    versioned(first, b"SIP/2.0", &[b"sip:", b"sips:"])
}

/// `METHOD scheme… VERSION`, or a status line of that version.
fn versioned(first: &[u8], version: &[u8], schemes: &[&[u8]]) -> Verdict {
    let answer = prefix(first, &[version, b" "].concat());
    if answer != NotForUs {
        return answer;
    }
    let (line, complete) = line_of(first);
    let Some((method, target)) = split_word(line) else {
        return if line.iter().all(|&b| b.is_ascii_uppercase() || b == b'_') && line.len() <= 16 && !complete { Unsure } else { NotForUs };
    };
    if method.is_empty() || method.len() > 16 || !method.iter().all(|&b| b.is_ascii_uppercase() || b == b'_') {
        return NotForUs;
    }
    if complete && last_word(line) == version {
        return Certain;
    }
    if complete {
        return NotForUs;
    }
    match best(&schemes.iter().map(|scheme| prefix(target, scheme)).collect::<Vec<_>>()) {
        NotForUs if target.starts_with(b"*") => Unsure,
        other => other,
    }
}

/// How a command line must go on after its verb.
enum Then {
    /// Anything after a space.
    Words,
    /// The end of the line.
    End,
}
use Then::{End, Words};

pub(super) fn smtp(first: &[u8]) -> Verdict {
    let table = [("EHLO ", Words), ("HELO ", Words), ("LHLO ", Words), ("MAIL FROM:", Words), ("RCPT TO:", Words)];
    commands(first, &table, &["QUIT", "NOOP", "HELP", "RSET", "STARTTLS", "AUTH LOGIN", "AUTH PLAIN", "VRFY ", "EXPN "])
}

pub(super) fn ftp(first: &[u8]) -> Verdict {
    let table = [
        ("PASV", End),
        ("EPSV", End),
        ("SYST", End),
        ("FEAT", End),
        ("AUTH TLS", End),
        ("TYPE I", End),
        ("TYPE A", End),
        ("USER anonymous", End),
        ("USER ftp", End),
        ("OPTS UTF8", Words),
    ];
    commands(
        first,
        &table,
        &["USER ", "PASS ", "QUIT", "NOOP", "HELP", "LIST", "RETR ", "STOR ", "CWD ", "PWD", "PORT ", "PBSZ 0", "SITE "],
    )
}

pub(super) fn pop3(first: &[u8]) -> Verdict {
    let table = [("APOP ", Words), ("STLS", End), ("CAPA", End), ("UIDL", End)];
    commands(first, &table, &["USER ", "PASS ", "QUIT", "NOOP", "LIST", "RETR ", "STAT", "DELE ", "TOP "])
}

pub(super) fn irc(first: &[u8]) -> Verdict {
    let table = [("CAP LS", Words), ("CAP REQ :", Words)];
    let by_command = commands(first, &table, &["NICK ", "PASS ", "USER ", "PING ", "JOIN #"]);
    // NICK and USER together, in either order, are IRC; each alone could be prose or FTP.
    let nick = first.starts_with(b"NICK ") && contains(first, b"\nUSER ");
    let user = first.starts_with(b"USER ") && contains(first, b"\nNICK ");
    // So is USER with its four parameters, the last one after a colon.
    let (line, complete) = line_of(first);
    let four = complete && line.starts_with(b"USER ") && line.split(|&b| b == b' ').nth(4).is_some_and(|word| word.starts_with(b":"));
    if (nick || user || four) && by_command == Unsure { Certain } else { by_command }
}

/// `certain` commands in upper case name the protocol; `unsure` ones, or lower case, only allow it.
fn commands(first: &[u8], certain: &[(&str, Then)], unsure: &[&str]) -> Verdict {
    if first.is_empty() {
        return Unsure;
    }
    let (line, complete) = line_of(first);
    let mut result = NotForUs;
    for (command, then) in certain {
        let answer = match (prefix(line, command.as_bytes()), then) {
            (Certain, End) if complete && line.len() == command.len() => Certain,
            (Certain, End) if !complete && line.len() == command.len() => Unsure,
            (Certain, End) => NotForUs,
            // The rest of the line must look like a line.
            (Certain, Words) if line.iter().any(|&b| b < b' ' && b != b'\t') => NotForUs,
            (Certain, Words) => Certain,
            (Unsure, _) if complete => NotForUs,
            (other, _) => other,
        };
        result = best(&[result, answer]);
    }
    if result == NotForUs {
        let lower = certain.iter().map(|(command, _)| *command).chain(unsure.iter().copied());
        let allowed = lower.into_iter().any(|command| begins_ignoring_case(line, command.as_bytes(), complete));
        return if allowed { Unsure } else { NotForUs };
    }
    result
}

/// `tag VERB …`, the tag being one character or holding a digit, as clients make them.
pub(super) fn imap(first: &[u8]) -> Verdict {
    const VERBS: &[&[u8]] =
        &[b"CAPABILITY", b"LOGIN", b"AUTHENTICATE", b"STARTTLS", b"LOGOUT", b"NOOP", b"ID", b"SELECT", b"EXAMINE", b"NAMESPACE", b"LIST"];
    const CERTAIN: &[&[u8]] = &[b"CAPABILITY", b"LOGIN", b"AUTHENTICATE", b"STARTTLS", b"LOGOUT", b"NOOP"];
    let (line, complete) = line_of(first);
    let tag_byte = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.';
    let Some((tag, rest)) = split_word(line) else {
        return if !complete && line.len() <= 16 && line.iter().all(tag_byte) { Unsure } else { NotForUs };
    };
    let plausible =
        !tag.is_empty() && tag.len() <= 16 && tag.iter().all(tag_byte) && (tag.len() == 1 || tag.iter().any(u8::is_ascii_digit));
    if !plausible {
        return NotForUs;
    }
    let (verb, arguments) = split_word(rest).map_or((rest, None), |(verb, rest)| (verb, Some(rest)));
    let ended = complete || arguments.is_some();
    if ended && CERTAIN.contains(&verb) && complete {
        return Certain;
    }
    let lower = verb.to_ascii_uppercase();
    let allowed = VERBS.iter().any(|v| if ended { **v == lower } else { v.starts_with(&lower) });
    if allowed { Unsure } else { NotForUs }
}

/// A RESP array of bulk strings, or an inline command only redis knows.
pub(super) fn redis(first: &[u8]) -> Verdict {
    if first.first() == Some(&b'*') {
        return verdict(resp(first));
    }
    let table =
        [("CONFIG GET ", Words), ("CONFIG SET ", Words), ("SLAVEOF ", Words), ("REPLICAOF ", Words), ("FLUSHALL", End), ("KEYS *", End)];
    commands(first, &table, &["PING", "INFO", "AUTH ", "CLIENT ", "COMMAND", "SET ", "GET ", "QUIT", "ECHO ", "SAVE", "EVAL ", "PUBLISH "])
}

fn resp(first: &[u8]) -> Seen {
    let mut rest = first.get(1..)?;
    for mark in [b'$', 0] {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 7 {
            return Some(NotForUs);
        }
        let after = rest.get(digits..)?;
        if digits == 0 && !after.is_empty() {
            return Some(NotForUs);
        }
        let end = [b'\r', b'\n', mark];
        let want = if mark == 0 { end.get(..2)? } else { end.as_slice() };
        match prefix(after, want) {
            Certain if digits > 0 => rest = after.get(want.len()..)?,
            Certain | NotForUs => return Some(NotForUs),
            Unsure => return None,
        }
    }
    Some(Certain)
}

/// Storage commands with their three numbers, or statistics; the binary protocol is checked apart.
pub(super) fn memcached(first: &[u8]) -> Verdict {
    if first.first() == Some(&0x80) {
        return verdict(super::binary::memcached(first));
    }
    let (line, complete) = line_of(first);
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').take(7).collect();
    let number = |word: &&[u8]| !word.is_empty() && word.len() <= 10 && word.iter().all(|b| b.is_ascii_digit() || *b == b'-');
    const STORE: &[&[u8]] = &[b"set", b"add", b"replace", b"append", b"prepend", b"cas"];
    match words.as_slice() {
        [verb, key, numbers @ ..] if STORE.contains(verb) && key.len() <= 250 => {
            let numeric = numbers.iter().take(3).filter(|w| number(w)).count();
            if complete {
                if numbers.len() >= 3 && numeric == 3 { Certain } else { NotForUs }
            } else if numeric >= numbers.len().saturating_sub(1).min(3) {
                Unsure
            } else {
                NotForUs
            }
        }
        [b"stats" | b"flush_all"] if complete => Certain,
        [b"stats", b"items" | b"slabs" | b"settings" | b"sizes" | b"cachedump", ..] if complete => Certain,
        _ => {
            const ALLOWED: &[&[u8]] = &[
                b"get ",
                b"gets ",
                b"gat ",
                b"delete ",
                b"incr ",
                b"decr ",
                b"touch ",
                b"version",
                b"stats",
                b"flush_all",
                b"verbosity ",
                b"quit",
            ];
            let store = STORE.iter().any(|verb| !complete && verb.starts_with(line));
            let allowed = ALLOWED.iter().any(|command| match prefix(line, command) {
                Certain => true,
                Unsure => !complete,
                NotForUs => false,
            });
            if allowed || store { Unsure } else { NotForUs }
        }
    }
}

/// The first line without its end, and whether its end is there.
pub(super) fn line_of(first: &[u8]) -> (&[u8], bool) {
    match first.iter().position(|&b| b == b'\n') {
        Some(end) => {
            let line = first.get(..end).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), true)
        }
        None => (first.strip_suffix(b"\r").unwrap_or(first), false),
    }
}

/// What stands before and after the first space.
fn split_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|&b| b == b' ')?;
    Some((line.get(..space)?, line.get(space.saturating_add(1)..)?))
}

fn last_word(line: &[u8]) -> &[u8] {
    line.trim_ascii_end().rsplit(|&b| b == b' ').next().unwrap_or_default()
}

pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// [`prefix`] where `#` stands for a digit.
pub(super) fn matched(first: &[u8], pattern: &[u8]) -> Verdict {
    let differs = |(&byte, &want): (&u8, &u8)| if want == b'#' { !byte.is_ascii_digit() } else { byte != want };
    if first.iter().zip(pattern).any(differs) {
        NotForUs
    } else if first.len() >= pattern.len() {
        Certain
    } else {
        Unsure
    }
}

/// Whether a line can begin with `command`, case aside; a complete line must hold all of it, and a
/// command that ends in a letter must end there as a word.
fn begins_ignoring_case(line: &[u8], command: &[u8], complete: bool) -> bool {
    let both = line.len().min(command.len());
    let same = line.get(..both).unwrap_or_default().eq_ignore_ascii_case(command.get(..both).unwrap_or_default());
    let word = !command.last().is_some_and(u8::is_ascii_alphanumeric) || line.get(command.len()).is_none_or(|&b| b == b' ');
    same && word && (line.len() >= command.len() || !complete)
}

/// The strongest of several answers.
fn best(answers: &[Verdict]) -> Verdict {
    if answers.contains(&Certain) {
        Certain
    } else if answers.contains(&Unsure) {
        Unsure
    } else {
        NotForUs
    }
}
