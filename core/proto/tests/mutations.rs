//! Every parser against mutated input: no panic, offsets and lengths within the input, results no
//! larger than the input justifies.
//!
//! 10 000 mutations a parser by default; `GLASSHIVE_FUZZ=N` sets another number and
//! `GLASSHIVE_SEED=S` repeats a run whose seed a failure printed.

#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use glasshive_proto::{ParseError, Parsed, Reader, community_id, dns, http, ja, magic, probe, proxy, ssh, tls};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// xorshift64*: the same numbers from the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() >> 16) as usize % n }
    }
    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
}

/// Changes a seed in one to six ways: flips, truncation, splices, repeats, length bumps, insertions.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let other = &seeds[random.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend(&other[random.below(other.len())..]);
            }
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 0xc0, b'\n', b'\r'][random.below(8)],
            4 if bytes.len() > at + 1 => {
                // A big-endian length that is a little, or far, off.
                let value = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let bump = [1, 2, 0xffff, 0xfffe, 0x4000, 0x8000][random.below(6)];
                bytes[at..at + 2].copy_from_slice(&value.wrapping_add(bump).to_be_bytes());
            }
            5 => {
                let piece = bytes[at..(at + 1 + random.below(64)).min(bytes.len())].to_vec();
                for _ in 0..=random.below(8) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            6 => {
                let byte = random.byte();
                bytes.insert(at, byte);
            }
            7 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            _ if !bytes.is_empty() => bytes[at] = random.byte(),
            _ => {}
        }
    }
    bytes.truncate(1 << 17);
    bytes
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs `parser` over mutations of `seeds`; it returns the bytes its result holds on to, which must
/// not exceed `factor` times the input plus 1 KiB.
fn fuzz(name: &str, seeds: &[Vec<u8>], factor: usize, parser: impl Fn(&[u8]) -> usize) {
    let seed = number("GLASSHIVE_SEED").unwrap_or(0x6c61_7373_6869_7665);
    println!("{name}: GLASSHIVE_SEED={seed}");
    let mut random = Random(seed | 1);
    for bytes in seeds {
        for cut in 0..=bytes.len().min(600) {
            parser(&bytes[..cut]);
        }
    }
    for i in 0..number("GLASSHIVE_FUZZ").unwrap_or(10_000) {
        let bytes = mutate(&mut random, seeds);
        let held = parser(&bytes);
        assert!(held <= bytes.len() * factor + 1_024, "{name} #{i}: {held} bytes held of {}: {}", bytes.len(), bytes.escape_ascii());
    }
}

/// What every incremental result must obey, and that more bytes never turn malformed into valid.
fn obeys<T>(input: &[u8], result: Parsed<T>, again: impl Fn(&[u8]) -> Parsed<T>) -> Option<T> {
    match result {
        Parsed::Done { value, used } => {
            assert!(used <= input.len() && used > 0, "used {used} of {}", input.len());
            assert!(matches!(again(&input[..used]), Parsed::Done { used: same, .. } if same == used), "not the same from its own bytes");
            Some(value)
        }
        Parsed::Incomplete { needed } => {
            assert!(needed > 0);
            None
        }
        Parsed::Malformed { offset, .. } => {
            assert!(offset <= input.len(), "offset {offset} of {}", input.len());
            let longer = [input, b"\r\n\0\xff more"].concat();
            assert!(matches!(again(&longer), Parsed::Malformed { offset: same, .. } if same == offset), "more bytes changed the fault");
            None
        }
    }
}

fn in_range<T>(input: &[u8], result: Result<T, ParseError>) -> Option<T> {
    result.map_err(|e| assert!(e.offset <= input.len(), "offset {} of {}", e.offset, input.len())).ok()
}

fn vec16(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vec16(body)].concat()
}

fn hello_seeds(kind: u8) -> Vec<Vec<u8>> {
    let list = [
        extension(0x2a2a, &[]),
        extension(0, &vec16(&[&[0][..], &vec16(b"decoy.example")].concat())),
        extension(10, &vec16(&[0, 29, 0, 23])),
        extension(11, &[1, 0]),
        extension(13, &vec16(&[4, 3, 8, 4])),
        extension(16, &vec16(b"\x02h2\x08http/1.1")),
        extension(43, if kind == 1 { &[4, 3, 4, 3, 3] } else { &[3, 4] }),
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    if kind == 1 {
        body.extend([0, 6, 0x3a, 0x3a, 0x13, 1, 0xc0, 0x2b, 1, 0]);
    } else {
        body.extend([0x13, 1, 0]);
    }
    let bare = [&[kind, 0, 0, body.len() as u8][..], &body].concat();
    body.extend(vec16(&list));
    let message = [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    let records = |size| message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vec16(part)].concat()).collect::<Vec<u8>>();
    vec![records(16_384), records(40), records(1), [&[22, 3, 1][..], &vec16(&bare)].concat(), message.clone()]
}

