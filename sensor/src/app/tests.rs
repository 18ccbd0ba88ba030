//! Tests of the parsers over whole conversations: what they say, that cuts do not matter, and that
//! nothing hostile makes them panic, hold too much or complain twice.

use super::*;
use crate::app::Speaker::{Destination as D, Source as S};
use glasshive_event::observation::{Certificate, TlsServer};
use proptest::prelude::*;

type Talk = Vec<(Speaker, Vec<u8>)>;

fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

/// Says a talk in pieces as `cut` gives their lengths.
fn say(talk: &Talk, mut cut: impl FnMut() -> usize) -> (Vec<Fact>, Application) {
    let (at, mut conversation, mut facts, mut offsets) = (Timestamp(0), Conversation::new(6, 0), Vec::new(), [0_u64; 2]);
    for (from, bytes) in talk {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(cut().clamp(1, rest.len()));
            let offset = &mut offsets[*from as usize];
            conversation.bytes(at, *from, *offset, piece, &mut facts);
            *offset += piece.len() as u64;
            assert!(conversation.held() <= 2 * side::LIMIT, "{} held", conversation.held());
            rest = later;
        }
    }
    conversation.finish(at, &mut facts);
    assert_eq!(conversation.held(), 0);
    (facts, conversation.application().cloned().unwrap_or_default())
}

fn whole(talk: &Talk) -> (Vec<Fact>, Application) {
    say(talk, || usize::MAX)
}

/// The facts as short words, in order.
fn words(facts: &[Fact]) -> Vec<String> {
    facts
        .iter()
        .map(|fact| match fact {
            Fact::Identified(f) => format!("{}{}", f.protocol, if f.both { "+" } else { "" }),
            Fact::Carried(f) => format!("{}/{}{}", f.inside, f.protocol, if f.both { "+" } else { "" }),
            Fact::StartTls(f) => format!("starttls {:?} {} {}", f.offered, f.asked, f.started),
            Fact::ClearLogin(f) => format!("login {}", f.scheme),
            Fact::TlsClient(f) => format!("client {:04x}", f.version),
            Fact::TlsServer(f) => format!("server {:04x}", f.version),
            Fact::Certificate(f) => format!("certificate {}", f.subject),
            Fact::SshAgreed(f) => format!("ssh {} {}", f.kex, f.ciphers[0]),
            Fact::HttpRequest(f) => format!("{} {}", f.method.shown(), f.target.shown()),
            Fact::HttpResponse(f) => format!("{}", f.status),
            Fact::Dns(f) => format!("{} {} {}", if f.response { "answer" } else { "question" }, f.name.shown(), f.qtype),
            Fact::Malformed(f) => format!("malformed {} {} at {}", f.protocol, f.what, f.offset),
            other => format!("{other:?}"),
        })
        .collect()
}

fn check(talk: &Talk, expected: &[&str]) {
    assert_eq!(words(&whole(talk).0), expected);
}

fn v8(body: &[u8]) -> Vec<u8> {
    [&[body.len() as u8], body].concat()
}
fn v16(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}
fn v24(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[1..], body].concat()
}
fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), v16(body)].concat()
}
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind], v24(body)].concat()
}
/// Handshake messages in records of at most `size` bytes.
fn records(messages: &[Vec<u8>], size: usize) -> Vec<u8> {
    messages.concat().chunks(size).flat_map(|part| [&[22, 3, 1][..], &v16(part)].concat()).collect()
}

fn client_hello(versions: &[u8]) -> Vec<u8> {
    let mut list = [
        extension(0, &v16(&[&[0][..], &v16(b"decoy.example")].concat())),
        extension(10, &v16(&[0, 29, 0, 23])),
        extension(16, &v16(b"\x02h2\x08http/1.1")),
    ]
    .concat();
    if !versions.is_empty() {
        list.extend(extension(43, &v8(versions)));
    }
    let body = [&[3, 3][..], &[7; 32], &v8(&[1; 32]), &v16(&[0x13, 1, 0xc0, 0x2f]), &v8(&[0]), &v16(&list)].concat();
    message(1, &body)
}

