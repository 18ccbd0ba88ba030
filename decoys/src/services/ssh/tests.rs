//! The SSH decoy visited by real clients, and side by side with a real sshd.

use super::SERVICE;
use crate::testkit::{Kit, Seen};
use glasshive_event::Kind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

mod beside_sshd;
mod clients;
mod many;

const QUICK: &str = "fail_delay_ms = 0";

/// A listening decoy.
struct Decoy {
    kit: Arc<Kit>,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Decoy {
    fn drop(&mut self) {
        self.kit.cancel.cancel();
    }
}

impl Decoy {
    async fn start(settings: &str) -> Self {
        let settings = settings.to_owned();
        let kit = tokio::task::spawn_blocking(move || Arc::new(Kit::new(&SERVICE, &settings).unwrap())).await.unwrap();
        let address = kit.listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { kit, address, dir }
    }

    /// The OpenSSH client with a password given by an askpass program.
    fn client(&self, program: &str, password: &str, arguments: &[&str]) -> Command {
        let askpass = self.dir.path().join(format!("askpass-{password}"));
        if !askpass.exists() {
            std::fs::write(&askpass, format!("#!/bin/sh\necho '{password}'\n")).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let mut command = Command::new(program);
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=INFO"]);
        command.args(["-o", "IdentityFile=none", "-o", "IdentityAgent=none"]);
        command.args([if program == "ssh" { "-p" } else { "-P" }, &self.address.port().to_string()]);
        command.args(arguments);
        command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":none").env_remove("SSH_AUTH_SOCK");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the client to its end.
    async fn ssh(&self, password: &str, arguments: &[&str], input: &[u8]) -> Output {
        run(self.client("ssh", password, arguments), input.to_vec()).await
    }

    async fn closed(&self, count: usize) -> Vec<Seen> {
        self.kit.memory.closed(count).await
    }
}

async fn run(mut command: Command, input: Vec<u8>) -> Output {
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::spawn(move || {
            use std::io::Write as _;
            let _ = stdin.write_all(&input);
        });
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn of(seen: &[Seen], kind: Kind) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.kind == kind).collect()
}

/// All bytes of one direction and role, in order.
fn stream(seen: &[Seen], role: &str, direction: &str) -> Vec<u8> {
    use base64::Engine as _;
    of(seen, Kind::Stream)
        .iter()
        .filter(|s| s.detail["role"] == role && s.detail["direction"] == direction)
        .flat_map(|s| s.detail["chunks"].as_array().cloned().unwrap_or_default())
        .flat_map(|chunk| base64::engine::general_purpose::STANDARD.decode(chunk[1].as_str().unwrap()).unwrap())
        .collect()
}
