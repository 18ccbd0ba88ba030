//! A controller in a directory of its own, a node that writes whatever a test says, and the command
//! line run as a function.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use glasshive_controller::config::{Config, Overrides};
use glasshive_controller::screen::Out;
use glasshive_controller::serve::{Running, start_with};
use glasshive_controller::{cli, desk};
use glasshive_daemon::shutdown::Shutdown;
use glasshive_event::detail::{Command, File, Forward, Hello, Login, Malformed, Request, SessionClose, SessionOpen, Stream};
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::text::hex;
use glasshive_event::{Body, Endpoint, Envelope, Header, Kind, LogId, SessionId, Transport, Tuple, WireText};
use glasshive_journal::store::NodeBatch;
use glasshive_link::seal::{RecipientSealer, Sealer};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// 2026-01-31T12:00:00Z, the start of every story.
pub const START: i64 = 1_769_860_800_000_000_000;
pub const SECOND: i64 = 1_000_000_000;

pub const NET: &str = "[net.dmz]\nvantage = \"edge\"\nowner = \"sec@example.org\"\npurpose = \"early warning\"\nlegal_basis = \"legitimate interest\"\nretention = \"3650d\"\n";

pub struct Hive {
    pub dir: tempfile::TempDir,
    pub running: Option<Running>,
    pub shutdown: Shutdown,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
    pub fn objects(self) -> Vec<serde_json::Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Hive {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "state_dir = {:?}\nsocket = {:?}\nlisten = \"127.0.0.1:0\"\n{NET}",
            dir.path().join("state").display().to_string(),
            dir.path().join("controller.sock").display().to_string()
        );
        std::fs::write(dir.path().join("controller.toml"), text).unwrap();
        let mut hive = Self { dir, running: None, shutdown: Shutdown::new() };
        hive.start().await;
        hive
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> Config {
        Config::load(&Overrides { config: Some(self.path("controller.toml")), ..Overrides::default() }).unwrap()
    }

    pub async fn start(&mut self) {
        self.shutdown = Shutdown::new();
        // Without detectors: what they find, and when, is not what these tests are about.
        self.running = Some(start_with(self.config(), self.shutdown.clone(), &[]).await.unwrap());
    }

    pub async fn stop(&mut self) {
        self.shutdown.request();
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn sealer(&self) -> RecipientSealer {
        let identity = self.running().context.identity.as_ref().unwrap();
        RecipientSealer::new(&identity.unsealer().recipient(), *identity.pivot_key()).unwrap()
    }

    /// Runs `glasshive WORDS`.
    pub async fn run(&self, words: &str) -> Said {
        self.run_words(&words.split(' ').collect::<Vec<_>>()).await
    }

    pub async fn run_words(&self, words: &[&str]) -> Said {
        run_at(&self.path("controller.toml"), words).await
    }

    pub async fn settled(&self) {
        self.running().context.store.settled().await.unwrap();
    }
}

pub async fn run_at(config: &Path, words: &[&str]) -> Said {
    let config = config.display().to_string();
    let mut args = vec!["glasshive"];
    args.extend(words.iter().filter(|word| !word.is_empty()));
    args.extend(["--config", &config]);
    let (out, stdout, stderr) = Out::captured(false);
    let code = cli::run(args, Some(out)).await;
    Said { code, out: stdout.text(), err: stderr.text() }
}

/// A node's log.
pub struct Node {
    pub name: String,
    pub log: LogId,
    seq: u64,
    chain: [u8; 32],
    pending: Vec<u8>,
    first: u64,
    before: [u8; 32],
}

impl Node {
    pub fn new(name: &str, number: u8) -> Self {
        Self { name: name.into(), log: LogId([number; 16]), seq: 0, chain: [0; 32], pending: Vec::new(), first: 1, before: [0; 32] }
    }

    pub fn add<D: Serialize>(&mut self, at: i64, kind: Kind, envelope: &Envelope, detail: &D) {
        let envelope = Envelope { kind: kind.number(), ..envelope.clone() };
        let body = Body::encode(&envelope, detail).unwrap();
        self.seq += 1;
        let header = Header { log: self.log, seq: self.seq, wall_ns: at, mono_ns: (at - START).unsigned_abs(), boot: [9; 16] };
        let record = body.with_header(&header);
        self.chain = chain_hash(&self.chain, &leaf_hash(&record));
        self.pending.extend_from_slice(&(record.len() as u32).to_be_bytes());
        self.pending.extend_from_slice(&record);
    }

    /// What was added since, as one block for a link.
    pub fn block(&mut self) -> glasshive_link::Block {
        let bytes = std::mem::take(&mut self.pending);
        let block = glasshive_link::Block { first: self.first, last: self.seq, chain_before: self.before, bytes };
        (self.first, self.before) = (self.seq + 1, self.chain);
        block
    }

    pub fn head(&self) -> (u64, [u8; 32]) {
        (self.seq, self.chain)
    }