fn server_hello(random: &[u8; 32], cipher: [u8; 2], list: &[u8]) -> Vec<u8> {
    message(2, &[&[3, 3][..], random, &v8(&[]), &cipher, &[0], &v16(list)].concat())
}

fn der() -> Vec<u8> {
    rcgen::generate_simple_self_signed(vec!["decoy.example".to_owned()]).unwrap().cert.der().to_vec()
}

fn tls12(size: usize) -> Talk {
    let mut random = [9; 32];
    random[24..].copy_from_slice(b"DOWNGRD\x01");
    let exchange = [&[3, 0, 23][..], &v8(&[4; 65]), &[4, 1], &v16(&[5; 256])].concat();
    let flight = [
        server_hello(&random, [0xc0, 0x2f], &extension(0xff01, &[0])),
        message(11, &v24(&v24(&der()))),
        message(12, &exchange),
        message(14, &[]),
    ];
    vec![
        (S, records(&[client_hello(&[])], size)),
        (D, records(&flight, size)),
        (S, [records(&[message(16, &[6; 66])], size), vec![20, 3, 3, 0, 1, 1], vec![22, 3, 3, 0, 2, 0xde, 0xad]].concat()),
        (D, vec![20, 3, 3, 0, 1, 1, 22, 3, 3, 0, 2, 0xbe, 0xef, 23, 3, 3, 0, 1, 9]),
    ]
}

const TLS12: &[&str] = &["tls", "client 0303", "tls+", "server 0303", "certificate CN=rcgen self signed cert"];

fn tls13_retry() -> Talk {
    let retry = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
        0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let version = extension(43, &[3, 4]);
    let share = [&version[..], &extension(51, &[&[0, 29][..], &v16(&[8; 32])].concat())].concat();
    let asked = [&version[..], &extension(51, &[0, 29])].concat();
    vec![
        (S, records(&[client_hello(&[3, 4, 3, 3])], 16_384)),
        (D, [records(&[server_hello(&retry, [0x13, 1], &asked)], 16_384), vec![20, 3, 3, 0, 1, 1]].concat()),
        (S, [vec![20, 3, 3, 0, 1, 1], records(&[client_hello(&[3, 4])], 16_384)].concat()),
        (D, [records(&[server_hello(&[2; 32], [0x13, 1], &share)], 16_384), vec![23, 3, 3, 0, 2, 1, 2]].concat()),
        (S, vec![23, 3, 3, 0, 2, 1, 2]),
    ]
}

fn ssl2() -> Talk {
    let hello = [&[0x80, 9 + 6 + 16, 1, 0, 2, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 7, 0, 0xc0][..], &[7; 16]].concat();
    let certificate = der();
    let body =
        [&[4, 0, 1, 0, 2][..], &(certificate.len() as u16).to_be_bytes(), &[0, 3, 0, 16], &certificate, &[7, 0, 0xc0], &[9; 16]].concat();
    vec![(S, hello), (D, [&(0x8000 | body.len() as u16).to_be_bytes()[..], &body].concat())]
}

