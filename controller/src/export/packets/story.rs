//! From the objects of an export answer to what is derived: connections with their bytes at their
//! times, key-log lines, names, and what is said of which packets.
//!
//! Details come from nodes and with them from visitors: everything is parsed with bounds, and what
//! makes no sense is counted in the notes, never an error. The same objects give the same story.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::detail::{Command, Forward, Hello, Stream};
use glasshive_event::text::{escape, escape_bytes, hex};
use glasshive_event::{PacketMatch, PacketScope, Timestamp, Tuple, WireText};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Packets may come this much before a session's open and after its close.
const SLACK_NS: i64 = 5_000_000_000;
/// Most stream bytes of one export.
const MAX_BYTES: usize = 128 << 20;
/// Most text said of one packet.
const MAX_COMMENTS: usize = 128 << 10;
/// Longest text of one comment, name or summary.
const MAX_TEXT: usize = 8 << 10;
/// Port of derived shells: the only clear-text terminal protocol every tool knows.
pub(super) const SHELL_PORT: u16 = 23;

/// One end of a derived connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// Its address.
    At(IpAddr),
    /// A name, which gets an address of the derived range, of the other end's family.
    Named(String),
}

/// Bytes of one direction at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at_ns: i64,
    /// From the visitor.
    pub(super) inbound: bool,
    /// Place of the first byte in its direction.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// What to say of it.
    pub(super) comments: Vec<String>,
}

/// A channel as the connection it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// Session id and channel: its identity.
    pub(super) key: (String, u32),
    pub(super) client: Host,
    pub(super) server: Host,
    pub(super) port: u16,
    /// In words, for the comment on each of its packets.
    pub(super) about: String,
    pub(super) open_ns: i64,
    pub(super) close_ns: i64,
    /// In order of time; each direction in order of offset.
    pub(super) pieces: Vec<Piece>,
}

impl Default for Connection {
    fn default() -> Self {
        let none = Host::Named(String::new());
        let (key, about, pieces) = (<(String, u32)>::default(), String::new(), Vec::new());
        Self { key, client: none.clone(), server: none, port: 0, about, open_ns: 0, close_ns: 0, pieces }
    }
}

/// What is said of the first packet of each flow that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) scope: PacketScope,
    pub(super) text: String,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) connections: Vec<Connection>,
    /// Lines of the NSS key-log format, each ended by LF.
    pub(super) keylog: String,
    pub(super) names: Vec<(IpAddr, String)>,
    pub(super) marks: Vec<Mark>,
    /// Records it was made of, for the manifest.
    pub(super) records: Value,
    /// Findings with their versions, for the manifest.
    pub(super) findings: Vec<Value>,
    pub(super) notes: Vec<String>,
}

#[derive(Default)]
struct Session {
    decoy: String,
    service: String,
    ends: Option<(SocketAddr, SocketAddr)>,
    is_ssh: bool,
    channels: BTreeMap<u32, Channel>,
    /// Commands without a channel of their own, for whoever carries this session.
    commands: Vec<(i64, Vec<u8>)>,
}

#[derive(Default)]
struct Channel {
    role: String,
    pieces: Vec<Piece>,
    /// When each was given, and its text.
    commands: Vec<(i64, Vec<u8>)>,
    forward: Option<(i64, Forward)>,
}

