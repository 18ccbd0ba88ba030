//! DNS as an authoritative BIND 9 answers it: the persona's zone, AXFR, CHAOS; hickory is the engine,
//! the sockets are ours. Nothing is ever resolved elsewhere, and over UDP nothing is amplified.

mod zone;

use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::{Session, clip};
use bytes::Bytes;
use futures_util::StreamExt as _;
use glasshive_event::Transport;
use glasshive_event::detail::Request as RequestDetail;
use hickory_server::net::BufDnsStreamHandle;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler as _, ResponseHandle};
use hickory_server::zone_handler::Catalog;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "dns",
    transports: &[Transport::Udp, Transport::Tcp],
    default_ports: &[53],
    passive: false,
    protocol: "dns",
    summary: "authoritative name server with the persona's zone (BIND 9): A … AXFR, CHAOS; never resolves",
    build,
};

/// Messages of one TCP connection that are answered.
const MAX_MESSAGES: usize = 1_000;
/// Answers a source gets over UDP in one second; more are dropped, every second one truncated.
const UDP_PER_SECOND: u32 = 40;
/// Sources whose rate is remembered.
const MAX_SOURCES: usize = 4_096;
/// Records shown in an event.
const SHOWN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// What `version.bind` says; drawn from the seed when absent.
    version: Option<String>,
    /// Zone served; the decoy's domain when absent.
    zone: Option<String>,
    /// Whether zone transfers are answered.
    #[serde(default = "yes")]
    axfr: bool,
    /// Further records.
    #[serde(default)]
    record: Vec<zone::RecordSetting>,
}

fn yes() -> bool {
    true
}

/// Builds of bind9 in Debian 12 that were current security updates.
const VERSIONS: [&str; 3] = ["9.18.28-1~deb12u2-Debian", "9.18.33-1~deb12u2-Debian", "9.18.41-1~deb12u1-Debian"];

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    let version = match settings.version {
        Some(version) => version,
        None => (*build.decoy.seed.choose("dns-version", &VERSIONS).unwrap_or(&"9.18.33-1~deb12u2-Debian")).to_owned(),
    };
    let origin = settings.zone.unwrap_or_else(|| build.decoy.domain.clone());
    let catalog = zone::catalog(build.decoy, &origin, settings.axfr, &settings.record)?;
    Ok(Arc::new(Dns(Arc::new(Engine { catalog, version, host: build.decoy.fqdn(), axfr: settings.axfr, rates: Mutex::default() }))))
}

struct Dns(Arc<Engine>);

struct Engine {
    catalog: Catalog,
    version: String,
    host: String,
    axfr: bool,
    rates: Mutex<HashMap<IpAddr, (i64, u32)>>,
}

impl Service for Dns {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let engine = Arc::clone(&self.0);
        Box::pin(async move { if conn.is_datagram() { engine.datagrams(conn, session).await } else { engine.stream(conn, session).await } })
    }
}

impl Engine {
    async fn datagrams(&self, mut conn: Conn, session: Session) -> Outcome {
        loop {
            let Some(query) = conn.recv().await else {
                return Outcome::Timeout;
            };
            let mut replies = self.answer(&query, &session, Protocol::Udp, 0).await;
            replies.truncate(1);
            for reply in replies {
                let reply = match self.limit(session.source().ip(), session.now_ns()) {
                    Verdict::Answer => reply,
                    Verdict::Truncate => truncated(&query),
                    Verdict::Drop => continue,
                };
                if !reply.is_empty() && conn.send(&reply).await.is_err() {
                    return Outcome::Error("answer could not be sent".into());
                }
            }
        }
    }