fn kexinit(lists: [&str; 10]) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([0x42; 16]);
    for list in lists {
        payload.extend((list.len() as u32).to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut out = ((payload.len() + padding + 1) as u32).to_be_bytes().to_vec();
    out.push(padding as u8);
    out.extend(payload);
    out.resize(out.len() + padding, 0);
    out
}

fn ssh() -> Talk {
    let client = [
        "x,curve25519-sha256,ext-info-c",
        "ssh-ed25519",
        "aes128-ctr,3des-cbc",
        "aes128-ctr",
        "hmac-md5,hmac-sha1",
        "hmac-sha1",
        "none",
        "none",
        "",
        "",
    ];
    let server = [
        "curve25519-sha256,y",
        "ssh-rsa,ssh-ed25519",
        "3des-cbc,aes128-ctr",
        "aes128-ctr",
        "hmac-sha1",
        "hmac-sha1",
        "none",
        "none",
        "",
        "",
    ];
    vec![
        (D, b"welcome\r\nSSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        (S, [b"SSH-2.0-x y\r\n".to_vec(), kexinit(client), vec![0, 0, 0, 12]].concat()),
        (D, [kexinit(server), vec![1, 2, 3]].concat()),
        (S, vec![9; 400]),
    ]
}

fn http() -> Talk {
    let requests =
        b"POST /a HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\nContent-Length: 13\r\nExpect: 100-continue\r\n\r\nGET /not HTTP\
        HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n\
        PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUser-Agent: u\r\n\r\n5;x=y\r\nGET /\r\na\r\n0123456789\r\n0\r\nT: r\r\n\r\n\
        \r\nGET /d HTTP/1.1\r\n\r\nGET /e HTTP/1.0\r\n\r\n";
    let responses = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: s\r\nContent-Type: t\r\nContent-Length: 8\r\n\r\nHTTP/1.1\
        HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n\
        HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n00\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n\
        HTTP/1.0 404 Not Found\r\n\r\nHTTP/1.1 200 is only the body\r\n\r\n";
    vec![(S, requests.to_vec()), (D, responses.to_vec())]
}

fn dns_message(response: bool, name: &[u8]) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, if response { 0x81 } else { 1 }, 0, 0, 1, 0, u8::from(response), 0, 0, 0, 0];
    out.extend(name);
    out.extend([0, 16, 0, 1]);
    if response {
        out.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 3, 2, b'o', b'k']);
    }
    out
}

fn dns_stream() -> Talk {
    vec![
        (S, v16(&dns_message(false, b"\x03www\x02ex\0"))),
        (D, v16(&dns_message(true, b"\x03www\x02ex\0"))),
        (S, v16(&dns_message(false, b"\0"))),
        (D, [v16(&dns_message(true, b"\0")), v16(&dns_message(true, b"\0"))].concat()),
    ]
}

fn then_tls(mut before: Talk) -> Talk {
    before.extend(tls12(16_384));
    before
}

fn smtp() -> Talk {
    then_tls(vec![
        (D, b"220 mx ESMTP\r\n".to_vec()),
        (S, b"EHLO me\r\n".to_vec()),
        (D, b"250-mx\r\n250 STARTTLS\r\n".to_vec()),
        (S, b"STARTTLS\r\n".to_vec()),
        (D, b"220 go\r\n".to_vec()),
    ])
}

fn connect() -> Talk {
    then_tls(vec![
        (S, b"CONNECT a.example:443 HTTP/1.1\r\n\r\n".to_vec()),
        (D, b"HTTP/1.1 200 Established\r\nContent-Length: 9\r\n\r\n".to_vec()),
    ])
}

fn socks5() -> Talk {
    let mut talk = vec![
        (S, vec![5, 1, 2]),
        (D, vec![5, 2]),
        (S, b"\x01\x04user\x06secret".to_vec()),
        (D, vec![1, 0]),
        (S, b"\x05\x01\x00\x03\x09a.example\x00\x50".to_vec()),
        (D, vec![5, 0, 0, 1, 10, 0, 0, 1, 0, 80]),
    ];
    talk.extend([(S, b"GET /in HTTP/1.1\r\n\r\n".to_vec()), (D, b"HTTP/1.1 200 OK\r\n\r\nx".to_vec())]);
    talk
}

