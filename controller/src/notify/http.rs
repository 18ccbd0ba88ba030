//! One POST over HTTP/1.1 (RFC 9112), and the status of its answer. Nothing else of HTTP: no redirects,
//! no proxies, no connection kept.

use super::tls;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The whole exchange.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of the answer looked at.
const MAX_HEAD: usize = 1_024;

/// Where to post to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Url {
    /// Reads `http[s]://host[:port][/path]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not https://host[:port]/path");
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !plain || authority.contains(['@', '?', '#']) || path.contains('#') {
            return Err(wrong());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
            None if port.is_empty() => {
                if secure {
                    443
                } else {
                    80
                }
            }
            None => return Err(wrong()),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { secure, host: host.to_owned(), port, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
    }
}

/// Posts `body`; answers the status.
pub(super) async fn post(url: &Url, tls: Option<&TlsConnector>, headers: &[(&str, &str)], body: &[u8]) -> Result<u16, String> {
    let exchange = async {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| format!("cannot connect: {error}"))?;
        match tls.filter(|_| url.secure) {
            Some(connector) => speak(&mut tls::connect(connector, &url.host, stream).await?, url, headers, body).await,
            None if url.secure => Err("no certificates to trust".to_owned()),
            None => speak(&mut { stream }, url, headers, body).await,
        }
    };
    tokio::time::timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, url: &Url, headers: &[(&str, &str)], body: &[u8]) -> Result<u16, String> {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let mut request =
        format!("POST {} HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\nContent-Length: {}\r\n", url.path, url.port, body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut whole = request.into_bytes();
    whole.extend_from_slice(body);
    let failed = |error: std::io::Error| format!("connection broke: {error}");
    stream.write_all(&whole).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut head = Vec::new();
    let mut part = [0u8; 256];
    while head.len() < MAX_HEAD && !head.contains(&b'\n') {
        match stream.read(&mut part).await.map_err(failed)? {
            0 => break,
            n => head.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
    }
    status(&head).ok_or_else(|| "the answer is not HTTP".to_owned())
}

/// The status of a status line (RFC 9112 §4).
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.trim_end().split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |secure, host: &str, port, path: &str| Ok(Url { secure, host: host.into(), port, path: path.into() });
        assert_eq!(Url::parse("https://hooks.example/a?b=1"), url(true, "hooks.example", 443, "/a?b=1"));
        assert_eq!(Url::parse("http://10.0.0.1:8080"), url(false, "10.0.0.1", 8080, "/"));
        assert_eq!(Url::parse("https://[fd00::1]:8443/x"), url(true, "fd00::1", 8443, "/x"));
        for bad in [
            "",
            "ftp://x/",
            "https://",
            "https://a b/",
            "https://u@h/",
            "http://h:0/",
            "http://h:x/",
            "http://[::1/",
            "http://h/#x",
            "http://h\r\n/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 500\r\n"), Some(500));
        for bad in
            [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 999 x\r\n", b"HTTP/1.1 2000 x\r\n", b"\xff\n"]
        {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}
