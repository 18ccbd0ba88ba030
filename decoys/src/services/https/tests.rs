use super::super::find;
use crate::testkit::Kit;
use glasshive_event::Kind;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

async fn run(program: &str, arguments: &[&str]) -> String {
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, child)
        .await
        .unwrap_or_else(|_| panic!("{program} does not end"))
        .unwrap_or_else(|error| panic!("{program} is needed: apt-get install {program}: {error}"));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn answer(kit: &Kit, bytes: &[u8]) -> Vec<u8> {
    let mut client = kit.connect();
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut out = Vec::new();
    client.read_to_end(&mut out).await.unwrap();
    out
}

/// A hello of that version without extensions.
fn hello(version: u16) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x14, 0, 0x35, 1, 0]);
    let mut record = vec![22, 3, if version == 0x0300 { 0 } else { 1 }, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend(body);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_both_versions_and_everything_is_recorded() {
    let kit = Arc::new(Kit::new(find("https").unwrap(), "").unwrap());
    let address = kit.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (index, version) in ["1.2", "1.3"].into_iter().enumerate() {
        let url = format!("https://web-1.corp.example:{}/", address.port());
        let resolve = format!("web-1.corp.example:{}:127.0.0.1", address.port());
        let minimum = format!("--tlsv{version}");
        let shown =
            run("curl", &["-sSkv", "--noproxy", "*", "--http1.1", &minimum, "--tls-max", version, "--resolve", &resolve, &url]).await;
        assert!(shown.contains("200 OK") && shown.contains("<!DOCTYPE html>"), "{shown}");
        assert!(shown.contains("CN=web-1.corp.example"), "{shown}");
        let seen = kit.memory.closed(index + 1).await;
        let count = |kind| seen.iter().filter(|s| s.kind == kind).count();
        assert_eq!(
            (count(Kind::Hello), count(Kind::Secret), count(Kind::Request), count(Kind::Malformed)),
            (index + 1, index + 1, index + 1, 0)
        );
        let hello = &seen.iter().rfind(|s| s.kind == Kind::Hello).unwrap().detail;
        assert_eq!((hello["sni"].as_str(), hello["version"].as_str()), (Some("web-1.corp.example"), Some(version)));
        let secret = &seen.iter().rfind(|s| s.kind == Kind::Secret).unwrap().detail;
        let word = if version == "1.2" { "CLIENT_RANDOM " } else { "CLIENT_TRAFFIC_SECRET_0 " };
        assert!(secret["secret_sealed"].as_str().unwrap().contains(word), "{secret}");
        assert_eq!(seen.iter().rfind(|s| s.kind == Kind::Request).unwrap().detail["fields"]["tls"], true);
    }
    kit.cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nmap_names_nginx() {
    for name in ["http", "https"] {
        let kit = Arc::new(Kit::new(find(name).unwrap(), "").unwrap());
        let address = kit.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let text = run("nmap", &["-n", "-Pn", "-sV", "-p", &address.port().to_string(), "127.0.0.1"]).await;
        let line = text.lines().find(|line| line.contains("/tcp")).unwrap_or(&text);
        assert!(line.contains("nginx 1.22.1") && line.contains("ssl/") == (name == "https"), "{text}");
        kit.cancel.cancel();
    }
}

/// Bytes taken from nginx 1.22.1 with OpenSSL 3 as Debian configures them.
#[tokio::test]
async fn old_and_wrong_hellos_get_the_alerts_of_openssl() {
    let kit = Kit::new(find("https").unwrap(), "").unwrap();
    assert_eq!(answer(&kit, &hello(0x0301)).await, [21, 3, 1, 0, 2, 2, 80]);
    assert_eq!(answer(&kit, &hello(0x0302)).await, [21, 3, 2, 0, 2, 2, 80]);
    assert_eq!(answer(&kit, b"\x16\x02\x01\x00\x05aaaaa").await, b"");
    assert_eq!(answer(&kit, b"\x16\x03\x01\x00\x05aaaaa").await, [21, 3, 3, 0, 2, 2, 10]);
    assert_eq!(answer(&kit, b"\x16\x03\x01\xff\xffaaaaa").await, [21, 3, 3, 0, 2, 2, 22]);
    assert_eq!(answer(&kit, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03").await, [21, 3, 3, 0, 2, 2, 50]);
    let seen = kit.memory.closed(6).await;
    assert_eq!(seen.iter().filter(|s| s.kind == Kind::Hello).count(), 2);
    assert_eq!(seen.iter().filter(|s| s.kind == Kind::Malformed).count(), 6);
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let kit = Kit::new(find("https").unwrap(), "").unwrap();
    let text = String::from_utf8(answer(&kit, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.contains("The plain HTTP request was sent to HTTPS port"), "{text}");
    assert_eq!(kit.memory.closed(1).await.iter().filter(|s| s.kind == Kind::Request).count(), 1);
}
