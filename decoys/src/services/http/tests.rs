use super::super::find;
use super::body::{Chunk, chunk};
use super::site::Site;
use crate::testkit::Kit;
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SETTINGS: &str = "[pages]\n\"/files/readme.txt\" = \"nothing here\\n\"\n\"/data.bin\" = \"0123456789abcdefghijklmnopqrstuvwxyz\"\n";
/// What a connection that stays open answers too.
const NEXT: &[u8] = b"GET /the-next HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n";

/// The real server, ended when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx as Debian configures it, on loopback, with the pages of `site`.
async fn nginx(site: &Site) -> Nginx {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("html");
    for (path, page) in site.pages() {
        let file = root.join(std::str::from_utf8(path).unwrap().trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &page.content).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_nanos(page.modified_ns.try_into().unwrap());
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = dir.path().display();
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().map(|kind| format!("{kind}_temp_path {base}/{kind};\n")).collect();
    let mime = if Path::new("/etc/nginx/mime.types").exists() { "include /etc/nginx/mime.types;" } else { "" };
    let config = format!(
        "daemon off; master_process off; pid {base}/pid; error_log {base}/error.log;\nevents {{ worker_connections 256; }}\n\
         http {{ sendfile on; tcp_nopush on; types_hash_max_size 2048; {mime} default_type application/octet-stream; access_log off; gzip on;\n{temporary}\
         server {{ listen 127.0.0.1:{port} default_server; root {root}; index index.html index.htm index.nginx-debian.html; server_name _;\n\
         location / {{ try_files $uri $uri/ =404; }} }} }}\n",
        root = root.display()
    );
    std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let child = Command::new("/usr/sbin/nginx")
        .args(["-e", &format!("{base}/error.log"), "-p", &base.to_string(), "-c", &format!("{base}/nginx.conf")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the real nginx is needed to compare with: apt-get install nginx-light");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut nginx = Nginx { child, address, _dir: dir };
    let up = async {
        while TcpStream::connect(address).await.is_err() {
            assert!(nginx.child.try_wait().unwrap().is_none(), "nginx ended");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), up).await.expect("nginx does not listen");
    nginx
}

/// Everything answered to `request` until the close; the visitor closes its side at once.
async fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let request = request.to_vec();
    let writing = tokio::spawn(async move {
        // A server that has answered already may not read the rest.
        let _ = write.write_all(&request).await;
        let _ = write.shutdown().await;
        write
    });
    let mut answer = Vec::new();
    let reading = async {
        let mut buf = [0; 16384];
        while let Ok(n @ 1..) = read.read(&mut buf).await {
            answer.extend_from_slice(&buf[..n]);
        }
    };
    Box::pin(tokio::time::timeout(Duration::from_secs(30), reading)).await.expect("neither answer nor close");
    drop(writing.await);
    answer
}

/// Answers with what must differ made equal: dates, ports, boundaries, compressed bytes.
fn masked(answer: &[u8], address: SocketAddr) -> String {
    let mut text = String::new();
    let mut rest = answer;
    // Compressed bodies are compared by what they hold.
    while let Some(at) = find_in(rest, b"Content-Encoding: gzip\r\n") {
        let body = at + find_in(&rest[at..], b"\r\n\r\n").unwrap() + 4;
        text.push_str(&String::from_utf8_lossy(&rest[..body]));
        rest = &rest[body..];
        let mut packed = Vec::new();
        let mut chunks = 0;
        while let Chunk::Data { head, data } = chunk(rest) {
            let end = head + usize::try_from(data).unwrap();
            packed.extend_from_slice(&rest[head..end]);
            rest = &rest[end..];
            chunks += 1;
        }
        if let Chunk::End(whole) = chunk(rest) {
            rest = &rest[whole..];
        }
        if chunks > 0 {
            text.push_str(&format!("header {:02x?} ", &packed[..10]));
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        }
    }
    text.push_str(&String::from_utf8_lossy(rest));
    let text = text.replace(&format!(":{}", address.port()), ":PORT");
    let boundary = text.split_once("boundary=").map(|(_, rest)| rest.split('\r').next().unwrap().to_owned());
    let text = boundary.map_or(text.clone(), |boundary| {
        assert_eq!(boundary.len(), 20, "{boundary}");
        text.replace(&boundary, "BOUNDARY")
    });
    text.split("\r\n").map(|line| if line.starts_with("Date: ") { "Date: …" } else { line }).collect::<Vec<_>>().join("\r\n")
}

fn find_in(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|part| part == needle)
}

/// Every request of the comparison, by name.
fn requests() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, request: &[u8]| all.push((name.to_owned(), request.to_vec()));
    const CHROME: &str =
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\n";
    const MSIE: &str = "User-Agent: Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)\r\n";
    const MSIE6: &str = "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)\r\n";
    for method in [
        "GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "DELETE", "PROPFIND", "CONNECT", "PATCH", "FOO", "get", "G-T", "G_T", "MKCOL",
        "LOCK", "A", "COPY", "Get", "1GET", "GET1", "TRACEX",
    ] {
        for path in [
            "/",
            "/missing",
            "/data.bin",
            "/internal",
            "/files/",
            "/files",
            "*",
            "/missing/",
            "/index.html/",
            "/data.bin/x",
            "host:80",
            "host",
            "http://a/",
        ] {
            add(&format!("{method} {path}"), format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        }
        add(&format!("{method} /missing chrome"), format!("{method} /missing HTTP/1.1\r\nHost: a\r\n{CHROME}\r\n").as_bytes());
        add(&format!("{method} with a body"), format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").as_bytes());
        add(
            &format!("{method} to missing with a body"),
            format!("{method} /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").as_bytes(),
        );
        add(&format!("{method} 1.0"), format!("{method} / HTTP/1.0\r\n\r\n").as_bytes());
        add(&format!("{method} 0.9"), format!("{method} /\r\n").as_bytes());
    }
    for agent in [CHROME, MSIE, MSIE6] {
        for path in ["/", "/missing", "/internal", "/files/", "/%00", "/../x"] {
            add(&format!("{path} {agent}"), format!("GET {path} HTTP/1.1\r\nHost: a\r\n{agent}\r\n").as_bytes());
            add(&format!("{path} 1.0 {agent}"), format!("GET {path} HTTP/1.0\r\nHost: a\r\n{agent}\r\n").as_bytes());
            add(&format!("{path} close {agent}"), format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{agent}\r\n").as_bytes());
        }
        add(&format!("413 {agent}"), format!("POST / HTTP/1.1\r\nHost: a\r\n{agent}Content-Length: 2000000\r\n\r\n").as_bytes());
    }
    for line in [
        "GET / HTTP/1337",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/1.9",
        "GET / HTTP/1.10",
        "GET / HTTP/0.9",
        "GET / HTTP/3.0",
        "GET / HTTP/9.9",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/1",
        "GET / HTTP",
        "GET / HTTQ/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/1.1 ",
        "GET  /  HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\tHTTP/1.1",
        " GET / HTTP/1.1",
        "GET",
        "GET ",
        "/",
        "",
        "hello",
        "GET /%zz HTTP/1.1",
        "GET /%2 HTTP/1.1",
        "GET /%2e%2e/x HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "GET /internal/../ HTTP/1.1",
        "GET /internal/.. HTTP/1.1",
        "GET /./ HTTP/1.1",
        "GET //index.html HTTP/1.1",
        "GET /%69ndex.html HTTP/1.1",
        "GET /index.html%00 HTTP/1.1",
        "GET /%2findex.html HTTP/1.1",
        "GET /?a=b HTTP/1.1",
        "GET /index.html?../../x HTTP/1.1",
        "GET /index.html# HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /internal?x=y HTTP/1.1",
        "GET /internal#x HTTP/1.1",
        "GET /%69nternal HTTP/1.1",
        "GET //internal HTTP/1.1",
        "GET /a/%2e%2e HTTP/1.1",
        "GET http://other/ HTTP/1.1",
        "GET http://other/internal HTTP/1.1",
        "GET http://other HTTP/1.1",
        "GET http://other?x HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET ftp://other/ HTTP/1.1",
        "GET HTTP://OTHER/internal HTTP/1.1",
        "GET http://a:99/internal HTTP/1.1",
        "GET http://a:b/ HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://[::1]/internal HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET h2://x/ HTTP/1.1",
        "GET /index.html;x HTTP/1.1",
        "GET /\\..\\x HTTP/1.1",
        "GET /index.html. HTTP/1.1",
        "GET /.../ HTTP/1.1",
        "GET /INDEX.HTML HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /a%0d%0ab HTTP/1.1",
        "GET /internal%0d%0ax: HTTP/1.1",
        "GET /int%20ernal HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /files%2f HTTP/1.1",
        "GET /robots.txt HTTP/1.1",
        "GET /style.css HTTP/1.1",
        "GET /x/../internal HTTP/1.1",
        "GET /.git/config HTTP/1.1",
        "GET /+ HTTP/1.1",
        "GET /index.html/../ HTTP/1.1",
    ] {
        add(line, format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        add(&format!("{line} alone"), format!("{line}\r\n\r\n").as_bytes());
    }
    for headers in [
        "",
        "Host:",
        "Host: ",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a/b",
        "Host: a b",
        "Host: a\\b",
        "Host: a..b",
        "Host: .",
        "Host: ..a",
        "Host: a.",
        "Host: A",
        "Host: a:80",
        "Host: a:",
        "Host: a:x",
        "Host: :80",
        "Host: [::1]",
        "Host: [::1]:80",
        "Host: [::1",
        "Host: \u{1}",
        "Host: a\tb",
        "Host: \u{fc}",
        "Host: a@b",
        "Host: a,b",
        "Host: a_b",
        "Host: a%41",
        "host: a",
        "Host : a",
        "Host: a\r\nbad line",
        "Host: a\r\n: x",
        "Host: a\r\n folded: x",
        "Host: a\r\nX: a\r\n b",
        "Host: a\r\nX\tY: 1",
        "Host: a\r\nX Y: 1",
        "Host: a\r\nX_Y: 1",
        "Host: a\r\nX-\u{e9}: 1",
        "Host: a\r\nX: \u{1}",
        "Host: a\r\nX: a\u{0}b",
        "Host: a\r\nX\u{0}: b",
        "Host: a\r\n(x): b",
        "Host: a\r\nX\u{1}: b",
        "Host: a\r\nX:b",
        "Host: a\r\nX:",
        "Host: a\r\nX",
        "Host: a\r\nX\u{7f}: b",
        "Host: a\r\nConnection: close",
        "Host: a\r\nConnection: keep-alive",
        "Host: a\r\nConnection: Keep-Alive, x",
        "Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c",
        "Host: a\r\nConnection: not-close",
        "Host: a\r\nConnection: close, keep-alive",
        "Host: a\r\nConnection: keep-alive\r\nConnection: close",
        "Host: a\r\nKeep-Alive: 5",
        "Host: a\r\nContent-Length: 0",
        "Host: a\r\nContent-Length: -1",
        "Host: a\r\nContent-Length: x",
        "Host: a\r\nContent-Length: +1",
        "Host: a\r\nContent-Length:",
        "Host: a\r\nContent-Length: 0\r\nContent-Length: 0",
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 2",
        "Host: a\r\nContent-Length: 0, 0",
        "Host: a\r\nContent-Length: 1 1",
        "Host: a\r\nContent-Length: 99999999999999999999999",
        "Host: a\r\nContent-Length: 2000000",
        "Host: a\r\nContent-Length: 9223372036854775807",
        "Host: a\r\nContent-Length: 9223372036854775808",
        "Host: a\r\nContent-Length: 00000000000000000000000",
        "Host: a\r\nTransfer-Encoding: gzip",
        "Host: a\r\nTransfer-Encoding: identity",
        "Host: a\r\nTransfer-Encoding: chunked, gzip",
        "Host: a\r\nTransfer-Encoding:",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        "Host: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 3",
        "Host: a\r\nRange: bytes=0-9",
        "Host: a\r\nRange: bytes=0-0",
        "Host: a\r\nRange: bytes=-5",
        "Host: a\r\nRange: bytes=5-",
        "Host: a\r\nRange: bytes=9-5",
        "Host: a\r\nRange: bytes=99-",
        "Host: a\r\nRange: bytes=99-100",
        "Host: a\r\nRange: bytes=0-1,3-4",
        "Host: a\r\nRange: bytes=0-1, 3-4 , 6-7",
        "Host: a\r\nRange: bytes=0-1,99-100",
        "Host: a\r\nRange: bytes=0-30,0-30",
        "Host: a\r\nRange: bytes=-0",
        "Host: a\r\nRange: bytes=-99",
        "Host: a\r\nRange: bytes=",
        "Host: a\r\nRange: bytes=x",
        "Host: a\r\nRange: bytes",
        "Host: a\r\nRange: lines=0-1",
        "Host: a\r\nRange: bytes=0-99",
        "Host: a\r\nRange: BYTES=0-1",
        "Host: a\r\nRange: bytes= 0-1",
        "Host: a\r\nRange: bytes=0 - 1",
        "Host: a\r\nRange: bytes=0-1,",
        "Host: a\r\nRange: bytes=,0-1",
        "Host: a\r\nRange: bytes=0-99999999999999999999",
        "Host: a\r\nRange: bytes=0-1-2",
        "Host: a\r\nRange: bytes=--1",
        "Host: a\r\nRange: bytes=0-35",
        "Host: a\r\nRange: bytes=0-35,0-0",
        "Host: a\r\nRange: bytes=0-1\r\nIf-Range: \"x\"",
        "Host: a\r\nRange: bytes=0-1\r\nIf-Range: x",
        "Host: a\r\nRange: bytes=0-1\r\nIf-Range: Mon, 01 Jan 1990 00:00:00 GMT",
        "Host: a\r\nIf-Modified-Since: Mon, 01 Jan 1990 00:00:00 GMT",
        "Host: a\r\nIf-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",
        "Host: a\r\nIf-Modified-Since: x",
        "Host: a\r\nIf-Modified-Since: @MODIFIED",
        "Host: a\r\nIf-None-Match: @ETAG",
        "Host: a\r\nIf-None-Match: W/@ETAG",
        "Host: a\r\nIf-None-Match: *",
        "Host: a\r\nIf-None-Match: \"x\", @ETAG",
        "Host: a\r\nIf-None-Match: \"x\"",
        "Host: a\r\nIf-None-Match: \"x\"\r\nIf-Modified-Since: @MODIFIED",
        "Host: a\r\nIf-Match: \"x\"",
        "Host: a\r\nIf-Match: *",
        "Host: a\r\nIf-Match: @ETAG",
        "Host: a\r\nIf-Match: W/@ETAG",
        "Host: a\r\nIf-Unmodified-Since: Mon, 01 Jan 1990 00:00:00 GMT",
        "Host: a\r\nIf-Unmodified-Since: @MODIFIED",
        "Host: a\r\nIf-Unmodified-Since: x",
        "Host: a\r\nRange: bytes=0-1\r\nIf-Range: @ETAG",
        "Host: a\r\nRange: bytes=0-1\r\nIf-Range: @MODIFIED",
        "Host: a\r\nAccept-Encoding: gzip",
        "Host: a\r\nAccept-Encoding: gzip, deflate, br",
        "Host: a\r\nAccept-Encoding: gzip;q=0",
        "Host: a\r\nAccept-Encoding: deflate",
        "Host: a\r\nAccept-Encoding: GZIP",
        "Host: a\r\nAccept-Encoding: xgzip",
        "Host: a\r\nAccept-Encoding: x-gzip",
        "Host: a\r\nAccept-Encoding: *",
        "Host: a\r\nAccept-Encoding: gzip;q=0.5",
        "Host: a\r\nAccept-Encoding: gzip; q=0.000",
        "Host: a\r\nAccept-Encoding: gzip\r\nRange: bytes=0-9",
        "Host: a\r\nAccept-Encoding: gzip\r\nVia: 1.1 x",
        "Host: a\r\nAccept-Encoding: br, gzip",
        "Host: a\r\nAccept-Encoding: gzip;q=1",
        "Host: a\r\nAccept-Encoding: gzip\r\nIf-None-Match: W/@ETAG",
        "Host: a\r\nAccept-Encoding: gzip\r\nIf-None-Match: @ETAG",
        "Host: a\r\nExpect: 100-continue",
        "Host: a\r\nExpect: 100-continue\r\nContent-Length: 3",
        "Host: a\r\nExpect: x\r\nContent-Length: 3",
        "Host: a\r\nExpect: 100-continue\r\nContent-Length: 2000000",
        "Host: a\r\nAuthorization: Basic cm9vdDp0b29y",
        "Host: a\r\nAuthorization: x",
        "Host: a\r\nCookie: a=b",
        "Host: a\r\nX-Forwarded-For: 127.0.0.1",
        "Host: a\r\nDepth: infinity",
        "Host: a\r\nUser-Agent: a\r\nUser-Agent: b",
        "Host: a\r\nIf-Modified-Since: x\r\nIf-Modified-Since: y",
        "Host: a\r\nRange: bytes=0-1\r\nRange: bytes=2-3",
        "Host: a\r\nAuthorization: a\r\nAuthorization: b",
        "Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue",
        "Host: a\r\nUpgrade: websocket\r\nUpgrade: websocket",
        "Host: a\r\nReferer: x\r\nReferer: y",
        "Host: a\r\nContent-Type: x\r\nContent-Type: y",
        "Host: a\r\nIf-Range: x\r\nIf-Range: y",
        "Host: a\r\nAccept-Encoding: gzip\r\nAccept-Encoding: gzip",
        "Host: a\r\nVia: a\r\nVia: b",
        "Host: a\r\nKeep-Alive: 1\r\nKeep-Alive: 2",
        "Host: a\r\nIf-Match: *\r\nIf-Match: *",
        "Host: a\r\nIf-None-Match: *\r\nIf-None-Match: *",
        "Host: a\r\nIf-Unmodified-Since: x\r\nIf-Unmodified-Since: x",
    ] {
        for (method, path) in [("GET", "/data.bin"), ("GET", "/"), ("HEAD", "/"), ("GET", "/missing"), ("POST", "/"), ("GET", "/internal")]
        {
            for version in ["1.1", "1.0"] {
                let end = if headers.is_empty() { "" } else { "\r\n" };
                add(
                    &format!("{method} {path} {version} {headers}"),
                    format!("{method} {path} HTTP/{version}\r\n{headers}{end}\r\n").as_bytes(),
                );
            }
        }
    }
    for (name, body) in [
        ("whole", &b"5\r\nhello\r\n0\r\n\r\n"[..]),
        ("extension", b"5;x=y\r\nhello\r\n0\r\n\r\n"),
        ("trailer", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"),
        ("no digits", b"x\r\nhello\r\n0\r\n\r\n"),
        ("huge", b"fffffffffffffffff\r\nhello"),
        ("2 MB", b"1e8480\r\nhello"),
        ("bare LF", b"5\nhello\n0\n\n"),
        ("long", b"5\r\nhelloX\r\n0\r\n\r\n"),
        ("cut", b"5\r\nhel"),
        ("upper", b"A\r\nhellohello\r\n0\r\n\r\n"),
        ("space", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("leading space", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("empty size", b"\r\nhello\r\n0\r\n\r\n"),
        ("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("zeros", b"000\r\n\r\n"),
    ] {
        for path in ["/", "/missing"] {
            for method in ["POST", "GET"] {
                let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                add(&format!("{method} {path} chunked {name}"), &[head.as_bytes(), body].concat());
            }
        }
    }
    add("10 KiB URI", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_240)).as_bytes());
    for length in [1000, 1010, 1024, 4000, 8000, 8170, 8180, 8190, 8191, 8192, 8193, 8200, 9216, 20_000, 40_000] {
        add(&format!("line {length}"), format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 16)).as_bytes());
        add(&format!("header {length}"), format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(length - 5)).as_bytes());
        add(&format!("cookie {length}"), format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "a".repeat(length)).as_bytes());
    }
    for count in [10, 100, 99, 500, 999, 1000, 1001, 1500, 3000, 4000] {
        add(&format!("{count} headers"), format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count)).as_bytes());
    }
    for count in [2, 3, 4, 5, 6] {
        let line = format!("X: {}\r\n", "y".repeat(7000));
        add(&format!("{count} long headers"), format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line.repeat(count)).as_bytes());
    }
    add("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    add("SSH", b"SSH-2.0-OpenSSH_9.2\r\n");
    add("RDP", b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00");
    add("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    add("NUL in the path", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n");
    add("NUL first", b"\0\0\0\0");
    add("DEL in the path", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n");
    add("control in the path", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n");
    add("pipelined", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /missing HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    add("pipelined after a body", b"POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    add("pipelined 1.0", b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    add("bare LF", b"GET / HTTP/1.1\nHost: a\n\n");
    add("bare CR", b"GET / HTTP/1.1\rHost: a\r\r");
    add("mixed ends", b"GET / HTTP/1.1\nHost: a\r\n\n");
    add("CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n");
    add("leading blank lines", b"\r\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    add("blank lines between", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    add("0.9 and more", b"GET /\r\nHost: a\r\n\r\n");
    add("0.9 spaces", b"GET /  \r\n");
    add("0.9 missing", b"GET /missing\r\n");
    add("0.9 LF", b"GET /\n");
    add("cut in the line", b"GET / HT");
    add("cut in a header", b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    add("cut in the body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    add("cut in the body, missing", b"POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    add("nothing", b"");
    add("only blank lines", b"\r\n\r\n");
    add("Expect with a body", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc");
    add("Expect chunked", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    add("2 MB announced", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n");
    let body = vec![b'x'; 500_000];
    add("500 KB body", &[&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n"[..], &body].concat());
    all
}

/// Side by side with the real server: every answer and whether the connection stays open. A request
/// is sent alone and with another behind it, which only an open connection answers.
#[tokio::test]
async fn as_the_real_nginx() {
    let kit = Arc::new(Kit::new(find("http").unwrap(), SETTINGS).unwrap());
    let pages = SETTINGS.parse::<toml::Table>().unwrap()["pages"].clone().try_into::<BTreeMap<String, String>>().unwrap();
    let site = Site::new(&kit.decoy, None, &pages).unwrap();
    let real = nginx(&site).await;
    let ours = kit.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let index = site.pages().find(|(path, _)| *path == b"/index.html").unwrap().1.clone();
    let data = site.pages().find(|(path, _)| *path == b"/data.bin").unwrap().1.clone();
    let mut differences = Vec::new();
    let all = requests();
    let count = all.len();
    let mut compared = futures_util::stream::iter(all.into_iter().map(|(name, request)| {
        let page = if name.contains("/data.bin") { &data } else { &index };
        let request = replace(&request, b"@ETAG", format!("\"{}\"", page.etag()).as_bytes());
        let request = replace(&request, b"@MODIFIED", super::nginx::date(page.modified_ns).as_bytes());
        let address = real.address;
        async move {
            for behind in [&b""[..], NEXT] {
                let request = [&request[..], behind].concat();
                let (theirs, mine) = tokio::join!(ask(address, &request), ask(ours, &request));
                let (theirs, mine) = (masked(&theirs, address), masked(&mine, ours));
                if theirs != mine {
                    let also = if behind.is_empty() { "" } else { " (and another)" };
                    return Some(format!("=== {name:?}{also}\n--- nginx\n{theirs}\n--- ours\n{mine}\n"));
                }
            }
            None
        }
    }))
    .buffer_unordered(32);
    while let Some(difference) = compared.next().await {
        differences.extend(difference);
    }
    kit.cancel.cancel();
    assert!(differences.is_empty(), "{} of {count} answers differ:\n{}", differences.len(), differences.join("\n"));
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match find_in(text, from) {
        Some(at) => [&text[..at], to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}
