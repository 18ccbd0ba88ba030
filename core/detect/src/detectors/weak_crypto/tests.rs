use super::*;
use crate::Severity;
use crate::testing::{at, check_exports, check_golden, check_shape, fact, findings, findings_with, identified, opened, opening, wire};
use glasshive_event::observation::{Certificate, SshAgreed, TlsClient};
use proptest::prelude::*;

const LIST: &str = r#"
version = 1
[[open]]
address = "10.0.0.20"
port = 443
transport = "tcp"
protocol = "tls"
weak = true
[[open]]
address = "10.0.0.21"
port = 443
transport = "tcp"
protocol = "tls"
[[known]]
address = "10.0.0.1"
"#;

fn list() -> Arc<Segment> {
    Arc::new(Segment::parse(LIST).unwrap())
}

const SERVER: &str = "10.9.9.9:443";

fn handshake(seconds: f64, from: &str, to: &str, offered: u16, server: TlsServer) -> Vec<Observation> {
    let (began, ends) = (at(seconds), wire(from, to));
    vec![
        opened(began, ends, opening(6)),
        fact(at(seconds + 0.01), began, 6, ends, Fact::TlsClient(TlsClient { version: offered, ..TlsClient::default() })),
        fact(at(seconds + 0.02), began, 6, ends, Fact::TlsServer(server)),
    ]
}

fn agreed(change: impl FnOnce(&mut TlsServer)) -> Vec<Observation> {
    let mut server = strong();
    change(&mut server);
    handshake(0.0, "10.0.0.66:40000", SERVER, 0x0303, server)
}

fn strong() -> TlsServer {
    TlsServer { version: 0x0303, cipher: 0xc02f, group: Some(29), ..TlsServer::default() }
}

fn version(version: u16) -> TlsServer {
    TlsServer { version, cipher: if version >= 0x0304 { 0x1301 } else { 0xc02f }, ..TlsServer::default() }
}

fn certified(change: impl FnOnce(&mut Certificate)) -> Vec<Observation> {
    let mut shown =
        Certificate { key: "rsa".into(), key_bits: 2_048, signature: "sha256WithRSAEncryption".into(), ..Certificate::default() };
    change(&mut shown);
    let (began, ends) = (at(0.0), wire("10.0.0.66:40000", SERVER));
    vec![opened(began, ends, opening(6)), fact(at(0.1), began, 6, ends, Fact::Certificate(shown))]
}

fn ssh(change: impl FnOnce(&mut SshAgreed)) -> Vec<Observation> {
    let cipher = || "aes128-ctr".to_owned();
    let mac = || "hmac-sha2-256".to_owned();
    let mut shown = SshAgreed {
        client: "SSH-2.0-x".into(),
        server: "SSH-2.0-y".into(),
        kex: "curve25519-sha256".into(),
        host_key: "rsa-sha2-512".into(),
        ciphers: [cipher(), cipher()],
        macs: [mac(), mac()],
        ..SshAgreed::default()
    };
    change(&mut shown);
    let (began, ends) = (at(0.0), wire("10.0.0.66:40000", "10.9.9.9:22"));
    vec![opened(began, ends, opening(6)), fact(at(0.1), began, 6, ends, Fact::SshAgreed(shown))]
}

fn smb(both: bool, answer: &str) -> Vec<Observation> {
    let (began, ends) = (at(0.0), wire("10.0.0.66:40000", "10.9.9.9:445"));
    let mut said = identified(at(0.1), began, ends, "smb1", both);
    if let Fact::Identified(said) = &mut said.fact {
        said.samples = ["00000045ff534d42".into(), answer.into()];
    }
    vec![opened(began, ends, opening(6)), said]
}

/// Two handshakes with one server, the second `later` seconds after, from another client that offers `offered`.
fn twice(first: TlsServer, later: f64, offered: u16, second: TlsServer) -> Vec<Observation> {
    let mut all = handshake(0.0, "10.0.0.66:40000", SERVER, 0x0304, first);
    all.extend(handshake(later, "10.0.0.67:40000", SERVER, offered, second));
    all
}

type Case = (&'static str, Vec<Observation>, Vec<&'static str>);