    /// Two-byte length before each message (RFC 1035 §4.2.2), pipelining as RFC 7766 allows.
    async fn stream(&self, mut conn: Conn, session: Session) -> Outcome {
        // named closes an idle TCP connection after 30 s.
        conn.set_idle(Duration::from_secs(30));
        let mut offset = 0u64;
        for _ in 0..MAX_MESSAGES {
            let mut len = [0u8; 2];
            if let Err(error) = conn.read_exact(&mut len).await {
                return end(&error);
            }
            let mut query = vec![0u8; usize::from(u16::from_be_bytes(len))];
            if let Err(error) = conn.read_exact(&mut query).await {
                let what = "message shorter than its length";
                session.malformed("dns", what, offset, &len).await;
                return end(&error);
            }
            let replies = self.answer(&query, &session, Protocol::Tcp, offset + 2).await;
            offset += 2 + query.len() as u64;
            // What is too short to answer ends the connection, as named does.
            if replies.is_empty() && query.len() < 12 {
                return Outcome::Server;
            }
            for reply in replies {
                let Ok(size) = u16::try_from(reply.len()) else { continue };
                let mut framed = Vec::with_capacity(reply.len() + 2);
                framed.extend_from_slice(&size.to_be_bytes());
                framed.extend_from_slice(&reply);
                if let Err(error) = conn.write_all(&framed).await {
                    return error.into();
                }
            }
        }
        Outcome::Limit
    }

    async fn answer(&self, raw: &[u8], session: &Session, protocol: Protocol, offset: u64) -> Vec<Vec<u8>> {
        let request = match Request::from_bytes(raw.to_vec(), session.source(), protocol) {
            Ok(request) => request,
            Err(error) => {
                session.malformed("dns", &error.to_string(), offset, raw).await;
                return format_error(raw).into_iter().collect();
            }
        };
        if request.metadata.message_type == MessageType::Response {
            session.malformed("dns", "a response was sent to a server", offset, raw).await;
            return Vec::new();
        }
        let mut detail = RequestDetail { protocol: "dns".into(), ..RequestDetail::default() };
        let query = request.queries.queries().first().map(|query| query.original().clone());
        let Some(query) = query else {
            session.malformed("dns", "no question", offset, raw).await;
            return format_error(raw).into_iter().collect();
        };
        detail.verb = query.query_type().to_string().into();
        detail.target = clip(query.name().to_ascii().as_bytes());
        let chaos = query.query_class() == DNSClass::CH;
        let replies = if chaos {
            self.chaos(&request, &query)
        } else if query.query_type() == RecordType::AXFR && (protocol == Protocol::Udp || !self.axfr) {
            let code = if protocol == Protocol::Udp { ResponseCode::FormErr } else { ResponseCode::Refused };
            plain(&request, &query, code, Vec::new())
        } else if query.query_type() == RecordType::ANY && protocol == Protocol::Udp {
            // RFC 8482: a minimal answer, so that no one is amplified through us.
            let data = RData::HINFO(hickory_server::proto::rr::rdata::HINFO::new("RFC8482".into(), String::new()));
            plain(&request, &query, ResponseCode::NoError, vec![Record::from_rdata(query.name().clone(), 3600, data)])
        } else {
            self.engine(&request, session.source(), protocol).await
        };
        describe(&mut detail, &request, &query, &replies, protocol);
        session.request(&detail).await;
        replies
    }

    async fn engine(&self, request: &Request, source: SocketAddr, protocol: Protocol) -> Vec<Vec<u8>> {
        let (handle, mut replies) = BufDnsStreamHandle::new(source);
        self.catalog.handle_request::<_, TokioTime>(request, ResponseHandle::new(source, handle, protocol)).await;
        let mut out = Vec::new();
        while let Some(reply) = replies.next().await {
            out.push(reply.into_parts().0);
        }
        out
    }

    /// `version.bind`, `hostname.bind`, `id.server`, `authors.bind` (RFC 4892), as named answers them.
    fn chaos(&self, request: &Request, query: &hickory_server::proto::op::Query) -> Vec<Vec<u8>> {
        let name = query.name().to_ascii().to_ascii_lowercase();
        let text = match name.trim_end_matches('.') {
            "version.bind" | "version.server" => Some(self.version.as_str()),
            "hostname.bind" => Some(self.host.as_str()),
            _ => None,
        };
        let wanted = matches!(query.query_type(), RecordType::TXT | RecordType::ANY);
        match text {
            Some(text) if wanted => {
                let data = RData::TXT(hickory_server::proto::rr::rdata::TXT::new(vec![text.to_owned()]));
                let mut record = Record::from_rdata(query.name().clone(), 0, data);
                record.dns_class = DNSClass::CH;
                plain(request, query, ResponseCode::NoError, vec![record])
            }
            Some(_) => plain(request, query, ResponseCode::NoError, Vec::new()),
            None => plain(request, query, ResponseCode::Refused, Vec::new()),
        }
    }