/// Gathers the objects.
#[derive(Default)]
pub(super) struct Gather {
    sessions: BTreeMap<String, Session>,
    marks: Vec<Mark>,
    names: BTreeMap<IpAddr, String>,
    keylog: BTreeSet<String>,
    keylog_order: Vec<String>,
    /// (node, log) → seq → hash of the record.
    records: BTreeMap<(String, String), BTreeMap<u64, String>>,
    findings: Vec<Value>,
    bytes: usize,
    cut: u64,
    unread: u64,
    bad_lines: u64,
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn nanoseconds(item: &Value, key: &str) -> Option<i64> {
    i64::try_from(text(item, key).parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

fn address(item: &Value, key: &str) -> Option<SocketAddr> {
    let end = item.get(key)?;
    let port = u16::try_from(end.get("port")?.as_u64()?).ok()?;
    Some(SocketAddr::new(end.get("ip")?.as_str()?.parse().ok()?, port))
}

/// Inert, on one line, of bounded length.
fn clipped(text: &str) -> String {
    let mut out = escape(text);
    if out.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
        out.truncate(end);
        out.push('…');
    }
    out
}

impl Gather {
    /// Takes an object of the answer; kinds it does not know say nothing.
    pub(super) fn item(&mut self, item: &Value) {
        match text(item, "type") {
            "session" | "child" => self.session(item),
            "event" => self.event(item),
            "finding" => self.finding(item),
            "keylog" => self.keylog(text(item, "lines")),
            _ => {}
        }
    }

    fn session(&mut self, item: &Value) {
        let id = text(item, "session").to_owned();
        // What came over the wire, not what a proxy claims.
        let source = address(item, "wire_source").or_else(|| address(item, "source"));
        let destination = address(item, "destination");
        let entry = self.sessions.entry(id.clone()).or_default();
        entry.decoy = text(item, "decoy").to_owned();
        entry.service = text(item, "service").to_owned();
        entry.is_ssh |= entry.service == "ssh";
        entry.ends = source.zip(destination);
        let (Some((source, destination)), Some(open)) = (entry.ends, nanoseconds(item, "open")) else { return };
        if !entry.decoy.is_empty() {
            self.names.entry(destination.ip()).or_insert_with(|| clipped(&entry.decoy));
        }
        if item.get("in_process").and_then(Value::as_bool) == Some(true) {
            return;
        }
        let protocol = if text(item, "transport") == "udp" { 17 } else { 6 };
        let close = nanoseconds(item, "close").or_else(|| nanoseconds(item, "last")).unwrap_or(open);
        let (since, until) = (Timestamp(open.saturating_sub(SLACK_NS)), Timestamp(close.saturating_add(SLACK_NS)));
        let wire = Tuple { source: source.into(), destination: destination.into() };
        let scope = PacketScope(vec![PacketMatch::tuple(protocol, wire, since, until)]);
        let text = clipped(&format!("session {id}, decoy {}, service {}", entry.decoy, entry.service));
        self.marks.push(Mark { scope, text });
    }

    fn finding(&mut self, item: &Value) {
        let scope: PacketScope = item.get("scope").and_then(|scope| serde_json::from_value(scope.clone()).ok()).unwrap_or_default();
        let techniques: Vec<&str> =
            item.get("techniques").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let (id, detector) = (text(item, "finding"), text(item, "detector"));
        let version = item.get("version").cloned().unwrap_or(Value::Null);
        let words = format!("finding {id}, {detector} version {version}, {}: {}", techniques.join(" "), text(item, "summary"));
        self.marks.push(Mark { scope, text: clipped(&words) });
        self.findings.push(json!({"finding": id, "detector": detector, "version": version, "techniques": techniques}));
    }

    /// Lines that are none of a key log are left out: a line more could break the block for every tool.
    fn keylog(&mut self, lines: &str) {
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let mut words = line.split(' ');
            let label =
                words.next().is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
            let hexadecimal =
                |word: Option<&str>| word.is_some_and(|w| !w.is_empty() && w.len() <= 512 && w.bytes().all(|b| b.is_ascii_hexdigit()));
            let good = label && hexadecimal(words.next()) && hexadecimal(words.next()) && words.next().is_none();
            if !good {
                self.bad_lines += 1;
            } else if self.keylog.insert(line.to_owned()) {
                self.keylog_order.push(line.to_owned());
            }
        }
    }

    fn event(&mut self, item: &Value) {
        let log = (text(item, "node").to_owned(), text(item, "log").to_owned());
        if let Some(seq) = item.get("seq").and_then(Value::as_u64) {
            self.records.entry(log).or_default().insert(seq, text(item, "record_sha256").to_owned());
        }
        let Some(detail) = item.get("detail") else { return };
        let Some(at_ns) = nanoseconds(item, "time") else { return };
        let kind = text(item, "kind");
        let session = self.sessions.entry(text(item, "session").to_owned()).or_default();
        let understood = match kind {
            "stream" => match serde_json::from_value::<Stream>(detail.clone()) {
                Ok(stream) => {
                    let (bytes, cut, whole) = session.stream(stream, at_ns, MAX_BYTES.saturating_sub(self.bytes));
                    self.bytes += bytes;
                    self.cut += cut;
                    whole
                }
                Err(_) => false,
            },
            "command" => match serde_json::from_value::<Command>(detail.clone()) {
                Ok(command) => {
                    let took = i64::try_from(command.took_ns.unwrap_or(0)).unwrap_or(0);
                    let given = (at_ns.saturating_sub(took), command.input.to_bytes());
                    self.bytes += given.1.len();
                    if let Some(channel) = command.channel {
                        session.channels.entry(channel).or_default().commands.push(given.clone());
                    }
                    session.commands.push(given);
                    true
                }
                Err(_) => false,
            },
            "forward" => match serde_json::from_value::<Forward>(detail.clone()) {
                Ok(forward) => {
                    if let Some(channel) = forward.channel {
                        session.channels.entry(channel).or_default().forward = Some((at_ns, forward));
                    }
                    true
                }
                Err(_) => false,
            },
            "hello" => match serde_json::from_value::<Hello>(detail.clone()) {
                Ok(hello) => {
                    session.is_ssh |= hello.protocol == "ssh";
                    true
                }
                Err(_) => false,
            },
            _ => true,
        };
        self.unread += u64::from(!understood);
    }

    /// Puts it together.
    pub(super) fn finish(mut self) -> Story {
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(self.cut, "stream bytes are over the limit of one export and were left out of the derived connections");
        note(self.unread, "records could not be read whole and are missing or cut in the derived connections");
        note(self.bad_lines, "lines of sealed key logs are no key-log lines and were left out");
        let mut connections = Vec::new();
        let commands: BTreeMap<String, Vec<(i64, Vec<u8>)>> =
            self.sessions.iter_mut().map(|(id, session)| (id.clone(), std::mem::take(&mut session.commands))).collect();
        for (id, session) in self.sessions {
            let Some((source, destination)) = session.ends else { continue };
            for (number, channel) in session.channels {
                let key = (id.clone(), number);
                if let Some((at_ns, forward)) = channel.forward {
                    let inner = forward.child.as_ref().and_then(|child| commands.get(child)).cloned().unwrap_or_default();
                    connections.push(forwarded(key, destination.ip(), at_ns, &forward, channel.pieces, inner));
                } else if session.is_ssh && matches!(channel.role.as_str(), "" | "shell" | "exec") {
                    connections.push(seat(key, source.ip(), destination.ip(), channel));
                }
            }
        }
        connections.retain(|connection| !connection.pieces.is_empty());
        connections.sort_by(|a, b| (a.open_ns, &a.key).cmp(&(b.open_ns, &b.key)));
        let mut keylog = self.keylog_order.join("\n");
        if !keylog.is_empty() {
            keylog.push('\n');
        }
        let records = self.records.into_iter().map(|((node, log), records)| ranges(&node, &log, &records)).collect();
        let names = self.names.into_iter().collect();
        Story { connections, keylog, names, marks: self.marks, records, findings: self.findings, notes }
    }
}

/// The records of one log: runs without a hole, and one hash over the hashes of them all.
fn ranges(node: &str, log: &str, records: &BTreeMap<u64, String>) -> Value {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut hash = Sha256::new();
    for (seq, record) in records {
        hash.update(record.as_bytes());
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*seq) => *last = *seq,
            _ => runs.push((*seq, *seq)),
        }
    }
    json!({"node": node, "log": log, "ranges": runs, "count": records.len(), "sha256_of_record_hashes": hex(&hash.finalize())})
}

