//! HTTP/0.9–1.x heads (RFC 9112) from the raw bytes of a stream, byte by byte like a real server:
//! a wrong byte is malformed as soon as it is there, not when its line ends.
//!
//! Everything is kept as sent, with the facts a server needs to behave like nginx. It reads no
//! bodies, decodes no escapes and decides nothing about the request.

use crate::reader::{ParseError, Parsed};

/// `what` of a request line longer than [`Rules::line`] (nginx: 414).
pub const LINE_TOO_LONG: &str = "HTTP line too long";
/// `what` of a header line longer than [`Rules::line`] or a head longer than [`Rules::head`] (nginx: 400).
pub const HEAD_TOO_LONG: &str = "HTTP head too long";
/// `what` of more than [`Rules::headers`] header lines.
pub const TOO_MANY_HEADERS: &str = "too many HTTP headers";
/// `what` of a well-formed version that does not exist (nginx: 505).
pub const VERSION_UNKNOWN: &str = "HTTP version";

/// Bounds and strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Longest line in bytes, its end included.
    pub line: usize,
    /// Longest head in bytes, the empty line included.
    pub head: usize,
    /// Most header lines.
    pub headers: usize,
    /// Refuse what nginx refuses: methods other than `A-Z_-`, targets that are neither a path nor an
    /// absolute URI, spaces in targets, control bytes, folded lines, major versions above 1.
    pub strict: bool,
}

impl Rules {
    /// nginx with its default buffers (four of 8 KiB).
    pub const fn nginx() -> Self {
        Self { line: 8_192, head: 32_768, headers: 1_000, strict: true }
    }

    /// For watching: takes what anybody's server might take, within 64 KiB.
    pub const fn lenient() -> Self {
        Self { line: 16_384, head: 65_536, headers: 1_000, strict: false }
    }
}

/// Version of a request or response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// None given: HTTP/0.9, a request of one line.
    Missing,
    /// `HTTP/major.minor`.
    Http(u16, u16),
}

/// The first line of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The whole line as sent, without its end.
    pub line: Vec<u8>,
    /// Method.
    pub method: Vec<u8>,
    /// Target.
    pub target: Vec<u8>,
    /// Version.
    pub version: Version,
    /// Bytes of empty lines skipped before it.
    pub skipped: usize,
    /// The line ended in LF without CR.
    pub bare_lf: bool,
}

/// One header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, case as sent.
    pub name: Vec<u8>,
    /// Value without the spaces around it; a folded one with its line ends and indents as sent.
    pub value: Vec<u8>,
    /// Offset of the name in the stream.
    pub offset: usize,
    /// Whether the line has a colon.
    pub colon: bool,
    /// Whether the value goes on over following lines (obs-fold).
    pub folded: bool,
}

impl Header {
    /// Whether the name is `name`, case aside.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether nginx would use the line: letters, digits and hyphens only (`ignore_invalid_headers`,
    /// `underscores_in_headers off`); others it silently drops.
    pub fn nginx_keeps(&self) -> bool {
        !self.name.is_empty() && self.name.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-')
    }
}

/// Header lines up to the empty line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// In order, duplicates included.
    pub list: Vec<Header>,
    /// At least one line ended in LF without CR.
    pub bare_lf: bool,
}

impl Headers {
    /// Value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.list.iter().find(|h| h.is(name)).map(|h| h.value.as_slice())
    }

    /// Values of all headers of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |h| h.is(name)).map(|h| h.value.as_slice())
    }
}

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// First line.
    pub request: RequestLine,
    /// Headers; none for HTTP/0.9.
    pub headers: Headers,
}

/// A response's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The whole first line as sent, without its end.
    pub line: Vec<u8>,
    /// Version.
    pub version: Version,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: Vec<u8>,
    /// Headers.
    pub headers: Headers,
}

/// Reads a request's first line, after any empty lines.
pub fn request_line(input: &[u8], rules: &Rules) -> Parsed<RequestLine> {
    let mut scan = Scan { input, at: 0 };
    match read_request_line(&mut scan, rules) {
        Ok(value) => Parsed::Done { value, used: scan.at },
        Err(stop) => stop.into(),
    }
}

