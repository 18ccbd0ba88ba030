//! The Telnet decoy visited by raw sockets, the telnet client and nmap.

use super::SERVICE;
use crate::testkit::{Kit, Seen};
use glasshive_event::Kind;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const QUICK: &str = "fail_delay_ms = 0";

fn kit(settings: &str) -> Arc<Kit> {
    Arc::new(Kit::new(&SERVICE, settings).unwrap())
}

async fn until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).ends_with(end) {
        let mut byte = [0];
        assert_ne!(stream.read(&mut byte).await.unwrap(), 0, "closed after {}", all.escape_ascii());
        all.push(byte[0]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn details(seen: &[Seen], kind: Kind) -> Vec<serde_json::Value> {
    seen.iter().filter(|s| s.kind == kind).map(|s| s.detail.clone()).collect()
}

fn streamed(seen: &[Seen], direction: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = details(seen, Kind::Stream)
        .iter()
        .filter(|d| d["direction"] == direction)
        .flat_map(|d| d["chunks"].as_array().cloned().unwrap())
        .flat_map(|chunk| base64::engine::general_purpose::STANDARD.decode(chunk[1].as_str().unwrap()).unwrap())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_bot_that_answers_nothing_logs_in_and_types() {
    let kit = kit(QUICK);
    let mut far = kit.connect();
    far.write_all(b"root\r\nwrong\r\n").await.unwrap();
    until(&mut far, "Login incorrect\r\nweb-1 login: ").await;
    far.write_all(b"root\r\ntoor\r\necho one\r\n").await.unwrap();
    until(&mut far, "# ").await;
    far.write_all(b"exit\r\n").await.unwrap();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    let seen = kit.memory.closed(1).await;
    let logins = details(&seen, Kind::Login);
    let secrets: Vec<_> = logins.iter().map(|l| (l["secret_sealed"].as_str().unwrap(), l["accepted"].as_bool().unwrap())).collect();
    assert_eq!(secrets, [("sealed:wrong", false), ("sealed:toor", true)]);
    let commands = details(&seen, Kind::Command);
    assert_eq!(commands.iter().map(|c| c["input"].as_str().unwrap()).collect::<Vec<_>>(), ["echo one", "exit"]);
    assert_eq!(details(&seen, Kind::SessionClose)[0]["reason"], "server");
    let (typed, shown) = (streamed(&seen, "in"), streamed(&seen, "out"));
    assert!(typed.starts_with("root\r\n") && typed.contains("echo one"), "{typed:?}");
    assert!(!typed.contains("toor") && !typed.contains("wrong") && !shown.contains("toor"), "{typed:?} {shown:?}");
    assert!(shown.contains("Password: \r\n") && shown.contains("\r\none\r\n"), "{shown:?}");
}

#[tokio::test]
async fn turned_away_after_the_tries() {
    let kit = kit("fail_delay_ms = 0\ntries = 3");
    let mut far = kit.connect();
    far.write_all(b"a\r\nb\r\na\r\nc\r\na\r\nd\r\n").await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert!(all.ends_with(b"Login incorrect\r\nMaximum number of tries exceeded (3)\r\n"), "{}", all.escape_ascii());
    let seen = kit.memory.closed(1).await;
    assert_eq!(details(&seen, Kind::Login).len(), 3);
    assert_eq!(details(&seen, Kind::SessionClose)[0]["reason"], "server");
}

#[tokio::test]
async fn login_takes_too_long() {
    let kit = kit("login_timeout = 1");
    let mut far = kit.connect();
    far.write_all(b"root\r\n").await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert!(all.ends_with(b"Password: \r\nLogin timed out after 1 seconds.\r\n"), "{}", all.escape_ascii());
    kit.memory.closed(1).await;
}

/// The telnet client on a pseudo terminal, driven by expect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_telnet_client() {
    let kit = kit(QUICK);
    let address = kit.listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let script = format!(
        "set timeout 20\nspawn telnet 127.0.0.1 {}\nexpect \"login: \"\nsend \"root\\r\"\nexpect \"assword: \"\nsend \"toor\\r\"\n\
         expect \"# \"\nsend \"echo hi there\\r\"\nexpect \"hi there\\r\"\nexpect \"# \"\nsend \"exit\\r\"\nexpect eof\n",
        address.port()
    );
    let output = tokio::task::spawn_blocking(move || {
        Command::new("expect").args(["-c", &script]).stdin(Stdio::null()).output().expect("expect: install the packages expect and telnet")
    })
    .await
    .unwrap();
    assert!(output.status.success());
    let seen = kit.memory.closed(1).await;
    kit.cancel.cancel();
    assert_eq!(details(&seen, Kind::Login).len(), 1);
    let commands = details(&seen, Kind::Command);
    assert_eq!(commands.iter().map(|c| c["input"].as_str().unwrap()).collect::<Vec<_>>(), ["echo hi there", "exit"]);
    let negotiated = details(&seen, Kind::Request);
    assert_eq!(negotiated.len(), 1);
    assert!(negotiated[0]["fields"]["options"].as_str().unwrap().contains("WILL-24"), "{}", negotiated[0]);
    assert!(details(&seen, Kind::Stream).iter().any(|s| s["terminal"].is_array()), "the window size is recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nmap_names_the_daemon() {
    let kit = kit(QUICK);
    let address = kit.listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let port = address.port().to_string();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("nmap").args(["-n", "-Pn", "-sT", "-sV", "-p", &port, "127.0.0.1"]).output().expect("nmap: install the package nmap")
    })
    .await
    .unwrap();
    kit.cancel.cancel();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Linux telnetd") && !text.contains("Cowrie"), "{text}");
}
