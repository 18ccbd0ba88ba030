//! Findings to channels: of a flood one note and a count, below the severity or of another net none;
//! and TLS only with the certificates that were named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{Hive, NET, Node, START};
use glasshive_event::{Envelope, FindingId, Kind, Severity, StoredFinding, Timestamp};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a receiver got: each connection's bytes.
type Got = Arc<Mutex<Vec<String>>>;

async fn read<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, got: &Got) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let whole = String::from_utf8_lossy(&text);
        let length = whole.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let body = whole.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if length.is_some() && length == body {
            break;
        }
        match stream.read(&mut part).await {
            Ok(n) if n > 0 => text.extend_from_slice(&part[..n]),
            _ => break,
        }
    }
    if !text.is_empty() {
        got.lock().unwrap().push(String::from_utf8(text).unwrap());
    }
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

/// Takes connections; with a certificate over TLS.
async fn receiver(tls: Option<TlsAcceptor>) -> (SocketAddr, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, got) = (listener.local_addr().unwrap(), Got::default());
    let taken = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                None => read(stream, &taken).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        read(stream, &taken).await;
                    }
                }
            }
        }
    });
    (at, got)
}

async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{what}: not seen"))
}

/// A controller with `[notify]` as given.
async fn hive(notify: &str) -> Hive {
    let mut hive = Hive::new().await;
    hive.stop().await;
    let path = hive.path("controller.toml");
    let lab = NET.replace("[net.dmz]", "[net.lab]");
    std::fs::write(hive.path("key"), "0123456789abcdef\n").unwrap();
    let text =
        format!("{}{lab}{}", std::fs::read_to_string(&path).unwrap(), notify.replace("KEY", &hive.path("key").display().to_string()));
    std::fs::write(path, text).unwrap();
    hive.start().await;
    hive
}

fn finding(number: u16, severity: Severity) -> StoredFinding {
    let at = Timestamp(START + i64::from(number));
    StoredFinding {
        finding: FindingId::derive("guessing", 1, &number.to_string(), at),
        detector: "guessing".into(),
        at,
        first: at,
        severity,
        summary: format!("Number {number}."),
        techniques: vec!["T1110".into()],
        actor: Some("192.0.2.7".parse().unwrap()),
        ..StoredFinding::default()
    }
}

fn bodies(got: &Got) -> Vec<Value> {
    let body = |text: &String| serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    got.lock().unwrap().iter().map(body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_findings_is_two_notes_and_what_is_mild_none() {
    let ((hook, posted), (collector, logged)) = (receiver(None).await, receiver(None).await);
    let mut hive = hive(&format!(
        "[notify]\ntroubles = false\nwindow = \"2s\"\nmin_severity = \"high\"\n[notify.webhook]\nurl = \"http://{hook}/x\"\nsecret_file = \"KEY\"\n\
         [notify.syslog]\naddress = \"{collector}\"\nnets = [\"lab\"]\n"
    ))
    .await;
    let mut node = Node::new("edge", 1);
    for number in 0..200 {
        let severity = if number % 2 == 0 { Severity::High } else { Severity::Medium };
        node.add(START, Kind::Finding, &Envelope::default(), &finding(number, severity));
    }
    node.send(&hive).await;
    let told = until("both notes", || Some(bodies(&posted)).filter(|told| told.len() >= 2)).await;
    assert_eq!((&told[0]["count"], &told[0]["summary"]), (&1.into(), &"Number 0.".into()));
    assert_eq!((&told[1]["count"], told[1]["findings"].as_array().unwrap().len()), (&99.into(), 16), "the mild ones are not among them");
    for note in &told {
        assert_eq!((&note["kind"], &note["net"], &note["severity"]), (&"finding".into(), &"dmz".into(), &"high".into()));
        assert_eq!((&note["techniques"][0], &note["actor"]), (&"T1110".into(), &"192.0.2.7".into()));
    }
    // A later record of the same finding is no news; another finding afterwards is.
    node.add(START, Kind::Finding, &Envelope::default(), &finding(0, Severity::High));
    node.add(START, Kind::Finding, &Envelope::default(), &finding(300, Severity::Critical));
    node.send(&hive).await;
    let told = until("the third", || Some(bodies(&posted)).filter(|told| told.len() >= 3)).await;
    assert_eq!((told.len(), &told[2]["severity"], &told[2]["summary"]), (3, &"critical".into(), &"Number 300.".into()));
    let doctor = hive.run("doctor --json").await;
    let notify = doctor.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|one| one["type"] == "notify");
    let sent: Vec<_> = notify.map(|one| (one["channel"].clone(), one["sent"].clone(), one["dropped"].clone())).collect();
    assert_eq!(sent, [("webhook".into(), 3.into(), 0.into()), ("syslog".into(), 0.into(), 0.into())], "{doctor:?}");
    hive.stop().await;
    assert_eq!(logged.lock().unwrap().len(), 0, "another net's channel");
}

/// A certificate for `127.0.0.1` and an acceptor that shows it.
fn certified(path: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path, made.cert.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_the_named_certificates_only() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (dir.path().join("good.pem"), dir.path().join("other.pem"));
    let acceptor = certified(&good);
    certified(&other);
    let ((hook, posted), (collector, logged)) = (receiver(Some(acceptor.clone())).await, receiver(Some(acceptor)).await);
    let settings = |ca: &Path| {
        format!(
            "[notify]\ntroubles = false\n[notify.webhook]\nurl = \"https://{hook}/x\"\nsecret_file = \"KEY\"\nca = {ca:?}\n\
             [notify.syslog]\naddress = \"{collector}\"\ntransport = \"tls\"\nca = {ca:?}\n"
        )
    };
    let mut trusting = hive(&settings(&good)).await;
    let said = trusting.run("notify test").await;
    assert_eq!(said.code, 0, "{said:?}");
    until("the message", || (!logged.lock().unwrap().is_empty()).then_some(())).await;
    let message = logged.lock().unwrap()[0].clone();
    let (length, rest) = message.split_once(' ').unwrap();
    assert!(rest.len() == length.parse::<usize>().unwrap() && rest.starts_with("<134>1 "), "octet counting: {message}");
    assert_eq!(bodies(&posted)[0]["kind"], "test");
    trusting.stop().await;
    let mut wary = hive(&settings(&other)).await;
    let said = wary.run("notify test").await;
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.out.matches("FAILED: TLS: ").count(), 2, "{said:?}");
    assert!(said.err.contains("2 channels did not take the message"), "{said:?}");
    wary.stop().await;
}

/// The daemon down: the command line sends itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_needs_no_daemon() {
    let (hook, posted) = receiver(None).await;
    let mut hive = hive(&format!("[notify.webhook]\nurl = \"http://{hook}/x\"\nsecret_file = \"KEY\"\n")).await;
    hive.stop().await;
    assert_eq!(hive.run("notify test").await.code, 0);
    assert_eq!(bodies(&posted).len(), 1);
    std::fs::write(hive.path("key"), "short").unwrap();
    let said = hive.run("notify test").await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains("key notify.webhook.secret_file: ") && said.err.contains("openssl rand -hex 32"), "{said:?}");
}