fn cases() -> Vec<Case> {
    vec![
        ("SSL 2", agreed(|hello| (hello.version, hello.cipher) = (2, 0)), vec!["version 10.9.9.9:443 SSL 2"]),
        ("SSL 3", agreed(|hello| hello.version = 0x0300), vec!["version 10.9.9.9:443 SSL 3"]),
        ("TLS 1.0", agreed(|hello| hello.version = 0x0301), vec!["version 10.9.9.9:443 TLS 1.0"]),
        ("TLS 1.1", agreed(|hello| hello.version = 0x0302), vec!["version 10.9.9.9:443 TLS 1.1"]),
        ("NULL", agreed(|hello| hello.cipher = 0x003b), vec!["cipher 10.9.9.9:443 cipher suite 0x003b"]),
        ("RC4", agreed(|hello| hello.cipher = 0x0005), vec!["cipher 10.9.9.9:443 cipher suite 0x0005"]),
        ("export", agreed(|hello| hello.cipher = 0x0003), vec!["cipher 10.9.9.9:443 cipher suite 0x0003"]),
        ("3DES", agreed(|hello| hello.cipher = 0xc012), vec!["cipher 10.9.9.9:443 cipher suite 0xc012"]),
        ("anonymous", agreed(|hello| hello.cipher = 0x0034), vec!["cipher 10.9.9.9:443 cipher suite 0x0034"]),
        (
            "2047 bits of Diffie-Hellman",
            agreed(|hello| hello.dh_bits = Some(2_047)),
            vec!["dh 10.9.9.9:443 a Diffie-Hellman prime of 2047 bits"],
        ),
        ("a curve of 160 bits", agreed(|hello| hello.group = Some(16)), vec!["group 10.9.9.9:443 an elliptic curve below 224 bits"]),
        (
            "an RSA key of 2047 bits",
            certified(|shown| shown.key_bits = 2_047),
            vec!["key 10.9.9.9:443 a certificate with an RSA key of 2047 bits"],
        ),
        (
            "MD5",
            certified(|shown| shown.signature = "md5WithRSAEncryption".into()),
            vec!["signature 10.9.9.9:443 a certificate signed with MD5"],
        ),
        (
            "SHA-1",
            certified(|shown| shown.signature = "ecdsa-with-SHA1".into()),
            vec!["signature 10.9.9.9:443 a certificate signed with SHA-1"],
        ),
        (
            "SSH's worst",
            ssh(|shown| {
                shown.kex = "diffie-hellman-group1-sha1".into();
                shown.host_key = "ssh-dss".into();
                shown.ciphers = ["3des-cbc".into(), "arcfour256".into()];
                shown.macs = ["hmac-md5".into(), "hmac-md5".into()];
            }),
            vec![
                "kex 10.9.9.9:22 kex diffie-hellman-group1-sha1",
                "host_key 10.9.9.9:22 host key ssh-dss",
                "cipher 10.9.9.9:22 cipher 3des",
                "cipher 10.9.9.9:22 cipher arcfour",
                "mac 10.9.9.9:22 mac hmac-md5",
            ],
        ),
        ("SSH 1", ssh(|shown| *shown = SshAgreed { server: "SSH-1.5-y".into(), ..SshAgreed::default() }), vec!["ssh 10.9.9.9:22 SSH 1"]),
        ("SMB 1", smb(true, "00000045ff534d4272"), vec!["protocol 10.9.9.9:445 SMB 1"]),
        (
            "pushed down",
            handshake(0.0, "10.0.0.66:40000", SERVER, 0x0304, TlsServer { downgrade_sentinel: true, ..strong() }),
            vec!["downgrade 10.9.9.9:443 TLS 1.2 where the client offered TLS 1.3"],
        ),
        (
            "less than before",
            twice(version(0x0304), 86_399.0, 0x0304, version(0x0303)),
            vec!["regression 10.9.9.9:443 TLS 1.2 after TLS 1.3 within a day"],
        ),
    ]
}

fn twins() -> Vec<Case> {
    let to = |server: &str, hello: TlsServer| handshake(0.0, "10.0.0.66:40000", server, 0x0303, hello);
    let refused = || {
        let offer = TlsClient { version: 0x0300, ciphers: vec![0x0003, 0x0005, 0x000a], ..TlsClient::default() };
        vec![fact(at(0.0), at(0.0), 6, wire("10.0.0.66:40000", SERVER), Fact::TlsClient(offer))]
    };
    vec![
        ("TLS 1.2 with AES-GCM", agreed(|_| {}), vec![]),
        ("TLS 1.3", handshake(0.0, "10.0.0.66:40000", SERVER, 0x0304, version(0x0304)), vec![]),
        ("weak suites offered and refused", refused(), vec![]),
        ("a decoy declared weak", to("10.0.0.20:443", version(0x0301)), vec![]),
        ("the sentinel for a client of TLS 1.2", agreed(|hello| hello.downgrade_sentinel = true), vec![]),
        ("an old client after a new one", twice(version(0x0304), 60.0, 0x0303, version(0x0303)), vec![]),
        ("less than more than a day ago", twice(version(0x0304), 86_401.0, 0x0304, version(0x0303)), vec![]),
        ("better than before", twice(version(0x0303), 60.0, 0x0304, version(0x0304)), vec![]),
        ("2048 bits", agreed(|hello| hello.dh_bits = Some(2_048)), vec![]),
        ("a certificate of today", certified(|_| {}), vec![]),
        ("an elliptic-curve key of 256 bits", certified(|shown| (shown.key, shown.key_bits) = ("ec".into(), 256)), vec![]),
        ("a self-signed certificate", certified(|shown| shown.self_signed = true), vec![]),
        ("SSH of today", ssh(|_| {}), vec![]),
        ("SSH with an AEAD cipher", ssh(|shown| shown.macs = [String::new(), String::new()]), vec![]),
        ("SSH 1.99", ssh(|shown| shown.server = "SSH-1.99-y".into()), vec![]),
        ("SMB 1 asked, nothing answered", smb(false, ""), vec![]),
        ("SMB 1 asked, SMB 2 answered", smb(true, "000000f8fe534d4240"), vec![]),
        ("a known host", handshake(0.0, "10.0.0.1:40000", SERVER, 0x0303, version(0x0301)), vec![]),
    ]
}

