//! HTTP as Debian's nginx serves a static site: same status lines, header order, error bodies and
//! closes. Every request is recorded whole within bounds; a body is data, never interpreted.

mod body;
mod conditions;
mod nginx;
mod site;

use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::{Credential, Session, clip};
use base64::Engine as _;
use body::{Body, Progress};
use bytes::{Buf as _, BytesMut};
use glasshive_event::Transport;
use glasshive_event::WireText;
use glasshive_event::detail::Request;
use glasshive_proto::http::{self, HEAD_TOO_LONG, LINE_TOO_LONG, RequestHead, Rules, TOO_MANY_HEADERS, VERSION_UNKNOWN, Version};
use glasshive_proto::reader::Parsed;
use nginx::Answer;
use serde::Deserialize;
use site::Site;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "http",
    transports: &[Transport::Tcp],
    default_ports: &[80],
    passive: false,
    protocol: "http",
    summary: "web server (nginx of the claimed distribution) with the persona's site; records every request",
    build,
};

/// `client_header_timeout` and `client_body_timeout` of a default nginx.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// `keepalive_timeout`.
const KEEPALIVE: Duration = Duration::from_secs(75);
/// `keepalive_requests`.
const MAX_REQUESTS: usize = 1000;
/// `client_max_body_size`.
const MAX_BODY: u64 = 1 << 20;
/// Body bytes put into the request's record; a longer one becomes a file.
const SHOWN_BODY: usize = 4 * 1024;
/// Header bytes put into the record.
const SHOWN_HEADERS: usize = 6 * 1024;
/// Bytes read and dropped after an answer that closes (`lingering_close`), and how long.
const LINGER: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(5);

const RULES: Rules = Rules::nginx();
/// What the parser calls a version of too many digits.
const VERSION_SYNTAX: &str = "HTTP version syntax";
/// Body bytes read and dropped, and how long nginx waits for more of them.
const DROPPED: u64 = 64 << 20;

/// Settings of `[service.http]` and `[service.https]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Version nginx tells; that of the claimed distribution when absent.
    version: Option<String>,
    /// Pages besides the drawn ones: path to content.
    pages: std::collections::BTreeMap<String, String>,
    /// Title of the drawn site; drawn when absent.
    title: Option<String>,
}

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    Ok(Arc::new(Http(Arc::new(Server::new(build, &settings)?))))
}

struct Http(Arc<Server>);

impl Service for Http {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let server = Arc::clone(&self.0);
        Box::pin(async move { server.serve(conn, session, false).await })
    }
}

/// What the bytes came in on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Plain,
    Tls,
    /// Clear bytes on the TLS port.
    PlainOnTls,
}

/// What follows a request.
enum Next {
    Again,
    Linger,
    Over(Outcome),
}

/// One web server with its site.
pub(super) struct Server {
    site: Site,
    version: String,
    port: u16,
}