fn rdp() -> Talk {
    then_tls(vec![
        (S, b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00".to_vec()),
        (D, b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x02\x00\x00\x00".to_vec()),
    ])
}

fn mysql() -> Talk {
    let mut request = vec![32, 0, 0, 1, 0x85, 0xae, 0xff, 0x01, 0, 0, 0, 1, 0x21];
    request.resize(36, 0);
    let greeting = b"\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xff\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0";
    then_tls(vec![(D, [&[greeting.len() as u8, 0, 0, 0][..], greeting].concat()), (S, request)])
}

fn postgres() -> Talk {
    then_tls(vec![(S, vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]), (D, b"S".to_vec())])
}

fn ldap() -> Talk {
    then_tls(vec![
        (S, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037".to_vec()),
        (D, b"\x30\x24\x02\x01\x01\x78\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037".to_vec()),
    ])
}

fn proxied() -> Talk {
    then_tls(vec![(S, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec())])
}

/// Conversations whose facts do not depend on how they are cut.
fn talks() -> Vec<Talk> {
    vec![
        tls12(16_384),
        tls12(50),
        tls13_retry(),
        ssl2(),
        ssh(),
        http(),
        dns_stream(),
        smtp(),
        connect(),
        rdp(),
        mysql(),
        postgres(),
        proxied(),
        ldap(),
        vec![(S, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()), (D, b"SSH-2.0-x\r\nInvalid\r\n".to_vec())],
    ]
}

#[test]
fn tls_up_to_1_2() {
    for size in [1, 40, 16_384] {
        check(&tls12(size), TLS12);
    }
    let (facts, application) = whole(&tls12(16_384));
    let Fact::TlsServer(TlsServer { cipher, group, dh_bits, downgrade_sentinel, .. }) = &facts[3] else { panic!("{facts:?}") };
    assert_eq!((*cipher, *group, *dh_bits, *downgrade_sentinel), (0xc02f, Some(23), None, true));
    let Fact::Certificate(Certificate { self_signed, key, key_bits, signature, not_before, not_after, sha256, .. }) = &facts[4] else {
        panic!()
    };
    assert_eq!((*self_signed, key.as_str(), *key_bits, signature.as_str()), (true, "ec", 256, "ecdsa-with-SHA256"));
    assert!(not_before < not_after && sha256.len() == 64);
    assert_eq!((application.protocol.as_str(), application.both, application.version.as_deref()), ("tls", true, Some("1.2")));
    assert_eq!((application.cipher.as_deref(), application.sni), (Some("0xc02f"), Some("decoy.example".into())));
    assert!(application.ja3.is_some() && application.ja3s.is_some() && application.ja4.is_some_and(|ja4| ja4.starts_with("t12d0203h2")));
}

#[test]
fn tls_1_3_with_a_retry_says_one_server() {
    check(&tls13_retry(), &["tls", "client 0304", "tls+", "client 0304", "server 0304"]);
    let mut refused = tls13_retry();
    refused.truncate(2);
    check(&refused, &["tls", "client 0304", "tls+", "server 0304"]);
    let (facts, _) = whole(&tls13_retry());
    let Some(Fact::TlsServer(server)) = facts.last() else { panic!() };
    assert_eq!((server.group, server.cipher), (Some(29), 0x1301));
}

#[test]
fn tls_refused_resumed_and_reversed() {
    let hello = records(&[client_hello(&[])], 16_384);
    check(&vec![(S, hello.clone()), (D, vec![21, 3, 3, 0, 2, 2, 40])], &["tls", "client 0303", "tls+"]);
    let resumed = [records(&[server_hello(&[1; 32], [0, 0x2f], &[])], 99), vec![20, 3, 3, 0, 1, 1, 22, 3, 3, 0, 1, 7]].concat();
    check(&vec![(S, hello), (D, resumed)], &["tls", "client 0303", "tls+", "server 0303"]);
    let swapped: Talk = tls12(16_384).into_iter().skip(1).map(|(from, bytes)| (from.other(), bytes)).collect();
    assert_eq!(words(&whole(&swapped).0)[..2], ["tls".to_owned(), "server 0303".to_owned()]);
    check(&ssl2(), &["tls", "client 0002", "tls+", "server 0002", "certificate CN=rcgen self signed cert"]);
}

#[test]
fn finite_field_exchange_has_bits() {
    let exchange = [v16(&[&[0, 0x7f][..], &[1; 63]].concat()), v16(&[2]), v16(&[3; 64]), vec![1, 2]].concat();
    let flight = [server_hello(&[1; 32], [0, 0x33], &[]), message(11, &v24(&v24(b"no certificate"))), message(12, &exchange)];
    let (facts, _) = whole(&vec![(S, records(&[client_hello(&[])], 16_384)), (D, records(&flight, 16_384))]);
    let Fact::TlsServer(server) = &facts[3] else { panic!("{facts:?}") };
    assert_eq!((server.dh_bits, server.group, server.downgrade_sentinel), (Some(511), None, false));
    let Fact::Certificate(certificate) = &facts[4] else { panic!() };
    assert_eq!((certificate.subject.as_str(), certificate.sha256.len()), ("", 64));
}

#[test]
fn ssh_agrees() {
    check(&ssh(), &["ssh", "ssh+", "ssh curve25519-sha256 aes128-ctr"]);
    let (facts, application) = whole(&ssh());
    let Some(Fact::SshAgreed(agreed)) = facts.last() else { panic!() };
    assert_eq!((agreed.client.clone(), agreed.server.clone()), ("SSH-2.0-x y".into(), "SSH-2.0-OpenSSH_9.2p1".into()));
    assert_eq!((agreed.host_key.as_str(), agreed.macs[0].as_str()), ("ssh-ed25519", "hmac-sha1"));
    assert_eq!(application.hassh.as_deref(), Some(agreed.hassh.as_str()));
    assert_eq!((application.version.as_deref(), application.cipher.as_deref()), (Some("2.0"), Some("aes128-ctr")));
    check(&vec![(D, b"SSH-1.5-old\n".to_vec()), (S, b"SSH-1.5-me\n\0\0\0\x0c".to_vec())], &["ssh", "ssh+", "ssh  "]);
    check(&vec![(D, b"SSH-2.0-old\n".to_vec())], &["ssh", "ssh  "]);
}

#[test]
fn http_is_read_by_its_framing() {
    let expected = ["http", "POST /a", "HEAD /b", "PUT /c", "GET /d", "GET /e", "http+", "100", "200", "200", "201", "304", "404"];
    check(&http(), &expected);
    let (facts, application) = whole(&http());
    let Fact::HttpRequest(request) = &facts[1] else { panic!() };
    assert!(request.cleartext_credential && request.host == Some("h".into()) && request.version == "HTTP/1.1".into());
    assert!(!serde_json::to_string(&facts).unwrap().contains("c2VjcmV0"));
    assert_eq!(application.version.as_deref(), Some("1.0"));
    check(
        &vec![
            (S, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec()),
            (D, b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n\x81\x01a".to_vec()),
            (S, vec![0x81; 9]),
        ],
        &["http", "GET /ws", "http+", "101", "http/websocket+"],
    );
    check(
        &vec![
            (S, b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /b HTTP/1.1\r\n\r\n".to_vec()),
            (D, b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 x\r\n\r\n".to_vec()),
        ],
        &["http", "GET /a", "http+", "200", "404", "GET /b"],
    );
    check(&vec![(S, b"GET /old\r\n".to_vec()), (D, b"<html>".to_vec())], &["http", "GET /old"]);
}

#[test]
fn http_faults() {
    let server = |bytes: &[u8]| vec![(S, b"GET / HTTP/1.1\r\n\r\n".to_vec()), (D, bytes.to_vec())];
    for (bytes, expected) in [
        (&b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"[..], "malformed http HTTP content length at 35"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed http HTTP chunk size at 46"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "malformed http end of an HTTP chunk at 50"),
        (b"HTTP/1.1 200 x\r\nA: \0\r\n", "malformed http HTTP header value at 19"),
        (b"HTTP/1.1 20 x\r\n", "malformed http HTTP status at 11"),
    ] {
        assert_eq!(words(&whole(&server(bytes)).0).last().unwrap(), expected);
    }
}

#[test]
fn a_gap_is_passed_over_only_where_nothing_is_lost() {
    let run = |after: u64, missing: u64| {
        let (at, mut c, mut facts) = (Timestamp(0), Conversation::new(6, 0), Vec::new());
        let head = b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
        c.bytes(at, S, 0, head, &mut facts);
        c.bytes(at, S, head.len() as u64, &vec![b'x'; after as usize], &mut facts);
        c.gap(at, S, missing, &mut facts);
        c.bytes(
            at,
            S,
            head.len() as u64 + after + missing,
            &[vec![b'x'; (1_000 - after).saturating_sub(missing) as usize], b"GET /2 HTTP/1.1\r\n\r\n".to_vec()].concat(),
            &mut facts,
        );
        c.finish(at, &mut facts);
        words(&facts)
    };
    assert_eq!(run(100, 900), ["http", "POST /", "GET /2"]);
    assert_eq!(run(100, 500), ["http", "POST /", "GET /2"]);
    assert_eq!(run(100, 901), ["http", "POST /"]);
    // Bytes from the middle are nobody's first bytes.
    let (at, mut c, mut facts) = (Timestamp(0), Conversation::new(6, 0), Vec::new());
    c.gap(at, S, 7, &mut facts);
    c.bytes(at, S, 7, b"GET / HTTP/1.1\r\n\r\n", &mut facts);
    c.bytes(at, D, 0, b"HTTP/1.1 200 x\r\n\r\n", &mut facts);
    assert_eq!(words(&facts), ["http", "200"]);
}

#[test]
fn dns_in_streams_and_datagrams() {
    let expected = ["dns", "question www.ex 16", "dns+", "answer www.ex 16", "question . 16", "answer . 16", "answer . 16"];
    check(&dns_stream(), &expected);
    let datagrams = |port, list: &[(Speaker, Vec<u8>)]| {
        let (mut c, mut facts) = (Conversation::new(17, port), Vec::new());
        for (from, bytes) in list {
            c.datagram(Timestamp(0), *from, bytes, &mut facts);
        }
        c.finish(Timestamp(0), &mut facts);
        words(&facts)
    };
    let (question, answer) = (dns_message(false, b"\x01a\0"), dns_message(true, b"\x01a\0"));
    let both = [(S, question.clone()), (D, answer), (S, question.clone()), (S, b"junk".to_vec()), (S, b"junk".to_vec())];
    let expected = ["dns", "question a 16", "dns+", "answer a 16", "question a 16", "malformed dns DNS header at 4"];
    assert_eq!(datagrams(4444, &both), expected);
    assert_eq!(datagrams(5355, &[(S, question.clone())])[0], "llmnr");
    // An echo is no answer.
    assert_eq!(datagrams(7, &[(S, question.clone()), (D, question)]), ["dns", "question a 16", "question a 16"]);
    assert_eq!(datagrams(53, &[(S, b"hello there".to_vec())]), [""; 0]);
    let snmp = |version| [b"\x30\x26\x02\x01".as_slice(), &[version], b"\x04\x06public\xa0\x19"].concat();
    assert_eq!(datagrams(53, &[(S, snmp(1))]), ["snmp", "login community"]);
    let hello = [&[1, 0, 0, 0][..], &[7; 144]].concat();
    let reply = [&[2, 0, 0, 0][..], &[7; 88]].concat();
    assert_eq!(datagrams(53, &[(S, hello), (D, reply)]), ["wireguard", "wireguard+"]);
}

#[test]
fn tls_inside_other_protocols() {
    let inner = |outer: &str| TLS12.iter().map(|w| w.replace("tls", &format!("{outer}/tls"))).collect::<Vec<_>>();
    let with = |before: &[&str], outer: &str| [before.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), inner(outer)].concat();
    assert_eq!(words(&whole(&smtp()).0), with(&["smtp", "smtp+", "starttls Some(true) true true"], "smtp"));
    assert_eq!(words(&whole(&connect()).0), with(&["http", "CONNECT a.example:443", "http+", "200"], "http"));
    assert_eq!(words(&whole(&rdp()).0), with(&["rdp", "rdp+"], "rdp"));
    assert_eq!(words(&whole(&mysql()).0), with(&["mysql", "mysql+"], "mysql"));
    assert_eq!(words(&whole(&postgres()).0), with(&["postgres", "postgres+"], "postgres"));
    assert_eq!(words(&whole(&proxied()).0), with(&["proxy"], "proxy"));
    check(&socks5(), &["socks5", "socks5+", "socks5/http", "GET /in", "socks5/http+", "200"]);
    let application = whole(&smtp()).1;
    assert_eq!((application.protocol.as_str(), application.version.as_deref()), ("smtp", Some("1.2")));
}

#[test]
fn logins_in_clear() {
    check(
        &vec![(D, b"220 ready\r\n".to_vec()), (S, b"USER joe\r\n".to_vec()), (D, b"331 go\r\n".to_vec()), (S, b"PASS s3cret\r\n".to_vec())],
        &["ftp+", "login PASS"],
    );
    check(
        &vec![
            (D, b"* OK IMAP4 ready\r\n".to_vec()),
            (S, b"a1 CAPABILITY\r\n".to_vec()),
            (D, b"* CAPABILITY IMAP4\r\na1 OK\r\n".to_vec()),
            (S, b"a2 LOGIN joe s3cret\r\n".to_vec()),
        ],
        &["imap", "imap+", "login LOGIN", "starttls Some(false) false false"],
    );
    let pop = vec![(D, b"+OK POP3\r\n".to_vec()), (S, b"USER joe\r\nPASS s3cret\r\n".to_vec())];
    assert!(!serde_json::to_string(&whole(&pop).0).unwrap().contains("PASS s3"));
    check(&pop, &["pop3", "pop3+", "login PASS"]);
}

#[test]
fn ldap_binds_and_starts_tls() {
    let bind = b"\x30\x14\x02\x01\x01\x60\x0f\x02\x01\x03\x04\x02cn\x80\x06s3cret";
    let answer = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
    check(&vec![(S, bind.to_vec()), (D, answer.to_vec())], &["ldap", "login simple", "ldap+"]);
    let anonymous = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
    check(&vec![(S, anonymous.to_vec()), (D, answer.to_vec())], &["ldap", "ldap+"]);
    let words = words(&whole(&ldap()).0);
    assert_eq!(words[..4], ["ldap", "ldap+", "starttls None true true", "ldap/tls"].map(str::to_owned));
    assert_eq!(words.len(), 8);
}

#[test]
fn each_side_may_speak_its_own() {
    check(&vec![(D, b"SSH-2.0-x\r\n".to_vec()), (S, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec())], &["ssh", "http", "GET /", "ssh  "]);
    check(
        &vec![(S, records(&[client_hello(&[])], 999)), (D, b"what?\r\n".to_vec())],
        &["tls", "client 0303", "malformed tls TLS record type at 0"],
    );
    // An echo does not speak the protocol.
    let echo = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    assert!(!words(&whole(&vec![(S, echo.clone()), (D, echo)]).0).contains(&"http+".to_owned()));
    check(&vec![(S, b"hello\r\n".to_vec()), (D, b"hello yourself\r\n".to_vec())], &[]);
    check(&vec![(D, b"RFB 003.008\n".to_vec()), (S, b"RFB 003.008\n".to_vec())], &["vnc", "vnc+"]);
}

#[test]
fn malformed_is_told_once_with_its_place() {
    let mut bytes = records(&[client_hello(&[])], 16_384);
    let at = 5 + 4 + 2 + 32;
    bytes[at] = 33;
    check(&vec![(S, bytes.clone())], &["tls", "malformed tls TLS session id too long at 43"]);
    let (facts, _) = whole(&vec![(S, bytes)]);
    let Some(Fact::Malformed(bad)) = facts.last() else { panic!() };
    assert!(bad.bytes.starts_with("2101") && bad.bytes.len() <= 512);
}

fn normal(facts: Vec<Fact>) -> Vec<String> {
    let clear = |mut fact: Fact| {
        match &mut fact {
            // These grow with what has come so far.
            Fact::Identified(f) => f.samples = Default::default(),
            Fact::Carried(f) => f.samples = Default::default(),
            Fact::Malformed(f) => f.bytes.clear(),
            // The certificates are made anew each time.
            Fact::Certificate(f) => *f = Certificate { subject: f.subject.clone(), ..Certificate::default() },
            _ => {}
        }
        serde_json::to_string(&fact).unwrap()
    };
    facts.into_iter().map(clear).collect()
}

thread_local! {
    static TALKS: Vec<Talk> = talks();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn cuts_do_not_matter(which: usize, cuts in proptest::collection::vec(1usize..200, 1..40)) {
        TALKS.with(|talks| {
            let talk = &talks[which % talks.len()];
            let mut next = cuts.iter().cycle();
            let (facts, application) = say(talk, || *next.next().unwrap());
            let (expected, same) = whole(talk);
            assert_eq!(normal(facts), normal(expected));
            assert_eq!(application, same);
        });
    }

    #[test]
    fn mutations_are_survived(
        which: usize,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>(), 0u8..6), 1..8),
        cut in 1usize..3_000,
        gap in proptest::option::of((any::<usize>(), 1u64..5_000)),
    ) {
        TALKS.with(|talks| {
            let mut talk = talks[which % talks.len()].clone();
            for (place, byte, how) in changes {
                let count = talk.len();
                let (from, bytes) = &mut talk[place % count];
                let at = (place / 7) % bytes.len().max(1);
                match how {
                    0 if !bytes.is_empty() => bytes[at] = byte,
                    1 if !bytes.is_empty() => bytes[at] ^= 1 << (byte % 8),
                    2 => bytes.insert(at.min(bytes.len()), byte),
                    3 => bytes.truncate(at),
                    4 => *from = from.other(),
                    5 => bytes.splice(at..at, std::iter::repeat_n(byte, usize::from(byte) * 40)).for_each(drop),
                    _ => {}
                }
            }
            let (at, mut conversation, mut facts, mut offsets) = (Timestamp(0), Conversation::new(6, 0), Vec::new(), [0_u64; 2]);
            for (index, (from, bytes)) in talk.iter().enumerate() {
                let offset = &mut offsets[*from as usize];
                if let Some((_, missing)) = gap.filter(|(place, _)| place % talk.len() == index) {
                    conversation.gap(at, *from, missing, &mut facts);
                    *offset += missing;
                }
                for piece in bytes.chunks(cut) {
                    conversation.bytes(at, *from, *offset, piece, &mut facts);
                    *offset += piece.len() as u64;
                    assert!(conversation.held() <= 2 * side::LIMIT);
                }
            }
            conversation.finish(at, &mut facts);
            let bad: Vec<_> = facts.iter().filter_map(|fact| if let Fact::Malformed(bad) = fact { Some(bad) } else { None }).collect();
            assert!(bad.len() <= 1, "{bad:?}");
            let longest = *offsets.iter().max().unwrap();
            assert!(bad.iter().all(|bad| bad.bytes.len() <= 512 && bad.offset <= longest), "{bad:?}");
        });
    }

    #[test]
    fn arbitrary_bytes_are_survived(talk in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..8), head in 0usize..8) {
        const HEADS: [&[u8]; 8] = [b"", b"\x16\x03\x01", b"SSH-2.0-a\r\n", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 \r\n", b"220 FTP\r\n", b"\x05\x01\x00", b"\x80\x1f\x01\x03\x00"];
        let (mut conversation, mut datagrams, mut facts, mut offsets) = (Conversation::new(6, 0), Conversation::new(17, 53), Vec::new(), [0_u64; 2]);
        conversation.bytes(Timestamp(0), S, 0, HEADS[head], &mut facts);
        offsets[0] = HEADS[head].len() as u64;
        for (source, bytes) in &talk {
            let from = if *source { S } else { D };
            conversation.bytes(Timestamp(0), from, offsets[from as usize], bytes, &mut facts);
            offsets[from as usize] += bytes.len() as u64;
            datagrams.datagram(Timestamp(0), from, bytes, &mut facts);
        }
        conversation.finish(Timestamp(0), &mut facts);
        datagrams.finish(Timestamp(0), &mut facts);
        let _ = certificate::read(&talk.first().map(|(_, bytes)| bytes.clone()).unwrap_or_default());
    }

    #[test]
    fn mutated_certificates_are_survived(at: usize, byte: u8, cut: usize) {
        thread_local! { static DER: Vec<u8> = der(); }
        DER.with(|der| {
            let mut der = der.clone();
            let at = at % der.len();
            der[at] = byte;
            assert_eq!(certificate::read(&der).sha256.len(), 64);
            der.truncate(cut % der.len());
            assert_eq!(certificate::read(&der).sha256.len(), 64);
        });
    }
}
