//! What nginx answers: which status, which headers in which order, which body. Facts taken from
//! nginx 1.22.1 of Debian 12 run side by side; the tests run it again.

use super::conditions::{Ranges, accepts_gzip, failed_precondition, not_modified, range_holds, ranges};
use super::site::{Found, Page, Site};
use glasshive_proto::http::{RequestHead, Version};
use std::fmt::Write as _;
use std::io::Write as _;

/// One answer, not yet rendered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    body: Body,
    close: bool,
    /// Found before the browser's name was read, so not padded for it.
    early: bool,
    extra: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
enum Body {
    /// nginx's own page for a status, with an explanation beneath the heading.
    Special(Option<&'static str>),
    /// A page of the site.
    Page(Page),
    /// Parts of a page: first and last byte of each.
    Parts(Page, Vec<(usize, usize)>),
    /// Header only (304).
    Nothing(Page),
    /// A redirect to this path.
    Redirect(String),
}

/// Reason phrases as nginx writes them.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        416 => "Requested Range Not Satisfiable",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

impl Answer {
    pub(super) fn error(status: u16) -> Self {
        // These leave the connection's state unknown, so nginx closes.
        let close = matches!(status, 400 | 413 | 414 | 501 | 505);
        Self { status, body: Body::Special(None), close, early: false, extra: Vec::new() }
    }

    pub(super) fn too_large_header() -> Self {
        Self { body: Body::Special(Some("Request Header Or Cookie Too Large")), ..Self::error(400) }
    }

    pub(super) fn plain_on_tls() -> Self {
        Self { body: Body::Special(Some("The plain HTTP request was sent to HTTPS port")), ..Self::error(400) }
    }

    pub(super) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// Whether nginx reads the body before it answers, instead of dropping it with a refusal.
    pub(super) fn is_page(&self) -> bool {
        !matches!(self.body, Body::Special(None | Some(_)) | Body::Redirect(_)) || matches!(self.status, 412 | 416)
    }

    fn of(status: u16, body: Body) -> Self {
        Self { status, body, close: false, early: false, extra: Vec::new() }
    }

    /// Whether the connection stays open after it.
    pub(super) fn keep_alive(&self, head: &RequestHead) -> bool {
        let default = match head.request.version {
            Version::Missing => return false,
            Version::Http(_, minor) => minor >= 1,
        };
        // Of several, the last counts; in one, the close.
        let wish = head.headers.all("Connection").fold(None, |wish, value| {
            let value = value.to_ascii_lowercase();
            let says = |word: &[u8]| value.windows(word.len()).any(|part| part == word);
            if says(b"close") {
                Some(false)
            } else if says(b"keep-alive") {
                Some(true)
            } else {
                wish
            }
        });
        !self.close && wish.unwrap_or(default)
    }

    /// The bytes for a request that was read.
    pub(super) fn render(&self, head: &RequestHead, version: &str, keep: bool, now_ns: i64, base: &str) -> Vec<u8> {
        let gzip = accepts_gzip(head);
        let padded = !self.early && head.headers.get("User-Agent").is_some_and(friendly_errors);
        let is_head = head.request.method == b"HEAD";
        self.bytes(version, keep, now_ns, base, is_head, head.request.version == Version::Missing, gzip, padded)
    }