fn client_size(hello: &tls::ClientHello) -> usize {
    assert_eq!(ja::ja3(hello).len(), 32);
    let ja4 = ja::ja4(hello, ja::Carrier::Tcp);
    assert!(ja4.len() == 36 && ja4.is_ascii(), "{ja4}");
    let numbers = hello.ciphers.len() + hello.supported_versions.len() + hello.signature_algorithms.len() + hello.groups.len();
    let extensions: usize = hello.extensions.iter().map(|e| 4 + e.data.len()).sum();
    let names: usize = hello.alpn.iter().map(|name| name.len() + 1).sum();
    numbers * 2 + extensions + names + hello.sni.as_ref().map_or(0, Vec::len) + hello.session_id.len() + hello.compression.len()
}

#[test]
fn tls_client_hello() {
    fuzz("tls client hello", &hello_seeds(1), 3, |input| {
        let message = obeys(input, tls::client_hello_message(input), tls::client_hello_message).map_or(0, |h| client_size(&h));
        let stream = obeys(input, tls::client_hello(input), tls::client_hello).map_or(0, |hello| {
            assert!(hello.faults.iter().all(|fault| fault.offset <= input.len()));
            client_size(&hello)
        });
        message.max(stream)
    });
}

#[test]
fn tls_server_hello() {
    fuzz("tls server hello", &hello_seeds(2), 2, |input| {
        obeys(input, tls::server_hello(input), tls::server_hello).map_or(0, |hello| {
            assert_eq!(ja::ja3s(&hello).len(), 32);
            hello.extensions.iter().map(|e| 4 + e.data.len()).sum::<usize>() + hello.alpn.map_or(0, |a| a.len())
        })
    });
}

fn kexinit_seed(lists: [&[u8]; 10]) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([0x42; 16]);
    for list in lists {
        payload.extend((list.len() as u32).to_be_bytes());
        payload.extend(list);
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut out = ((payload.len() + padding + 1) as u32).to_be_bytes().to_vec();
    out.push(padding as u8);
    out.extend(&payload);
    out.resize(out.len() + padding, 0);
    out
}

#[test]
fn ssh_identification() {
    let seeds =
        [b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), b"hello\r\nthere\nSSH-1.99-x\n".to_vec(), b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    for limits in [ssh::IdLimits::default(), ssh::IdLimits { line: 8_192, pre_lines: 3 }, ssh::IdLimits { line: 0, pre_lines: 1 }] {
        let parse = |input: &[u8]| ssh::identification(input, limits);
        fuzz("ssh identification", &seeds, 3, |input| {
            obeys(input, parse(input), parse).map_or(0, |id| id.line.len() * 2 + id.pre_lines.iter().map(|l| l.len()).sum::<usize>())
        });
    }
}

#[test]
fn ssh_kexinit() {
    let seeds = [
        kexinit_seed([
            b"curve25519-sha256,kex-strict-c-v00@openssh.com",
            b"ssh-ed25519",
            b"a",
            b"b",
            b"c",
            b"d",
            b"none",
            b"none",
            b"",
            b"",
        ]),
        kexinit_seed([b""; 10]),
    ];
    fuzz("ssh kexinit", &seeds, 2, |input| {
        obeys(input, ssh::kexinit(input), ssh::kexinit).map_or(0, |init| {
            assert_eq!((init.hassh().len(), init.hassh_server().len()), (32, 32));
            [&init.kex, &init.host_key, &init.cipher_in, &init.cipher_out, &init.mac_in, &init.mac_out, &init.language_in]
                .iter()
                .map(|list| list.0.len().max(list.names().count()))
                .sum()
        })
    });
}

#[test]
fn http_request() {
    let seeds = [
        b"GET /a?b=c HTTP/1.1\r\nHost: decoy\r\nUser-Agent: x\r\nX: a\r\n b\r\n\r\nbody".to_vec(),
        b"\r\nPOST http://a.example/ HTTP/1.0\nContent-Length: 3\n\nabc".to_vec(),
        b"GET /\r\n".to_vec(),
        b"OPTIONS * HTTP/2.0\r\n\r\n".to_vec(),
    ];
    let small = http::Rules { line: 24, head: 64, headers: 2, strict: false };
    for rules in [http::Rules::nginx(), http::Rules::lenient(), small] {
        let parse = |input: &[u8]| http::request_head(input, &rules);
        fuzz("http request", &seeds, 3, |input| {
            let line = obeys(input, http::request_line(input, &rules), |i| http::request_line(i, &rules));
            let head = obeys(input, parse(input), parse);
            assert!(head.is_none() || line.is_some());
            head.map_or(0, |head| {
                let headers: usize = head.headers.list.iter().map(|h| h.name.len() + h.value.len() + 2).sum();
                head.request.line.len() + head.request.method.len() + head.request.target.len() + headers
            })
        });
    }
}

