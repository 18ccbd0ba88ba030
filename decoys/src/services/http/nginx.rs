//! What nginx answers: which status, which headers in which order, which body. Facts taken from
//! nginx 1.22.1 of Debian 12 run side by side; the tests run it again.

use super::site::{Page, Site};
use glasshive_proto::http::{RequestHead, Version};
use std::fmt::Write as _;
use std::io::Write as _;

/// One answer, not yet rendered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    body: Body,
    close: bool,
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
        Self { status, body: Body::Special(None), close, extra: Vec::new() }
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

    fn of(status: u16, body: Body) -> Self {
        Self { status, body, close: false, extra: Vec::new() }
    }

    /// Whether the connection stays open after it.
    pub(super) fn keep_alive(&self, head: &RequestHead) -> bool {
        let wish = head.headers.get("Connection").unwrap_or_default().to_ascii_lowercase();
        let says = |word: &[u8]| wish.windows(word.len().max(1)).any(|part| part == word);
        let default = match head.request.version {
            Version::Missing => return false,
            Version::Http(_, minor) => minor >= 1,
        };
        !self.close && !says(b"close") && (default || says(b"keep-alive"))
    }

    /// The bytes for a request that was read.
    pub(super) fn render(&self, head: &RequestHead, version: &str, keep: bool, now_ns: i64, base: &str) -> Vec<u8> {
        let gzip = head.headers.get("Accept-Encoding").is_some_and(|value| value.windows(4).any(|part| part == b"gzip"))
            && matches!(head.request.version, Version::Http(_, minor) if minor >= 1);
        let padded = head.headers.get("User-Agent").is_some_and(friendly_errors);
        let is_head = head.request.method == b"HEAD";
        self.bytes(version, keep, now_ns, base, is_head, head.request.version == Version::Missing, gzip, padded)
    }

    /// The bytes for what was no request.
    pub(super) fn render_bare(&self, version: &str, now_ns: i64) -> Vec<u8> {
        self.bytes(version, false, now_ns, "", false, false, false, false)
    }

    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn bytes(&self, version: &str, keep: bool, now_ns: i64, base: &str, is_head: bool, bare: bool, gzip: bool, padded: bool) -> Vec<u8> {
        let mut kind = "text/html".to_owned();
        let mut page_headers = None;
        let mut location = None;
        let mut encoded = false;
        let content: Vec<u8> = match &self.body {
            Body::Special(why) => special(self.status, *why, version, padded),
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
        if encoded {
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
    let headers = &head.headers;
    let hosts = headers.all("Host").count();
    let modern = matches!(head.request.version, Version::Http(_, minor) if minor >= 1);
    if hosts > 1 || (hosts == 0 && modern) || headers.get("Host").is_some_and(|host| !plausible_host(host)) {
        return Some(Answer::error(400));
    }
    let lengths: Vec<_> = headers.all("Content-Length").collect();
    let encodings: Vec<_> = headers.all("Transfer-Encoding").collect();
    let bad_length = lengths.iter().any(|v| v.is_empty() || v.len() > 18 || !v.iter().all(u8::is_ascii_digit));
    if lengths.len() > 1 || bad_length || encodings.len() > 1 || (!encodings.is_empty() && !lengths.is_empty()) {
        return Some(Answer::error(400));
    }
    if let [encoding] = encodings.as_slice()
        && !encoding.eq_ignore_ascii_case(b"chunked")
    {
        return Some(Answer::error(501).closing());
    }
    match head.request.method.as_slice() {
        b"TRACE" => return Some(Answer::error(405).closing()),
        b"CONNECT" => return Some(Answer::error(400)),
        _ => {}
    }
    // A path that leaves the root or is wrongly escaped is refused before the site is asked.
    path_of(&head.request.target).is_none().then(|| Answer::error(400))
}

fn plausible_host(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|b| b.is_ascii_graphic() && *b != b'/' && *b != b'\\')
}

/// The normalised path of a target: query cut, escapes decoded, dots resolved. `None`: 400.
pub(super) fn path_of(target: &[u8]) -> Option<Vec<u8>> {
    let mut rest = target;
    if !rest.starts_with(b"/") {
        let at = rest.windows(3).position(|part| part == b"://")?;
        rest = rest.get(at + 3..)?;
        rest = rest.iter().position(|b| matches!(b, b'/' | b'?')).and_then(|at| rest.get(at..)).unwrap_or(b"/");
        if rest.starts_with(b"?") {
            return Some(b"/".to_vec());
        }
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
    let page = match site.find(&path) {
        super::site::Found::Page(page) => page,
        super::site::Found::Directory => {
            let mut to = String::from_utf8_lossy(&path).into_owned();
            to.push('/');
            return Answer::of(301, Body::Redirect(to));
        }
        super::site::Found::Forbidden => return Answer::error(403),
        super::site::Found::Missing => return Answer::error(404),
    };
    if !matches!(head.request.method.as_slice(), b"GET" | b"HEAD") {
        return Answer::error(405);
    }
    if head.headers.get("If-Modified-Since").is_some_and(|since| since == date(page.modified_ns).as_bytes())
        || head.headers.get("If-None-Match").is_some_and(|tag| tag == format!("\"{}\"", page.etag()).as_bytes())
    {
        return Answer::of(304, Body::Nothing(page));
    }
    match head.headers.get("Range").map(|value| ranges(value, page.content.len())) {
        None | Some(Ranges::Ignore) => Answer::of(200, Body::Page(page)),
        Some(Ranges::Unsatisfiable) => {
            Answer { extra: vec![("Content-Range", format!("bytes */{}", page.content.len()))], ..Answer::of(416, Body::Special(None)) }
        }
        Some(Ranges::Parts(parts)) => Answer::of(206, Body::Parts(page, parts)),
    }
}

enum Ranges {
    Ignore,
    Unsatisfiable,
    Parts(Vec<(usize, usize)>),
}

/// Byte ranges (RFC 9110 §14.1.2) as nginx takes them: together no larger than the page, or ignored.
fn ranges(value: &[u8], size: usize) -> Ranges {
    let Some(list) = std::str::from_utf8(value).ok().and_then(|text| text.strip_prefix("bytes=")) else { return Ranges::Ignore };
    let mut parts = Vec::new();
    let mut total = 0usize;
    for item in list.split(',') {
        let Some((first, last)) = item.trim().split_once('-') else { return Ranges::Unsatisfiable };
        let (first, last) = (first.trim(), last.trim());
        let number = |text: &str| text.parse::<usize>().ok();
        let range = if first.is_empty() {
            let Some(count) = number(last) else { return Ranges::Unsatisfiable };
            (size.saturating_sub(count), size.saturating_sub(1))
        } else {
            let Some(start) = number(first) else { return Ranges::Unsatisfiable };
            let end = if last.is_empty() { Some(size.saturating_sub(1)) } else { number(last) };
            let Some(end) = end else { return Ranges::Unsatisfiable };
            if end < start {
                return Ranges::Unsatisfiable;
            }
            (start, end.min(size.saturating_sub(1)))
        };
        if range.0 < size && range.0 <= range.1 {
            total = total.saturating_add(range.1 - range.0 + 1);
            parts.push(range);
        }
        if parts.len() > 64 {
            return Ranges::Ignore;
        }
    }
    if parts.is_empty() {
        Ranges::Unsatisfiable
    } else if total > size {
        Ranges::Ignore
    } else {
        Ranges::Parts(parts)
    }
}

/// What stands at the start of a chunked body (RFC 9112 §7.1).
pub(super) enum Chunk {
    /// `data` bytes after `head` bytes; `whole` with the line end behind.
    Data { head: usize, data: usize, whole: usize },
    /// The last chunk and its trailer.
    End(usize),
    /// Not a chunk.
    Malformed,
    /// More bytes are needed.
    More,
}

/// Longest chunk taken.
const MAX_CHUNK: usize = 1 << 20;

pub(super) fn chunk(input: &[u8]) -> Chunk {
    let Some(end) = input.iter().take(256).position(|b| *b == b'\n') else {
        return if input.len() >= 256 { Chunk::Malformed } else { Chunk::More };
    };
    let line = input.get(..end).unwrap_or_default().trim_ascii();
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let Some(size) = size.filter(|size| *size <= MAX_CHUNK && !digits.starts_with(b"+")) else { return Chunk::Malformed };
    let head = end + 1;
    if size == 0 {
        let trailer = input.get(head..).unwrap_or_default();
        if let Some(after) = trailer.strip_prefix(b"\r\n").or_else(|| trailer.strip_prefix(b"\n")) {
            return Chunk::End(input.len() - after.len());
        }
        return match trailer.windows(4).position(|part| part == b"\r\n\r\n") {
            Some(at) => Chunk::End(head + at + 4),
            None if trailer.len() > 8192 => Chunk::Malformed,
            None => Chunk::More,
        };
    }
    match input.get(head + size..) {
        Some(rest) if rest.starts_with(b"\r\n") => Chunk::Data { head, data: size, whole: head + size + 2 },
        Some(rest) if rest.starts_with(b"\n") => Chunk::Data { head, data: size, whole: head + size + 1 },
        Some([] | [b'\r']) | None => Chunk::More,
        Some(_) => Chunk::Malformed,
    }
}