    /// The bytes for what was no request.
    pub(super) fn render_bare(&self, version: &str, now_ns: i64, is_head: bool, agent: Option<&[u8]>) -> Vec<u8> {
        self.bytes(version, false, now_ns, "", is_head, false, false, agent.is_some_and(friendly_errors))
    }

    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn bytes(&self, version: &str, keep: bool, now_ns: i64, base: &str, is_head: bool, bare: bool, gzip: bool, padded: bool) -> Vec<u8> {
        let mut kind = "text/html".to_owned();
        let mut page_headers = None;
        let mut location = None;
        let mut encoded = false;
        let content: Vec<u8> = match &self.body {
            Body::Special(why) => {
                let page = special(self.status, *why, version, padded);
                encoded = gzip && matches!(self.status, 403 | 404);
                if encoded { compress(&page) } else { page }
            }
            Body::Redirect(path) => {
                location = Some(format!("{base}{path}"));
                special(self.status, None, version, padded)
            }
            Body::Nothing(page) => {
                page_headers = Some(page);
                Vec::new()
            }
            Body::Page(page) => {
                page_headers = Some(page);
                kind.clone_from(&page.kind);
                encoded = gzip && page.kind == "text/html" && page.content.len() >= 20;
                if encoded { compress(&page.content) } else { page.content.to_vec() }
            }
            Body::Parts(page, parts) => {
                page_headers = Some(page);
                match parts.as_slice() {
                    [(first, last)] => {
                        kind.clone_from(&page.kind);
                        page.content.get(*first..=*last).unwrap_or_default().to_vec()
                    }
                    many => {
                        let boundary = format!("{:020}", 1 + now_ns.unsigned_abs() / 1_000_000 % 9_999_999);
                        kind = format!("multipart/byteranges; boundary={boundary}");
                        multipart(page, many, &boundary)
                    }
                }
            }
        };
        if bare {
            return content;
        }
        let mut out = format!("HTTP/1.1 {} {}\r\nServer: nginx/{version}\r\nDate: {}\r\n", self.status, reason(self.status), date(now_ns));
        if self.status != 304 {
            let _ = write!(out, "Content-Type: {kind}\r\n");
            if !encoded {
                let _ = write!(out, "Content-Length: {}\r\n", content.len());
            }
        }
        if let Some(page) = page_headers {
            let _ = write!(out, "Last-Modified: {}\r\n", date(page.modified_ns));
        }
        if encoded && !is_head {
            out.push_str("Transfer-Encoding: chunked\r\n");
        }
        if let Some(location) = location {
            let _ = write!(out, "Location: {location}\r\n");
        }
        out.push_str(if keep { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" });
        if let Some(page) = page_headers {
            let _ = write!(out, "ETag: {}\"{}\"\r\n", if encoded { "W/" } else { "" }, page.etag());
        }
        if let (Body::Parts(page, parts), [(first, last)]) = (&self.body, self.parts()) {
            let _ = parts;
            let _ = write!(out, "Content-Range: bytes {first}-{last}/{}\r\n", page.content.len());
        }
        for (name, value) in &self.extra {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        if encoded {
            out.push_str("Content-Encoding: gzip\r\n");
        } else if matches!(self.body, Body::Page(_)) {
            out.push_str("Accept-Ranges: bytes\r\n");
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        if !is_head {
            if encoded {
                let _ = write!(bytes, "{:x}\r\n", content.len());
                bytes.extend_from_slice(&content);
                bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            } else {
                bytes.extend_from_slice(&content);
            }
        }
        bytes
    }

    fn parts(&self) -> &[(usize, usize)] {
        match &self.body {
            Body::Parts(_, parts) => parts,
            _ => &[],
        }
    }
}

/// nginx's own page. `padded` lengthens it for browsers that would hide short ones.
fn special(status: u16, why: Option<&str>, version: &str, padded: bool) -> Vec<u8> {
    let heading = format!("{status} {}", reason(status));
    let title = why.map_or_else(|| heading.clone(), |why| format!("{status} {why}"));
    let mut page = format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n");
    if let Some(why) = why {
        let _ = write!(page, "<center>{why}</center>\r\n");
    }
    let _ = write!(page, "<hr><center>nginx/{version}</center>\r\n</body>\r\n</html>\r\n");
    if padded && status >= 400 {
        for _ in 0..6 {
            page.push_str("<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n");
        }
    }
    page.into_bytes()
}

/// Browsers nginx pads its error pages for (`msie_padding`).
fn friendly_errors(agent: &[u8]) -> bool {
    let has = |word: &[u8]| agent.windows(word.len()).any(|part| part == word);
    has(b"MSIE ") || has(b"Chrome/")
}

fn multipart(page: &Page, parts: &[(usize, usize)], boundary: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (first, last) in parts {
        let _ = write!(
            out,
            "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            page.kind,
            page.content.len()
        );
        out.extend_from_slice(page.content.get(*first..=*last).unwrap_or_default());
    }
    let _ = write!(out, "\r\n--{boundary}--\r\n");
    out
}

fn compress(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().operating_system(3).write(Vec::new(), flate2::Compression::new(1));
    // Writing to memory cannot fail.
    let _ = encoder.write_all(content);
    encoder.finish().unwrap_or_default()
}

/// IMF-fixdate (RFC 9110 §5.6.7).
pub(super) fn date(ns: i64) -> String {
    jiff::Timestamp::from_second(ns.div_euclid(1_000_000_000))
        .map(|t| t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default()
}

/// What nginx refuses before it looks at the site.
pub(super) fn judge(head: &RequestHead) -> Option<Answer> {
    if head.request.version == Version::Missing {
        return (head.request.method != b"GET").then(|| Answer::error(400));
    }
    // A path that leaves the root or is wrongly escaped ends it before a header is read.
    if path_of(&head.request.target).is_none() {
        return Some(Answer::error(400).early());
    }
    let headers = &head.headers;
    let mut agent = false;
    for (index, header) in headers.list.iter().enumerate() {
        let again = || headers.list.iter().take(index).any(|other| other.name.eq_ignore_ascii_case(&header.name));
        let wrong_host = header.is("Host") && normal_host(&header.value).is_none();
        if wrong_host || (ONLY_ONCE.iter().any(|name| header.is(name)) && again()) {
            let answer = Answer::error(400);
            return Some(if agent { answer } else { answer.early() });
        }
        agent |= header.is("User-Agent");
    }
    let modern = matches!(head.request.version, Version::Http(_, minor) if minor >= 1);
    if modern && headers.get("Host").is_none() {
        return Some(Answer::error(400));
    }
    if headers.get("Content-Length").is_some_and(|value| content_length(value).is_none()) {
        return Some(Answer::error(400));
    }
    if let Some(encoding) = headers.get("Transfer-Encoding") {
        if !modern {
            return Some(Answer::error(400));
        }
        if !encoding.eq_ignore_ascii_case(b"chunked") {
            return Some(Answer::error(501).closing());
        }
        if headers.get("Content-Length").is_some() {
            return Some(Answer::error(400));
        }
    }
    matches!(head.request.method.as_slice(), b"TRACE" | b"CONNECT").then(|| Answer::error(405).closing())
}

/// Headers nginx 1.22 takes once only.
const ONLY_ONCE: [&str; 10] = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Expect",
    "Authorization",
];

/// A length of digits that an `off_t` holds.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse::<i64>().ok()?.try_into().ok()
}

/// Host without port and last dot, in lower case (`ngx_http_validate_host`); `None`: refused.
fn normal_host(host: &[u8]) -> Option<String> {
    let mut end = host.len();
    let mut last_dot = None;
    let literal = host.first() == Some(&b'[');
    let mut rest = false;
    for (at, byte) in host.iter().enumerate() {
        match byte {
            b'.' => {
                if last_dot.is_some_and(|dot| dot + 1 == at) {
                    return None;
                }
                last_dot = Some(at);
            }
            b':' if !rest && !literal => {
                end = at;
                rest = true;
            }
            b']' if !rest && literal => {
                end = at + 1;
                rest = true;
            }
            b'/' | 0..=0x20 | 0x7f => return None,
            _ => {}
        }
    }
    if last_dot.is_some_and(|dot| dot + 1 == end) {
        end -= 1;
    }
    let name = host.get(..end)?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned())
}

/// The host a redirect names: that of an absolute target, else of the header.
pub(super) fn asked_host(head: &RequestHead) -> Option<String> {
    match absolute(&head.request.target) {
        Some((host, _)) => normal_host(host),
        None => head.headers.get("Host").and_then(normal_host),
    }
}

/// Host (with brackets, without port) and the rest of an absolute target; an impossible one has an empty host.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    if target.starts_with(b"/") {
        return None;
    }
    let at = target.windows(3).position(|part| part == b"://")?;
    let after = target.get(at + 3..)?;
    let end = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let (host, port) = if authority.starts_with(b"[") {
        let close = authority.iter().position(|b| *b == b']').map_or(0, |at| at + 1);
        authority.split_at(close)
    } else {
        authority.split_at(authority.iter().position(|b| *b == b':').unwrap_or(authority.len()))
    };
    let good_port = port.is_empty() || (port.starts_with(b":") && port.iter().skip(1).all(u8::is_ascii_digit));
    let good_host = host.starts_with(b"[") || host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    Some((if good_port && good_host { host } else { b"" }, rest))
}

/// The normalised path of a target: query cut, escapes decoded, dots resolved. `None`: 400.
pub(super) fn path_of(target: &[u8]) -> Option<Vec<u8>> {
    let mut rest = target;
    if let Some((host, after)) = absolute(target) {
        normal_host(host)?;
        if after.is_empty() || after.starts_with(b"?") {
            return Some(b"/".to_vec());
        }
        rest = after;
    }
    if !rest.starts_with(b"/") {
        return None;
    }
    let rest = rest.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
    let mut decoded = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hi = char::from(*bytes.next()?).to_digit(16)?;
                let lo = char::from(*bytes.next()?).to_digit(16)?;
                let value = u8::try_from(hi * 16 + lo).ok()?;
                if value == 0 {
                    return None;
                }
                decoded.push(value);
            }
            other => decoded.push(*other),
        }
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let directory = decoded.ends_with(b"/") || decoded.ends_with(b"/.") || decoded.ends_with(b"/..");
    for part in decoded.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for part in &parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if directory || path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