#[test]
fn each_weakness_is_found_by_name() {
    for (name, all, expected) in cases() {
        let found = findings(&DETECTOR, &list(), &all);
        assert_eq!(found.iter().map(|finding| finding.key.as_str()).collect::<Vec<_>>(), expected, "{name}");
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}

#[test]
fn its_benign_twins_raise_nothing() {
    for (name, all, _) in twins() {
        let found = findings(&DETECTOR, &list(), &all);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn an_export_of_a_finding_gives_it_again() {
    for (_, all, _) in cases() {
        check_exports(&DETECTOR, &list(), &all);
    }
    let mut all: Vec<Observation> = Vec::new();
    for n in 0..150u32 {
        let weak = version(if n % 3 == 0 { 0x0304 } else { 0x0301 });
        all.extend(handshake(f64::from(n), &format!("10.0.0.66:{}", 40_000 + n), SERVER, 0x0304, weak));
    }
    assert!(findings(&DETECTOR, &list(), &all).len() >= 4);
    check_exports(&DETECTOR, &list(), &all);
}

#[test]
fn severities_and_labels() {
    let of = |all: &[Observation]| {
        let finding = findings(&DETECTOR, &list(), all).remove(0);
        (finding.severity, finding.techniques, finding.use_cases)
    };
    assert_eq!(of(&agreed(|hello| hello.version = 0x0301)), (Severity::Low, vec!["T1600"], vec![]));
    assert_eq!(of(&agreed(|hello| hello.version = 0x0300)), (Severity::Medium, vec!["T1600"], vec![]));
    let decoy = handshake(0.0, "10.0.0.66:40000", "10.0.0.21:443", 0x0303, version(0x0301));
    assert_eq!(of(&decoy), (Severity::Medium, vec!["T1600"], vec![]));
    assert_eq!(of(&agreed(|hello| hello.dh_bits = Some(1_024))), (Severity::Medium, vec!["T1600.001", "T1600"], vec![]));
    let regression = twice(version(0x0304), 60.0, 0x0304, version(0x0303));
    assert_eq!(of(&regression), (Severity::High, vec!["T1600", "T1557"], vec!["DUC0089"]));
    let found = findings(&DETECTOR, &list(), &regression).remove(0);
    assert_eq!((found.flows.len(), found.scope.0.len(), found.first), (2, 2, at(0.02)));
    let measured = findings(&DETECTOR, &list(), &agreed(|hello| hello.dh_bits = Some(1_024))).remove(0).evidence.remove(1);
    assert_eq!((measured.metric, measured.value, measured.threshold), ("dh_bits", 1_024.0, 2_048.0));
}

#[test]
fn a_flood_of_servers_is_bounded_and_counted() {
    let all: Vec<Observation> =
        (0..100u32).flat_map(|n| handshake(f64::from(n), "10.0.0.66:40000", &format!("10.9.9.{n}:443"), 0x0304, version(0x0301))).collect();
    let (found, evicted) = findings_with(&DETECTOR, "max_keys = 16", &list(), &all);
    assert_eq!((found.len(), evicted), (100, 84 * 3));
    assert_eq!(findings_with(&DETECTOR, "", &list(), &all).1, 0);
}

#[test]
fn golden_finding() {
    let found = findings(&DETECTOR, &list(), &agreed(|hello| hello.dh_bits = Some(1_024))).remove(0);
    check_golden(&DETECTOR, &found, "f3de1ba9-8ab5-8b46-b235-85f3f7e5dbe4", include_str!("golden.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_of_anything_is_answered(
        steps in proptest::collection::vec((any::<i64>(), 0u8..4, any::<u16>(), any::<u16>(), any::<u32>(), any::<bool>(), ".{0,9}"), 0..40),
    ) {
        let all: Vec<Observation> = steps.into_iter().map(|(when, kind, version, cipher, bits, flag, text)| {
            let now = Timestamp(when);
            let ends = wire(&format!("10.0.0.66:{}", version % 4), SERVER);
            let fact_of = match kind {
                0 => Fact::TlsClient(TlsClient { version, ..TlsClient::default() }),
                1 => Fact::TlsServer(TlsServer { version, cipher, dh_bits: Some(bits), downgrade_sentinel: flag, ..TlsServer::default() }),
                2 => Fact::Certificate(Certificate { key: "rsa".into(), key_bits: bits, signature: text, ..Certificate::default() }),
                _ => Fact::SshAgreed(SshAgreed { kex: text.clone(), server: text.clone().into(), macs: [text.clone(), text], ..SshAgreed::default() }),
            };
            fact(now, Timestamp(0), 6, ends, fact_of)
        }).collect();
        let (found, _) = findings_with(&DETECTOR, "max_keys = 16", &list(), &all);
        found.iter().for_each(|finding| check_shape(&DETECTOR, finding));
    }
}