/// Reads the header lines that start at `from` of the stream; `used` counts from the stream's start
/// and ends after the empty line.
pub fn headers(input: &[u8], from: usize, rules: &Rules) -> Parsed<Headers> {
    let mut scan = Scan { input, at: from };
    match read_headers(&mut scan, rules) {
        Ok(value) => Parsed::Done { value, used: scan.at },
        Err(stop) => stop.into(),
    }
}

/// Reads a whole request head. A request without version is complete with its first line.
pub fn request_head(input: &[u8], rules: &Rules) -> Parsed<RequestHead> {
    let mut scan = Scan { input, at: 0 };
    let result = read_request_line(&mut scan, rules).and_then(|request| {
        let headers = if request.version == Version::Missing { Headers::default() } else { read_headers(&mut scan, rules)? };
        Ok(RequestHead { request, headers })
    });
    match result {
        Ok(value) => Parsed::Done { value, used: scan.at },
        Err(stop) => stop.into(),
    }
}

/// Reads a whole response head.
pub fn response_head(input: &[u8], rules: &Rules) -> Parsed<ResponseHead> {
    let mut scan = Scan { input, at: 0 };
    match read_response(&mut scan, rules) {
        Ok(value) => Parsed::Done { value, used: scan.at },
        Err(stop) => stop.into(),
    }
}

/// Why reading stopped.
enum Stop {
    Incomplete,
    Malformed(ParseError),
}

impl<T> From<Stop> for Parsed<T> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Incomplete => Self::Incomplete { needed: 1 },
            Stop::Malformed(e) => e.into(),
        }
    }
}

fn wrong(offset: usize, what: &'static str) -> Stop {
    Stop::Malformed(ParseError::new(offset, what))
}

/// A position in the stream; reading past the end means more bytes are needed.
struct Scan<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Result<u8, Stop> {
        self.input.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn skip_spaces(&mut self, limit: usize, what: &'static str) -> Result<(), Stop> {
        while self.peek()? == b' ' {
            self.step(limit, what)?;
        }
        Ok(())
    }