impl Server {
    pub(super) fn new(build: &Build<'_>, settings: &Settings) -> Result<Self, String> {
        let version = settings.version.clone().unwrap_or_else(|| "1.22.1".to_owned());
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(format!("version: {version:?} is not an nginx version such as 1.22.1"));
        }
        Ok(Self { site: Site::new(build.decoy, settings.title.as_deref(), &settings.pages)?, version, port: 0 })
    }

    /// Answers requests until the connection ends; `tls` when the bytes came out of TLS.
    pub(super) async fn serve(&self, conn: Conn, session: Session, tls: bool) -> Outcome {
        match self.exchange(conn, &session, if tls { Port::Tls } else { Port::Plain }).await {
            Ok(outcome) => outcome,
            Err(error) => error.into(),
        }
    }

    /// Refuses what came in clear to the TLS port, as nginx does: once the head is read.
    pub(super) async fn serve_plain(&self, conn: Conn, session: Session) -> Outcome {
        match self.exchange(conn, &session, Port::PlainOnTls).await {
            Ok(outcome) => outcome,
            Err(error) => error.into(),
        }
    }

    async fn exchange(&self, mut conn: Conn, session: &Session, port: Port) -> io::Result<Outcome> {
        let rules = RULES;
        let mut buf = BytesMut::new();
        let mut offset = 0u64;
        for count in 0..MAX_REQUESTS {
            conn.set_idle(if count == 0 { HEAD_TIMEOUT } else { KEEPALIVE });
            let (head, used) = loop {
                match http::request_head(&buf, &rules) {
                    Parsed::Done { value, used } => break (value, used),
                    Parsed::Malformed { offset: at, what } => {
                        let rest = buf.get(at.min(buf.len())..).unwrap_or_default();
                        session.malformed("http", what, offset + at as u64, rest).await;
                        return Box::pin(self.refuse(conn, session, &buf, at, what)).await;
                    }
                    Parsed::Incomplete { .. } => {
                        // nginx reads a first KiB and then takes its large buffers.
                        let more = if buf.is_empty() {
                            // Made when the visitor says something.
                            buf = conn.read_some(1024).await?.into();
                            buf.len()
                        } else {
                            buf.reserve(8 * 1024);
                            conn.read_buf(&mut buf).await?
                        };
                        if more == 0 {
                            // nginx says nothing to a head that was cut off.
                            if !buf.is_empty() {
                                session.malformed("http", "head cut off", offset, &buf).await;
                            }
                            return Ok(Outcome::Client);
                        }
                        conn.set_idle(HEAD_TIMEOUT);
                    }
                }
            };
            buf.advance(used);
            offset += used as u64;
            let last = count + 1 == MAX_REQUESTS;
            // Boxed apart, so that a visitor who says nothing does not hold the room of one who asks.
            match Box::pin(self.one(&mut conn, session, port, last, head, &mut buf, &mut offset)).await? {
                Next::Again => {}
                Next::Linger => return Box::pin(linger(conn)).await,
                Next::Over(outcome) => return Ok(outcome),
            }
        }
        Ok(Outcome::Server)
    }

    /// Answers and records one request.
    #[allow(clippy::too_many_arguments)]
    async fn one(
        &self,
        conn: &mut Conn,
        session: &Session,
        port: Port,
        last: bool,
        head: RequestHead,
        buf: &mut BytesMut,
        offset: &mut u64,
    ) -> io::Result<Next> {
        let tls = port == Port::Tls;
        let plain = port == Port::PlainOnTls;
        let mut answer = nginx::judge(&head).or_else(|| plain.then(Answer::plain_on_tls));
        let mut body = if answer.is_none() { Body::new(&head.headers) } else { Body::none() };
        let had = buf.len();
        let mut progress = Progress::Whole;
        if answer.is_none() && body.left() > MAX_BODY {
            answer = Some(Answer::error(413).closing());
        }
        // nginx answers before a body is whole, from what came with the head.
        let refused = answer.is_some();
        let mut answer = answer.unwrap_or_else(|| nginx::answer(&self.site, &head));
        let mut bytes = Vec::new();
        if answer.is_page() && expects(&head) {
            bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        progress = body.take(buf).max(progress);
        if progress == Progress::Malformed {
            session.malformed("http", "chunk", *offset + (had - buf.len()) as u64, buf).await;
            answer = if answer.is_page() { Answer::error(400) } else { answer.closing() };
        }
        let keep = !last && answer.keep_alive(&head);
        bytes.extend_from_slice(&answer.render(&head, &self.version, keep, session.now_ns(), &self.location(session, &head, tls)));
        let sent = conn.write_all(&bytes).await;
        if sent.is_ok() && !keep {
            conn.shutdown().await?;
        }
        *offset += (had - buf.len()) as u64;
        if sent.is_ok() && progress == Progress::More {
            progress = rest_of_body(conn, session, &mut body, buf, offset).await;
        }
        session.count_cut(body.cut);
        if body.content.len() > SHOWN_BODY {
            let mut upload = session.upload(&head.request.target);
            upload.write(&body.content).await;
            upload.finish().await;
        }
        self.record(session, &head, &body.content, &answer, tls).await;
        sent?;
        // A 412 says that it keeps the connection and closes it all the same.
        if !keep || answer.status == 412 || refused && progress != Progress::Whole {
            return Ok(Next::Linger);
        }
        Ok(match progress {
            Progress::Whole => Next::Again,
            Progress::Malformed => Next::Over(Outcome::Server),
            Progress::More => Next::Over(Outcome::Client),
        })
    }

    /// Answers what is no request, as nginx does: by the kind of fault.
    async fn refuse(&self, mut conn: Conn, session: &Session, raw: &[u8], at: usize, what: &str) -> io::Result<Outcome> {
        let skipped = raw.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let heard = raw.get(skipped..at).unwrap_or_default();
        let raw = raw.get(skipped..).unwrap_or_default();
        let answer = match what {
            VERSION_SYNTAX if no_such_version(raw) => Answer::error(505),
            LINE_TOO_LONG => Answer::error(414),
            HEAD_TOO_LONG | TOO_MANY_HEADERS => Answer::too_large_header(),
            VERSION_UNKNOWN => Answer::error(505),
            _ => Answer::error(400),
        };
        let mut fields = serde_json::Map::new();
        fields.insert("malformed".into(), what.into());
        let line = raw.split(|b| *b == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        let detail = Request {
            protocol: "http".into(),
            verb: WireText::from_bytes(line.split(|b| *b == b' ').next().unwrap_or_default().get(..32).unwrap_or_default()),
            target: clip(line.trim_ascii_end()),
            status: Some(answer.status.to_string()),
            fields,
        };
        session.request(&detail).await;
        let is_head = raw.starts_with(b"HEAD ");
        // nginx pads for a browser it has already heard of.
        let agent = heard.split(|b| *b == b'\n').skip(1).find_map(|line| {
            let (name, value) = line.split_at_checked(11)?;
            name.eq_ignore_ascii_case(b"user-agent:").then_some(value)
        });
        conn.write_all(&answer.render_bare(&self.version, session.now_ns(), is_head, agent)).await?;
        linger(conn).await
    }

    async fn record(&self, session: &Session, head: &RequestHead, body: &[u8], answer: &Answer, tls: bool) {
        let mut fields = serde_json::Map::new();
        let version = match head.request.version {
            Version::Missing => "0.9".to_owned(),
            Version::Http(major, minor) => format!("{major}.{minor}"),
        };
        fields.insert("version".into(), version.into());
        if tls {
            fields.insert("tls".into(), true.into());
        }
        let mut shown = 0usize;
        let mut headers = Vec::new();
        for header in &head.headers.list {
            shown += header.name.len() + header.value.len();
            if shown > SHOWN_HEADERS {
                fields.insert("headers_cut".into(), true.into());
                break;
            }
            headers.push(serde_json::json!([WireText::from_bytes(&header.name), WireText::from_bytes(&header.value)]));
        }
        fields.insert("headers".into(), headers.into());
        if !body.is_empty() {
            let kept = body.get(..body.len().min(SHOWN_BODY)).unwrap_or_default();
            fields.insert("body".into(), serde_json::to_value(WireText::from_bytes(kept)).unwrap_or_default());
            fields.insert("body_len".into(), body.len().into());
        }
        if let Some((user, secret)) = head.headers.get("Authorization").and_then(basic) {
            session.login_as(&user, "basic", Credential::Plain(&secret), false).await;
            if let Some(serde_json::Value::Array(list)) = fields.get_mut("headers") {
                // The secret is in the sealed login; the clear header must not stand beside it.
                for pair in list.iter_mut() {
                    let named =
                        pair.get(0).and_then(serde_json::Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case("authorization"));
                    if let (true, Some(value)) = (named, pair.get_mut(1)) {
                        *value = "Basic (sealed in the login)".into();
                    }
                }
            }
        }
        let detail = Request {
            protocol: "http".into(),
            verb: WireText::from_bytes(head.request.method.get(..head.request.method.len().min(64)).unwrap_or_default()),
            target: clip(&head.request.target),
            status: Some(answer.status.to_string()),
            fields,
        };
        session.request(&detail).await;
    }

    /// Where a redirect to a directory points: nginx's `absolute_redirect` with the asked host.
    fn location(&self, session: &Session, head: &RequestHead, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        let usual = if tls { 443 } else { 80 };
        let port = if self.port == 0 { session.local().port() } else { self.port };
        let host = nginx::asked_host(head).unwrap_or_else(|| session.local().ip().to_string());
        if port == usual || port == 0 { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") }
    }
}

/// Whether the client waits for a word before it sends its body.
fn expects(head: &RequestHead) -> bool {
    matches!(head.request.version, Version::Http(_, minor) if minor >= 1)
        && head.headers.get("Expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a first line asks for HTTP 2 or later: nginx sees that before it sees what else is wrong.
fn no_such_version(raw: &[u8]) -> bool {
    let line = raw.split(|b| *b == b'\n').next().unwrap_or_default();
    let Some(at) = line.windows(6).position(|part| part == b" HTTP/") else { return false };
    let target_first = line.get(..at).is_some_and(|start| start.contains(&b' '));
    let digits: Vec<u8> = line.iter().skip(at + 6).take_while(|b| b.is_ascii_digit()).copied().collect();
    target_first && matches!(digits.as_slice(), [b'2'..=b'9', ..] | [b'1', _, ..])
}

/// Reads on until the body is whole; `More`: it never became whole.
async fn rest_of_body(conn: &mut Conn, session: &Session, body: &mut Body, buf: &mut BytesMut, offset: &mut u64) -> Progress {
    conn.set_idle(LINGER_TIME);
    loop {
        if body.cut > DROPPED || !matches!(conn.read_buf(buf).await, Ok(1..)) {
            return Progress::More;
        }
        let had = buf.len();
        let progress = body.take(buf);
        *offset += (had - buf.len()) as u64;
        match progress {
            Progress::More => {}
            Progress::Malformed => {
                session.malformed("http", "chunk", *offset, buf).await;
                return progress;
            }
            Progress::Whole => return progress,
        }
    }
}

/// Reads what the visitor still sends so that our answer is not lost to a reset, as nginx does.
async fn linger(mut conn: Conn) -> io::Result<Outcome> {
    conn.shutdown().await?;
    conn.set_idle(LINGER_TIME);
    let mut dropped = 0;
    while dropped < LINGER {
        match conn.read_some(16 * 1024).await {
            Ok(data) if data.is_empty() => break,
            Ok(data) => dropped += data.len(),
            Err(_) => break,
        }
    }
    Ok(Outcome::Server)
}

/// User and password of a Basic authorization (RFC 7617).
fn basic(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, data) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim()).ok()?;
    let at = decoded.iter().position(|b| *b == b':')?;
    Some((decoded.get(..at)?.to_vec(), decoded.get(at + 1..)?.to_vec()))
}

#[cfg(test)]
mod tests;