    pub async fn send(&mut self, hive: &Hive) {
        let batch = NodeBatch {
            node: self.name.clone(),
            net: "dmz".into(),
            log: self.log,
            first: self.first,
            chain_before: self.before,
            bytes: std::mem::take(&mut self.pending),
            received_ns: desk::now_ns(),
        };
        hive.running().context.store.append(batch).await.unwrap();
        (self.first, self.before) = (self.seq + 1, self.chain);
        hive.settled().await;
    }
}

/// Session number `n` of a visitor, opened `n` minutes after the start.
pub fn envelope(n: u8, service: &str) -> Envelope {
    let at = START + i64::from(n) * 60 * SECOND;
    let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
    Envelope {
        session: Some(SessionId::new(at, [n; 10])),
        decoy: Some("web-1".into()),
        service: Some(service.into()),
        transport: Some(Transport::Tcp),
        wire: Some(Tuple {
            source: end("192.0.2.7", 40_000 + u16::from(n)),
            destination: end("10.0.0.5", if service == "ssh" { 22 } else { 80 }),
        }),
        ..Envelope::default()
    }
}

pub fn at(n: u8, millis: i64) -> i64 {
    START + i64::from(n) * 60 * SECOND + millis * 1_000_000
}

pub fn login(sealer: &dyn Sealer, user: impl Into<WireText>, secret: &[u8], accepted: bool) -> Login {
    Login {
        user: user.into(),
        method: "password".into(),
        secret_kind: "plain".into(),
        secret_sealed: Some(sealer.seal(secret)),
        secret_len: secret.len() as u64,
        secret_pivot: Some(sealer.pivot(secret)),
        accepted,
        ..Login::default()
    }
}

pub fn stream(channel: u32, direction: &str, offset: u64, terminal: bool, chunks: &[(u64, &[u8])]) -> Stream {
    use base64::Engine as _;
    Stream {
        channel,
        direction: direction.into(),
        offset,
        role: if terminal { "shell" } else { "control" }.into(),
        terminal: terminal.then_some((80, 24)),
        chunks: chunks.iter().map(|(delta, bytes)| (*delta, base64::engine::general_purpose::STANDARD.encode(bytes))).collect(),
    }
}

pub fn uploaded(sealer: &dyn Sealer, name: &str, content: &[u8]) -> File {
    File {
        name: name.into(),
        size: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
        direction: "upload".into(),
        magic: "script".into(),
        content_sealed: Some(sealer.seal(content)),
        ..File::default()
    }
}

pub fn closed(n: u8, seconds: u64) -> (i64, SessionClose) {
    let detail = SessionClose {
        reason: "client".into(),
        duration_ns: seconds * 1_000_000_000,
        bytes_in: 812,
        bytes_out: 4_200,
        packets_in: 20,
        packets_out: 31,
        ..SessionClose::default()
    };
    (at(n, seconds as i64 * 1_000), detail)
}

/// An ssh visit with everything in it: two refused logins, one accepted, commands, an upload, a
/// tunnel with a child, a malformed input, a terminal.
pub async fn ssh_visit(hive: &Hive, node: &mut Node, n: u8) -> SessionId {
    let sealer = hive.sealer();
    let open = envelope(n, "ssh");
    let id = open.session.unwrap();
    let child = SessionId::new(at(n, 9_000), [n + 100; 10]);
    node.add(at(n, 0), Kind::SessionOpen, &open, &SessionOpen { persona: "debian-web".into(), ..SessionOpen::default() });
    let hello = Hello {
        protocol: "ssh".into(),
        id: Some("SSH-2.0-Go".into()),
        hassh: Some("ec7378c1a92f5a8dde7e8b7a1ddf33d1".into()),
        ..Hello::default()
    };
    node.add(at(n, 12), Kind::Hello, &open, &hello);
    node.add(at(n, 900), Kind::Login, &open, &login(&sealer, "root", b"123456", false));
    node.add(at(n, 1_400), Kind::Login, &open, &login(&sealer, "root", b"hunter2", true));
    node.add(at(n, 2_000), Kind::Stream, &open, &stream(1, "out", 0, true, &[(0, b"root@web-1:~# "), (150_000_000, b"uname -a\r\n")]));
    node.add(at(n, 2_000), Kind::Stream, &open, &stream(1, "in", 0, true, &[(100_000_000, b"uname -a\r")]));
    let command = Command { input: "uname -a".into(), exit: Some(0), output_len: 64, channel: Some(1), known: true, ..Command::default() };
    node.add(at(n, 2_200), Kind::Command, &open, &command);
    node.add(
        at(n, 2_300),
        Kind::Stream,
        &open,
        &stream(1, "out", 24, true, &[(0, b"Linux web-1 6.1.0 \x1b[32mx86_64\x1b[0m gr\xc3"), (4_000_000_000, b"\xbcn\r\n")]),
    );
    node.add(at(n, 5_000), Kind::File, &open, &uploaded(&sealer, "../../x.sh", b"#!/bin/sh\necho owned\n"));
    let forward = Forward {
        host: "10.0.0.9".into(),
        port: 80,
        mechanism: "direct-tcpip".into(),
        answered: true,
        child: Some(child.to_string()),
        ..Forward::default()
    };
    node.add(at(n, 9_000), Kind::Forward, &open, &forward);
    let inner = Envelope { session: Some(child), parent: Some(id), service: Some("http".into()), ..open.clone() };
    node.add(
        at(n, 9_000),
        Kind::SessionOpen,
        &inner,
        &SessionOpen { persona: "debian-web".into(), target: Some("10.0.0.9:80".into()), ..SessionOpen::default() },
    );
    let request =
        Request { protocol: "http".into(), verb: "GET".into(), target: "/admin".into(), status: Some("404".into()), ..Request::default() };
    node.add(at(n, 9_100), Kind::Request, &inner, &request);
    let (end, close) = closed(n, 10);
    node.add(end, Kind::SessionClose, &inner, &close);
    let malformed = Malformed {
        protocol: "ssh".into(),
        what: "packet length over 256 KiB".into(),
        offset: 812,
        bytes: "ffffffff1b5b324a".into(),
        looks_like: Some("tls".into()),
    };
    node.add(at(n, 11_000), Kind::Malformed, &open, &malformed);
    let (end, close) = closed(n, 12);
    node.add(end, Kind::SessionClose, &open, &close);
    node.send(hive).await;
    id
}