impl Session {
    /// Adds a record's bytes: how many were taken, how many not, and whether all was understood.
    fn stream(&mut self, stream: Stream, at_ns: i64, mut room: usize) -> (usize, u64, bool) {
        let channel = self.channels.entry(stream.channel).or_default();
        if channel.role.is_empty() {
            channel.role = stream.role;
        }
        let inbound = stream.direction == "in";
        let (mut offset, mut taken, mut cut, mut whole) = (stream.offset, 0, 0, true);
        for (delta, data) in stream.chunks {
            let Ok(bytes) = STANDARD.decode(data) else {
                whole = false;
                continue;
            };
            let at_ns = at_ns.saturating_add(i64::try_from(delta).unwrap_or(i64::MAX));
            let length = bytes.len();
            if length > room {
                cut += length as u64;
            } else if length > 0 {
                room -= length;
                taken += length;
                channel.pieces.push(Piece { at_ns, inbound, offset, bytes, comments: Vec::new() });
            }
            offset = offset.saturating_add(length as u64);
        }
        (taken, cut, whole)
    }
}

/// A shell or a command: port 23 of the decoy; a command's line is its first packet.
fn seat(key: (String, u32), visitor: IpAddr, decoy: IpAddr, mut channel: Channel) -> Connection {
    channel.commands.sort();
    let is_exec = channel.role != "shell";
    if is_exec && !channel.commands.is_empty() {
        let (at_ns, line) = channel.commands.remove(0);
        let shift = line.len() as u64 + 1;
        for piece in channel.pieces.iter_mut().filter(|piece| piece.inbound) {
            piece.offset = piece.offset.saturating_add(shift);
        }
        let first = Piece { at_ns, inbound: true, offset: 0, bytes: [&line, &b"\n"[..]].concat(), comments: vec![command(&line)] };
        channel.pieces.push(first);
    }
    let mut pieces = ordered(channel.pieces);
    say(&mut pieces, &channel.commands);
    let role = if is_exec { "exec" } else { "shell" };
    connection(key, Host::At(visitor), Host::At(decoy), SHELL_PORT, role, pieces, None)
}