    /// One byte on, refusing to stand at `limit`.
    fn step(&mut self, limit: usize, what: &'static str) -> Result<(), Stop> {
        self.at = self.at.saturating_add(1);
        if self.at >= limit { Err(wrong(limit, what)) } else { Ok(()) }
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    /// Consumes LF or CR LF at the current position; says whether it was LF alone. A line that ends
    /// beyond `limit` is `too_long`.
    fn line_end(&mut self, limit: usize, too_long: &'static str) -> Result<bool, Stop> {
        if self.peek()? == b'\n' {
            self.at = self.at.saturating_add(1);
            return Ok(true);
        }
        let after = self.at.saturating_add(1);
        if after >= limit {
            return Err(wrong(limit, too_long));
        }
        match self.input.get(after) {
            None => Err(Stop::Incomplete),
            Some(b'\n') => {
                self.at = after.saturating_add(1);
                Ok(false)
            }
            Some(_) => Err(wrong(after, "CR without LF")),
        }
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn read_request_line(scan: &mut Scan<'_>, rules: &Rules) -> Result<RequestLine, Stop> {
    const METHOD: &str = "HTTP method";
    while matches!(scan.peek()?, b'\r' | b'\n') {
        scan.step(rules.head, LINE_TOO_LONG)?;
    }
    let start = scan.at;
    let limit = start.saturating_add(rules.line);
    loop {
        match scan.peek()? {
            b' ' if scan.at > start => break,
            b if (if rules.strict { b.is_ascii_uppercase() || b == b'_' || b == b'-' } else { is_token(b) }) => {
                scan.step(limit, LINE_TOO_LONG)?;
            }
            _ => return Err(wrong(scan.at, METHOD)),
        }
    }
    let method = scan.since(start).to_vec();
    scan.skip_spaces(limit, LINE_TOO_LONG)?;
    let target_at = scan.at;
    read_target(scan, limit, rules)?;
    let target = scan.since(target_at).to_vec();
    scan.skip_spaces(limit, LINE_TOO_LONG)?;
    let version = match scan.peek()? {
        b'\r' | b'\n' => Version::Missing,
        _ => read_version(scan, limit, rules)?,
    };
    scan.skip_spaces(limit, LINE_TOO_LONG)?;
    if !matches!(scan.peek()?, b'\r' | b'\n') {
        return Err(wrong(scan.at, "bytes after the HTTP version"));
    }
    let line = scan.since(start).to_vec();
    let bare_lf = scan.line_end(limit, LINE_TOO_LONG)?;
    Ok(RequestLine { line, method, target, version, skipped: start, bare_lf })
}

/// Leaves the scan on the byte after the target.
fn read_target(scan: &mut Scan<'_>, limit: usize, rules: &Rules) -> Result<(), Stop> {
    const TARGET: &str = "HTTP request target";
    let start = scan.at;
    if rules.strict && scan.peek()? != b'/' {
        // An absolute URI: scheme "://".
        while scan.peek()?.is_ascii_alphabetic() || (scan.at > start && matches!(scan.peek()?, b'0'..=b'9' | b'+' | b'-' | b'.')) {
            scan.step(limit, LINE_TOO_LONG)?;
        }
        if scan.at == start {
            return Err(wrong(scan.at, TARGET));
        }
        for expected in *b"://" {
            if scan.peek()? != expected {
                return Err(wrong(scan.at, TARGET));
            }
            scan.step(limit, LINE_TOO_LONG)?;
        }
    }
    loop {
        match scan.peek()? {
            b' ' if rules.strict || starts_version(scan)? => break,
            b'\r' | b'\n' => break,
            0 => return Err(wrong(scan.at, TARGET)),
            1..=0x1f | 0x7f if rules.strict => return Err(wrong(scan.at, TARGET)),
            _ => scan.step(limit, LINE_TOO_LONG)?,
        }
    }
    if scan.at == start { Err(wrong(scan.at, TARGET)) } else { Ok(()) }
}

/// Whether the spaces at the scan's position lead to `HTTP/` or the end of the line, rather than to
/// more of a target with spaces in it.
fn starts_version(scan: &Scan<'_>) -> Result<bool, Stop> {
    let rest = scan.input.get(scan.at..).unwrap_or_default();
    let after = rest.iter().position(|&b| b != b' ').and_then(|n| rest.get(n..)).ok_or(Stop::Incomplete)?;
    if matches!(after.first(), Some(b'\r' | b'\n')) {
        return Ok(true);
    }
    let same = after.iter().zip(b"HTTP/").take_while(|(a, b)| a == b).count();
    if same < 5 && same == after.len() { Err(Stop::Incomplete) } else { Ok(same == 5) }
}

fn read_version(scan: &mut Scan<'_>, limit: usize, rules: &Rules) -> Result<Version, Stop> {
    const WHAT: &str = "HTTP version syntax";
    let start = scan.at;
    for &expected in b"HTTP/" {
        if scan.peek()? != expected {
            return Err(wrong(scan.at, WHAT));
        }
        scan.step(limit, LINE_TOO_LONG)?;
    }
    let major = read_number(scan, limit, WHAT)?;
    if rules.strict && major == 0 {
        return Err(wrong(scan.at.saturating_sub(1), WHAT));
    }
    if scan.peek()? != b'.' {
        return Err(wrong(scan.at, WHAT));
    }
    scan.step(limit, LINE_TOO_LONG)?;
    let minor = read_number(scan, limit, WHAT)?;
    if rules.strict && major > 1 {
        return Err(wrong(start.saturating_add(5), VERSION_UNKNOWN));
    }
    Ok(Version::Http(major, minor))
}

/// One to three digits; leaves the scan on the byte after.
fn read_number(scan: &mut Scan<'_>, limit: usize, what: &'static str) -> Result<u16, Stop> {
    let start = scan.at;
    let mut value: u16 = 0;
    while let digit @ b'0'..=b'9' = scan.peek()? {
        if scan.at.saturating_sub(start) == 3 {
            return Err(wrong(scan.at, what));
        }
        value = value.saturating_mul(10).saturating_add(u16::from(digit.saturating_sub(b'0')));
        scan.step(limit, LINE_TOO_LONG)?;
    }
    if scan.at == start { Err(wrong(start, what)) } else { Ok(value) }
}

fn read_headers(scan: &mut Scan<'_>, rules: &Rules) -> Result<Headers, Stop> {
    let mut headers = Headers::default();
    loop {
        if matches!(scan.peek()?, b'\r' | b'\n') {
            if scan.at >= rules.head {
                return Err(wrong(rules.head, HEAD_TOO_LONG));
            }
            headers.bare_lf |= scan.line_end(rules.head, HEAD_TOO_LONG)?;
            return Ok(headers);
        }
        if headers.list.len() >= rules.headers {
            return Err(wrong(scan.at, TOO_MANY_HEADERS));
        }
        let header = read_header(scan, rules, &mut headers.bare_lf)?;
        headers.list.push(header);
    }
}

fn read_header(scan: &mut Scan<'_>, rules: &Rules, bare_lf: &mut bool) -> Result<Header, Stop> {
    const NAME: &str = "HTTP header name";
    const VALUE: &str = "HTTP header value";
    let offset = scan.at;
    let limit = offset.saturating_add(rules.line).min(rules.head);
    let colon = loop {
        match scan.peek()? {
            b':' if scan.at > offset => break true,
            b'\r' | b'\n' => break false,
            0 | b':' => return Err(wrong(scan.at, NAME)),
            b' ' | b'\t' if scan.at == offset => return Err(wrong(scan.at, NAME)), // folds nothing
            0x01..=0x20 | 0x7f if rules.strict => return Err(wrong(scan.at, NAME)),
            _ => scan.step(limit, HEAD_TOO_LONG)?,
        }
    };
    let name = scan.since(offset).to_vec();
    if colon {
        scan.step(limit, HEAD_TOO_LONG)?;
    }
    let value_at = scan.at;
    let mut folded = false;
    loop {
        while !matches!(scan.peek()?, b'\r' | b'\n') {
            if scan.peek()? == 0 {
                return Err(wrong(scan.at, VALUE));
            }
            scan.step(limit, HEAD_TOO_LONG)?;
        }
        let end = scan.at;
        *bare_lf |= scan.line_end(limit, HEAD_TOO_LONG)?;
        // Whether the value goes on can only be told from the next byte; nginx does not fold.
        if !rules.strict && colon && matches!(scan.peek()?, b' ' | b'\t') && scan.at < limit {
            folded = true;
            continue;
        }
        let value = scan.input.get(value_at..end).unwrap_or_default().trim_ascii().to_vec();
        return Ok(Header { name, value, offset, colon, folded });
    }
}

fn read_response(scan: &mut Scan<'_>, rules: &Rules) -> Result<ResponseHead, Stop> {
    const STATUS: &str = "HTTP status";
    let lenient = Rules { strict: false, ..*rules };
    let limit = rules.line;
    let version = read_version(scan, limit, &lenient)?;
    if scan.peek()? != b' ' {
        return Err(wrong(scan.at, STATUS));
    }
    scan.skip_spaces(limit, LINE_TOO_LONG)?;
    let status_at = scan.at;
    let status = read_number(scan, limit, STATUS)?;
    if scan.at.saturating_sub(status_at) != 3 {
        return Err(wrong(scan.at, STATUS));
    }
    if !matches!(scan.peek()?, b' ' | b'\r' | b'\n') {
        return Err(wrong(scan.at, STATUS));
    }
    let reason_at = scan.at;
    while !matches!(scan.peek()?, b'\r' | b'\n') {
        scan.step(limit, LINE_TOO_LONG)?;
    }
    let line = scan.since(0).to_vec();
    let reason = scan.since(reason_at).trim_ascii().to_vec();
    let bare_lf = scan.line_end(limit, LINE_TOO_LONG)?;
    let mut headers = read_headers(scan, &lenient)?;
    headers.bare_lf |= bare_lf;
    Ok(ResponseHead { line, version, status, reason, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: Rules = Rules::nginx();
    const LENIENT: Rules = Rules::lenient();

    fn request(input: &[u8], rules: &Rules) -> (RequestHead, usize) {
        match request_head(input, rules) {
            Parsed::Done { value, used } => (value, used),
            other => panic!("{other:?}"),
        }
    }

    fn fault(input: &[u8], rules: &Rules) -> ParseError {
        match request_head(input, rules) {
            Parsed::Malformed { offset, what } => ParseError::new(offset, what),
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(input)),
        }
    }

    #[test]
    fn a_request_keeps_everything() {
        let input = b"GET /a?b=%00 HTTP/1.1\r\nHost: decoy\r\nX-oDD:\t v  \r\nhost:two\r\n\r\nbody";
        let (head, used) = request(input, &NGINX);
        assert_eq!(used, input.len() - 4);
        assert_eq!(head.request.line, b"GET /a?b=%00 HTTP/1.1");
        assert_eq!((head.request.method.as_slice(), head.request.target.as_slice()), (b"GET".as_slice(), b"/a?b=%00".as_slice()));
        assert_eq!((head.request.version, head.request.bare_lf, head.request.skipped), (Version::Http(1, 1), false, 0));
        assert_eq!(head.headers.all("HOST").collect::<Vec<_>>(), [b"decoy".as_slice(), b"two"]);
        assert_eq!((head.headers.list[1].name.as_slice(), head.headers.list[1].offset), (b"X-oDD".as_slice(), 36));
        assert_eq!(head.headers.get("x-odd"), Some(b"v".as_slice()));
        for rules in [NGINX, LENIENT] {
            for cut in 0..used {
                assert!(matches!(request_head(&input[..cut], &rules), Parsed::Incomplete { needed: 1 }), "{cut}");
            }
        }
    }

    #[test]
    fn tolerated_oddities_are_facts() {
        let (head, _) = request(b"\r\n\nGET   http://x/  HTTP/1.0  \nA: b\r\n\n", &NGINX);
        assert_eq!((head.request.skipped, head.request.bare_lf, head.headers.bare_lf), (3, true, true));
        assert_eq!(head.request.target, b"http://x/");
        assert_eq!(head.request.line, b"GET   http://x/  HTTP/1.0  ");

        let (head, used) = request(b"GET /\r\nHost: x\r\n\r\n", &NGINX);
        assert_eq!((head.request.version, used, head.headers.list.len()), (Version::Missing, 7, 0));

        let (head, _) = request(b"GET / HTTP/1.1\r\nfoo\r\nx_y: 1\r\n\r\n", &NGINX);
        assert!(!head.headers.list[0].colon && head.headers.list[0].nginx_keeps());
        assert!(!head.headers.list[1].nginx_keeps());

        let (head, _) = request(b"G$T a b HTTP/9.9\r\nA: b\r\n  c\r\nD: e\r\n\r\n", &LENIENT);
        assert_eq!((head.request.target.as_slice(), head.request.version), (b"a b".as_slice(), Version::Http(9, 9)));
        assert_eq!((head.headers.list[0].value.as_slice(), head.headers.list[0].folded), (b"b\r\n  c".as_slice(), true));
        assert_eq!(head.headers.list.len(), 2);
        let (head, _) = request(b"OPTIONS * HTTP/1.1\r\n\r\n", &LENIENT);
        assert_eq!(head.request.target, b"*");
    }

    #[test]
    fn the_first_wrong_byte_is_named_at_once() {
        let cases: &[(&[u8], usize)] = &[
            (b"\x16\x03\x01", 0),
            (b"get", 0),
            (b"GET\r", 3),
            (b" GET", 0),
            (b"GET x\r", 5),
            (b"OPTIONS *", 8),
            (b"CONNECT a:4", 10),
            (b"GET /\0", 5),
            (b"GET /\x01", 5),
            (b"GET /a b", 7),
            (b"GET / HTTX", 9),
            (b"GET / HTTP/x", 11),
            (b"GET / HTTP/0.", 11),
            (b"GET / HTTP/1.1x", 14),
            (b"GET / HTTP/1.1\rx", 15),
            (b"GET / HTTP/1.1\r\nA b", 17),
            (b"GET / HTTP/1.1\r\n:", 16),
            (b"GET / HTTP/1.1\r\n A", 16),
            (b"GET / HTTP/1.1\r\nA: b\r\n c", 22),
            (b"GET / HTTP/1.1\r\nA: \0", 19),
            (b"GET / HTTP/1.1\r\nA: b\rc", 21),
        ];
        for (input, offset) in cases {
            assert_eq!(fault(input, &NGINX).offset, *offset, "{}", String::from_utf8_lossy(input));
            for cut in 0..*offset {
                assert!(matches!(request_head(&input[..cut], &NGINX), Parsed::Incomplete { .. }), "{input:?} {cut}");
            }
        }
        assert_eq!(fault(b"GET / HTTP/2.0\r\n\r\n", &NGINX), ParseError::new(11, VERSION_UNKNOWN));
    }

    #[test]
    fn limits_hold() {
        let rules = Rules { line: 20, head: 60, headers: 2, strict: true };
        assert_eq!(fault(&[b"GET /".as_slice(), &[b'a'; 100]].concat(), &rules), ParseError::new(20, LINE_TOO_LONG));
        for (target, fits) in [("/aaaa", true), ("/aaaaa", false)] {
            for end in ["\r\n", " \n"] {
                let parsed = request_line(format!("GET {target} HTTP/1.1{end}").as_bytes(), &rules);
                assert_eq!(matches!(parsed, Parsed::Done { used: 20, .. }), fits, "{parsed:?}");
                assert_eq!(parsed.error(), (!fits).then_some(ParseError::new(20, LINE_TOO_LONG)));
            }
        }
        for end in ["\r\n", "\n"] {
            let exact = format!("GET / HTTP/1.1\r\nA:34567890123456789\n{end}");
            let head = |head| request_head(exact.as_bytes(), &Rules { head, ..rules });
            assert!(matches!(head(exact.len()), Parsed::Done { .. }));
            assert_eq!(head(exact.len() - 1).error(), Some(ParseError::new(exact.len() - 1, HEAD_TOO_LONG)));
        }
        let line = b"GET / HTTP/1.1\r\n";
        assert_eq!(fault(&[line.as_slice(), &[b'a'; 100]].concat(), &rules), ParseError::new(36, HEAD_TOO_LONG));
        assert_eq!(fault(&[line.as_slice(), b"A:1\r\nB:2\r\nC:3\r\n\r\n"].concat(), &rules), ParseError::new(26, TOO_MANY_HEADERS));
        let rules = Rules { line: 20, head: 30, headers: 9, strict: true };
        assert_eq!(fault(&[line.as_slice(), b"A:1234\r\nB:12345678\r\n\r\n"].concat(), &rules).what, HEAD_TOO_LONG);
        assert_eq!(fault(&[b'\n'; 100], &rules), ParseError::new(30, LINE_TOO_LONG));
    }

    #[test]
    fn responses() {
        let input = b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n<html>";
        let Parsed::Done { value, used } = response_head(input, &LENIENT) else { panic!() };
        assert_eq!((used, value.status, value.reason.as_slice()), (input.len() - 6, 404, b"Not Found".as_slice()));
        assert_eq!(value.headers.get("server"), Some(b"nginx".as_slice()));
        assert_eq!(response_head(b"HTTP/1.0 200\r\n\r\n", &LENIENT).done().unwrap().reason, b"");
        assert_eq!(response_head(b"HTTP/1.0 20 x", &LENIENT).error().unwrap().offset, 11);
        assert_eq!(response_head(b"ICY 200", &LENIENT).error().unwrap().offset, 0);
    }
}