#[test]
fn http_response() {
    let seeds = [b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n".to_vec(), b"HTTP/1.0 200\n\n".to_vec()];
    let parse = |input: &[u8]| http::response_head(input, &http::Rules::lenient());
    fuzz("http response", &seeds, 3, |input| {
        obeys(input, parse(input), parse)
            .map_or(0, |head| head.line.len() * 2 + head.headers.list.iter().map(|h| h.name.len() + h.value.len()).sum::<usize>())
    });
}

#[test]
fn dns_messages() {
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x07version\x04bind\x00\x00\x10\x00\x03\
                  \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x04\x00\x0a\x00\x00"
        .to_vec();
    let mut answer = b"\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01".to_vec();
    for pointer in [12, 14, 12] {
        answer.extend([1, b'x', 0xc0, pointer, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    }
    let framed = |m: &[u8]| vec16(m);
    let seeds = [query.clone(), answer.clone(), framed(&query), framed(&answer)];
    // An entry takes five bytes at least and may name 255 decompressed ones.
    fuzz("dns", &seeds, 64, |input| {
        let size = |m: dns::Message| {
            let sections = [&m.answers, &m.authority, &m.additional];
            assert!(m.questions.len() + sections.iter().map(|s| s.len()).sum::<usize>() <= dns::MAX_ENTRIES);
            let records = sections.iter().flat_map(|s| s.iter());
            let names: Vec<&dns::Name> = m.questions.iter().map(|q| &q.name).chain(records.clone().map(|r| &r.name)).collect();
            for name in &names {
                assert!(name.wire_len() <= dns::MAX_NAME && name.to_string().is_ascii() && name.labels().all(|l| l.len() <= 63));
            }
            names.iter().map(|n| n.wire_len()).sum::<usize>() + records.map(|r| r.data.len() + 16).sum::<usize>()
        };
        let datagram = in_range(input, dns::message(input)).map_or(0, size);
        let stream = obeys(input, dns::tcp_message(input), dns::tcp_message).map_or(0, size);
        datagram.max(stream)
    });
}

#[test]
fn proxy_headers() {
    let two = |family, body: &[u8]| [&proxy::SIGNATURE[..], &[0x21, family], &vec16(body)].concat();
    let seeds = [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        two(0x11, &[[1; 12].as_slice(), &[4, 0, 2, 9, 9]].concat()),
        two(0x21, &[2; 36]),
        two(0x31, &[3; 216]),
        two(0x00, &[]),
    ];
    fuzz("proxy", &seeds, 2, |input| {
        obeys(input, proxy::header(input), proxy::header).map_or(0, |header| {
            let held = header.tlvs.iter().map(|(_, value)| value.len() + 3).sum();
            assert!(held <= proxy::MAX_HEADER);
            held
        })
    });
}

#[test]
fn first_bytes_probe_and_magic() {
    let mut seeds = hello_seeds(1);
    seeds.extend([
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"set k 0 0 3\r\nabc\r\n".to_vec(),
        b"a1 LOGIN x y\r\n".to_vec(),
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00".to_vec(),
        b"\x30\x84\x00\x00\x00\x2d\x02\x01\x07\x63\x84\x00\x00\x00\x24\x04\x00\x0a\x01\x00".to_vec(),
        b"\x6a\x81\x89\x30\x81\x86\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4".to_vec(),
        b"\x00\x1e\x00\x06\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03".to_vec(),
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd".to_vec(),
        b"\x05\x02\x00\x02".to_vec(),
        b"\x04\x01\x00\x50\x00\x00\x00\x01\0a.example\0".to_vec(),
        b"MZ\x90\x00\x03<?php".to_vec(),
        [b"MZ".as_slice(), &[0; 58], &[0x80, 0, 0, 0]].concat(),
    ]);
    fuzz("probe", &seeds, 0, |input| {
        let answer = probe(input);
        assert!(answer.verdict != probe::Verdict::Certain || answer.protocol.is_some());
        assert!(!magic::magic(input).is_empty());
        0
    });
}

#[test]
fn community_ids() {
    fuzz("community id", &[vec![0; 40]], 0, |input| {
        let mut r = Reader::new(input);
        let mut take = || -> Result<Option<String>, ParseError> {
            let (protocol, ports) = (r.u8("protocol")?, (r.u16("port")?, r.u16("port")?));
            let (source, destination) = if protocol & 1 == 0 {
                (IpAddr::V4(Ipv4Addr::from(r.array("address")?)), IpAddr::V4(Ipv4Addr::from(r.array("address")?)))
            } else {
                (IpAddr::V6(Ipv6Addr::from(r.array("address")?)), IpAddr::V6(Ipv6Addr::from(r.array("address")?)))
            };
            let id = community_id::community_id(protocol, source, ports.0, destination, ports.1);
            if matches!(protocol, 6 | 17 | 132) {
                assert_eq!(id, community_id::community_id(protocol, destination, ports.1, source, ports.0));
            }
            Ok(id)
        };
        if let Ok(id) = take() {
            assert!(id.is_some_and(|id| id.len() == 30));
        }
        0
    });
}