/// A forwarded connection: from the decoy to what was asked for.
fn forwarded(
    key: (String, u32),
    decoy: IpAddr,
    at_ns: i64,
    forward: &Forward,
    pieces: Vec<Piece>,
    commands: Vec<(i64, Vec<u8>)>,
) -> Connection {
    let asked = forward.host.to_bytes();
    let parsed = std::str::from_utf8(&asked).ok().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let server = parsed.map_or_else(|| Host::Named(host_name(&forward.host)), |ip| Host::At(ip.to_canonical()));
    // Both ends need one family; a name gets the decoy's.
    let client = match &server {
        Host::At(ip) if ip.is_ipv4() != decoy.is_ipv4() => Host::Named(format!("decoy-of-{}", clipped(&key.0))),
        _ => Host::At(decoy),
    };
    let mut pieces = ordered(pieces);
    say(&mut pieces, &commands);
    let port = u16::try_from(forward.port).unwrap_or(0);
    let role = format!("{} to {}:{}", clipped(&forward.mechanism), clipped(&forward.host.shown()), forward.port);
    connection(key, client, server, port, &role, pieces, Some(at_ns))
}

/// A name no longer than DNS allows, of what may stand in a name.
fn host_name(host: &WireText) -> String {
    let name: String = host.shown().chars().map(|c| if c.is_whitespace() { '_' } else { c }).take(250).collect();
    if name.is_empty() { "empty-name".into() } else { name }
}

fn connection(key: (String, u32), client: Host, server: Host, port: u16, role: &str, pieces: Vec<Piece>, open: Option<i64>) -> Connection {
    let first = pieces.first().map_or(0, |piece| piece.at_ns);
    let open_ns = open.map_or(first, |open| open.min(first));
    let close_ns = pieces.last().map_or(open_ns, |piece| piece.at_ns);
    let about = format!("derived from records, not from the wire: session {}, channel {}, {role}", clipped(&key.0), key.1);
    Connection { key, client, server, port, about, open_ns, close_ns, pieces }
}

/// Each direction in order of its bytes with times that never go back, then both by time.
fn ordered(pieces: Vec<Piece>) -> Vec<Piece> {
    let (mut inbound, mut outbound): (Vec<Piece>, Vec<Piece>) = pieces.into_iter().partition(|piece| piece.inbound);
    for direction in [&mut inbound, &mut outbound] {
        direction.sort_by_key(|piece| (piece.offset, piece.at_ns));
        let mut now = i64::MIN;
        for piece in direction.iter_mut() {
            now = now.max(piece.at_ns);
            piece.at_ns = now;
        }
    }
    inbound.append(&mut outbound);
    // Stable: what was typed comes before what it made.
    inbound.sort_by_key(|piece| piece.at_ns);
    inbound
}

fn command(line: &[u8]) -> String {
    let kept = line.get(..MAX_TEXT).unwrap_or(line);
    format!("command: {}{}", escape_bytes(kept), if kept.len() < line.len() { "…" } else { "" })
}

/// Says each command on the packet that brought its end: the last from the visitor before it was given.
fn say(pieces: &mut Vec<Piece>, commands: &[(i64, Vec<u8>)]) {
    for (given, line) in commands {
        let before = pieces.iter().rposition(|piece| piece.inbound && piece.at_ns <= *given);
        let at = before.or_else(|| pieces.iter().position(|piece| piece.inbound));
        let Some(piece) = at.and_then(|at| pieces.get_mut(at)) else {
            let offset = 0;
            let alone = Piece { at_ns: *given, inbound: true, offset, bytes: Vec::new(), comments: vec![command(line)] };
            let at = pieces.partition_point(|piece| piece.at_ns <= *given);
            pieces.insert(at, alone);
            continue;
        };
        let said: usize = piece.comments.iter().map(String::len).sum();
        if said <= MAX_COMMENTS {
            piece.comments.push(command(line));
        } else if let Some(last) = piece.comments.last_mut()
            && !last.ends_with("more commands are in the records")
        {
            last.push_str("; more commands are in the records");
        }
    }
}