/// What the site answers.
pub(super) fn answer(site: &Site, head: &RequestHead) -> Answer {
    let Some(path) = path_of(&head.request.target) else { return Answer::error(400) };
    let found = site.find(&path);
    if matches!(found, Found::Missing) {
        return Answer::error(404);
    }
    if !matches!(head.request.method.as_slice(), b"GET" | b"HEAD" | b"POST") {
        return Answer::error(405);
    }
    let page = match found {
        Found::Page(page) => page,
        Found::Directory => {
            let mut to = String::from_utf8_lossy(&path).into_owned();
            to.push('/');
            let target = head.request.target.split(|b| *b == b'#').next().unwrap_or_default();
            if let Some(at) = target.iter().position(|b| *b == b'?') {
                to.push_str(&String::from_utf8_lossy(target.get(at..).unwrap_or_default()));
            }
            return Answer::of(301, Body::Redirect(to));
        }
        Found::Forbidden => return Answer::error(403),
        Found::Missing => return Answer::error(404),
    };
    if head.request.method == b"POST" {
        return Answer::error(405);
    }
    if failed_precondition(&head.headers, &page) {
        return Answer::error(412);
    }
    if not_modified(&head.headers, &page) {
        return Answer::of(304, Body::Nothing(page));
    }
    // What is compressed on the way has no ranges.
    let compressed = accepts_gzip(head) && page.kind == "text/html";
    let range = head.headers.get("Range").filter(|_| !compressed && range_holds(&head.headers, &page));
    match range.map(|value| ranges(value, page.content.len())) {
        None | Some(Ranges::Ignore) => Answer::of(200, Body::Page(page)),
        Some(Ranges::Unsatisfiable) => {
            Answer { extra: vec![("Content-Range", format!("bytes */{}", page.content.len()))], ..Answer::of(416, Body::Special(None)) }
        }
        Some(Ranges::Parts(parts)) => Answer::of(206, Body::Parts(page, parts)),
    }
}