    fn limit(&self, source: IpAddr, now_ns: i64) -> Verdict {
        let second = now_ns / 1_000_000_000;
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= MAX_SOURCES && !rates.contains_key(&source) {
            rates.retain(|_, (at, _)| *at == second);
            if rates.len() >= MAX_SOURCES {
                return Verdict::Drop;
            }
        }
        let entry = rates.entry(source).or_insert((second, 0));
        if entry.0 != second {
            *entry = (second, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        match entry.1 {
            n if n <= UDP_PER_SECOND => Verdict::Answer,
            n if n % 2 == 0 => Verdict::Truncate,
            _ => Verdict::Drop,
        }
    }
}

enum Verdict {
    Answer,
    Truncate,
    Drop,
}

fn end(error: &std::io::Error) -> Outcome {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Outcome::Client,
        _ => Outcome::from_io(error),
    }
}

/// A reply that echoes the question and carries `answers`.
fn plain(request: &Request, query: &hickory_server::proto::op::Query, code: ResponseCode, answers: Vec<Record>) -> Vec<Vec<u8>> {
    let mut message = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.authoritative = code == ResponseCode::NoError;
    message.metadata.response_code = code;
    message.add_query(query.clone());
    message.add_answers(answers);
    if request.edns.is_some() {
        let mut edns = hickory_server::proto::op::Edns::new();
        edns.set_max_payload(1232);
        message.set_edns(edns);
    }
    message.to_vec().into_iter().collect()
}

/// What named says to a message it cannot read: the header back with FORMERR; silence below 12 bytes.
fn format_error(raw: &[u8]) -> Option<Vec<u8>> {
    let (id, rest) = raw.split_first_chunk::<2>()?;
    let (flags, _) = rest.split_first_chunk::<2>()?;
    let [hi, _] = *flags;
    if raw.len() < 12 || hi & 0x80 != 0 {
        return None;
    }
    let mut reply = id.to_vec();
    reply.extend_from_slice(&[0x80 | (hi & 0x79), 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
    Some(reply)
}

/// The question back with TC set: a real resolver asks again over TCP, a spoofed victim gets no more
/// than was sent in its name.
fn truncated(query: &Bytes) -> Vec<u8> {
    let Ok(mut message) = Message::from_vec(query) else { return Vec::new() };
    message.metadata.message_type = MessageType::Response;
    message.metadata.truncation = true;
    message.answers.clear();
    message.authorities.clear();
    message.additionals.clear();
    message.to_vec().unwrap_or_default()
}

fn describe(
    detail: &mut RequestDetail,
    request: &Request,
    query: &hickory_server::proto::op::Query,
    replies: &[Vec<u8>],
    protocol: Protocol,
) {
    let fields = &mut detail.fields;
    fields.insert("id".into(), request.metadata.id.into());
    fields.insert("class".into(), query.query_class().to_string().into());
    if request.metadata.op_code != OpCode::Query {
        fields.insert("opcode".into(), format!("{:?}", request.metadata.op_code).into());
    }
    fields.insert("recursion_desired".into(), request.metadata.recursion_desired.into());
    if let Some(edns) = request.edns.as_ref() {
        fields.insert("edns_payload".into(), edns.max_payload().into());
    }
    fields.insert("transport".into(), if protocol == Protocol::Udp { "udp" } else { "tcp" }.into());
    let mut shown = Vec::new();
    let mut count = 0usize;
    for reply in replies {
        if let Ok(message) = Message::from_vec(reply) {
            detail.status.get_or_insert_with(|| format!("{:?}", message.metadata.response_code).to_uppercase());
            count += message.answers.len();
            shown.extend(
                message
                    .answers
                    .iter()
                    .take(SHOWN.saturating_sub(shown.len()))
                    .map(|r| serde_json::Value::from(r.to_string().chars().take(256).collect::<String>())),
            );
        }
    }
    fields.insert("answer_count".into(), count.into());
    fields.insert("answers".into(), shown.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Kit;
    use glasshive_event::Kind;
    use hickory_server::proto::op::Query;
    use hickory_server::proto::rr::Name;

    fn query(name: &str, kind: RecordType, class: DNSClass) -> Vec<u8> {
        let mut query = Query::query(Name::from_ascii(name).unwrap(), kind);
        query.set_query_class(class);
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(query);
        message.to_vec().unwrap()
    }

    async fn ask(kit: &Kit, raw: &[u8]) -> Vec<u8> {
        let mut client = kit.connect();
        client.write_all(&u16::try_from(raw.len()).unwrap().to_be_bytes()).await.unwrap();
        client.write_all(raw).await.unwrap();
        client.shutdown().await.unwrap();
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        out
    }

    async fn message(kit: &Kit, name: &str, kind: RecordType, class: DNSClass) -> Message {
        let out = ask(kit, &query(name, kind, class)).await;
        Message::from_vec(&out[2..]).unwrap()
    }

    #[tokio::test]
    async fn answers_its_zone_and_nothing_else() {
        let kit = Kit::new(&SERVICE, "").unwrap();
        let own = message(&kit, "web-1.corp.example.", RecordType::A, DNSClass::IN).await;
        assert_eq!(own.answers.len(), 1);
        assert!(own.metadata.authoritative);
        let other = message(&kit, "example.org.", RecordType::A, DNSClass::IN).await;
        assert_eq!(other.metadata.response_code, ResponseCode::Refused);
        let missing = message(&kit, "nothing.corp.example.", RecordType::A, DNSClass::IN).await;
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        let seen = kit.memory.closed(3).await;
        let requests: Vec<_> = seen.iter().filter(|s| s.kind == Kind::Request).collect();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0].detail["verb"], "A");
        assert_eq!(requests[0].detail["status"], "NOERROR");
    }

    #[tokio::test]
    async fn transfers_and_tells_its_version() {
        let kit = Kit::new(&SERVICE, "version = \"9.18.1\"").unwrap();
        let axfr = message(&kit, "corp.example.", RecordType::AXFR, DNSClass::IN).await;
        assert!(axfr.answers.len() > 4, "{}", axfr.answers.len());
        assert_eq!(axfr.answers.first().map(Record::record_type), Some(RecordType::SOA));
        assert_eq!(axfr.answers.last().map(Record::record_type), Some(RecordType::SOA));
        let version = message(&kit, "version.bind.", RecordType::TXT, DNSClass::CH).await;
        assert!(version.answers[0].to_string().contains("9.18.1"));
        let closed = Kit::new(&SERVICE, "axfr = false").unwrap();
        let refused = message(&closed, "corp.example.", RecordType::AXFR, DNSClass::IN).await;
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    }

    #[tokio::test]
    async fn junk_is_an_event_and_formerr() {
        let kit = Kit::new(&SERVICE, "").unwrap();
        let reply = ask(&kit, b"\x00\x01\x01\x00\x00\x09\x00\x00\x00\x00\x00\x00\xff").await;
        assert_eq!(reply.get(2..4), Some(&b"\x00\x01"[..]));
        assert_eq!(reply.get(5).map(|b| b & 0x0f), Some(1));
        let seen = kit.memory.closed(1).await;
        assert!(seen.iter().any(|s| s.kind == Kind::Malformed));
    }

    #[test]
    fn udp_is_limited_per_source() {
        let kit = Kit::new(&SERVICE, "").unwrap();
        let build = Build { decoy: &kit.decoy, settings: toml::Table::new() };
        let catalog = zone::catalog(build.decoy, "corp.example", true, &[]).unwrap();
        let engine = Engine { catalog, version: String::new(), host: String::new(), axfr: true, rates: Mutex::default() };
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let answered = (0..100).filter(|_| matches!(engine.limit(ip, 5_000_000_000), Verdict::Answer)).count();
        assert_eq!(answered, 40);
        assert!(matches!(engine.limit(ip, 6_000_000_000), Verdict::Answer));
    }

    #[test]
    fn unknown_key_is_named() {
        let error = Kit::new(&SERVICE, "versoin = \"9\"").err().unwrap();
        assert!(error.contains("versoin"), "{error}");
    }
}
