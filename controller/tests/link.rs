//! A node over the real link: joins with a token, sends, gives a file, is followed live, is revoked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::{Hive, Node, at, envelope, login};
use glasshive_event::detail::{File, SessionOpen};
use glasshive_event::text::hex;
use glasshive_event::{Kind, LogId};
use glasshive_link::client::{self, ClientConfig};
use glasshive_link::identity::{IdentityDir, Token};
use glasshive_link::seal::Sealer as _;
use glasshive_link::{BlobPart, Block, BlockSource, LinkPhase, LinkStatus, Problem, SourceClosed, SourceState, SystemClock};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A journal in memory.
struct Memory {
    log: LogId,
    blocks: Mutex<Vec<Block>>,
    head: watch::Sender<(u64, [u8; 32])>,
    blob: (String, Vec<u8>),
}

impl Memory {
    fn add(&self, node: &mut Node) {
        self.blocks.lock().unwrap().push(node.block());
        self.head.send_replace(node.head());
    }
}

impl BlockSource for Memory {
    async fn state(&self) -> Result<SourceState, SourceClosed> {
        let (seq, chain) = *self.head.borrow();
        Ok(SourceState { log: self.log, first: 1, next: seq + 1, chain })
    }
    async fn changed(&self, after: u64) -> Result<(), SourceClosed> {
        self.head.subscribe().wait_for(|(seq, _)| *seq > after).await.map(|_| ()).map_err(|_| SourceClosed)
    }
    async fn read(&self, from: u64, _: usize) -> Result<Vec<Block>, SourceClosed> {
        Ok(self.blocks.lock().unwrap().iter().filter(|block| block.last >= from).cloned().collect())
    }
    async fn acknowledged(&self, _: u64) -> Result<(), SourceClosed> {
        Ok(())
    }
    async fn blob(&self, name: &str, offset: u64, len: u32) -> Result<Option<BlobPart>, SourceClosed> {
        if name != self.blob.0 {
            return Ok(None);
        }
        let all = &self.blob.1;
        let start = (offset as usize).min(all.len());
        let end = (start + len as usize).min(all.len());
        Ok(Some(BlobPart { total: all.len() as u64, bytes: Bytes::copy_from_slice(&all[start..end]) }))
    }
}

/// Asks again until the answer is as wanted; a hang names what was waited for.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never came: {what}");
}

async fn status(watched: &mut watch::Receiver<LinkStatus>, what: &str, test: impl FnMut(&LinkStatus) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), watched.wait_for(test)).await.map(|found| found.map(|_| ()));
    if !matches!(waited, Ok(Ok(()))) {
        panic!("never came: {what}: {:?}", *watched.borrow());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_sends_and_is_shut_out() {
    let mut hive = Hive::new().await;
    let address = hive.running().listen.to_string();
    let enrolled = hive.run("enroll edge-1 --net dmz --role decoys --json").await.objects();
    let token: Token = enrolled[0]["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(enrolled[0]["pin"], token.pin.to_string());
    let plain = hive.run("enroll edge-2 --net dmz --role sensor --ttl 15m").await.ok();
    assert!(plain.contains("gh1.edge-2.") && plain.contains("glasshive-sensor identity join"), "{plain}");
    assert!(hive.run("nodes").await.ok().contains("token"));

    let dir = IdentityDir::new(hive.path("node"));
    client::join(&address, &token, &dir, Arc::new(SystemClock)).await.unwrap();
    assert!(
        client::join(&address, &token, &IdentityDir::new(hive.path("other")), Arc::new(SystemClock)).await.is_err(),
        "a token is good once"
    );

    // A visit with an upload that is too large for a record.
    let content: Vec<u8> = (0..60_000u32).flat_map(u32::to_le_bytes).collect();
    let sha256 = hex(&Sha256::digest(&content));
    let sealer = hive.sealer();
    let mut sealed = Vec::new();
    sealer.seal_file(&mut content.as_slice(), &mut sealed).unwrap();
    let mut node = Node::new("edge-1", 1);
    let open = envelope(1, "ssh");
    let id = open.session.unwrap();
    node.add(at(1, 0), Kind::SessionOpen, &open, &SessionOpen { persona: "debian-web".into(), ..SessionOpen::default() });
    node.add(at(1, 10), Kind::Login, &open, &login(&sealer, "root", b"hunter2", true));
    let file = File {
        name: "big.bin".into(),
        size: content.len() as u64,
        sha256: sha256.clone(),
        direction: "upload".into(),
        magic: "data".into(),
        blob: Some(sha256.clone()),
        ..File::default()
    };
    node.add(at(1, 20), Kind::File, &open, &file);
    let source = Arc::new(Memory {
        log: node.log,
        blocks: Mutex::default(),
        head: watch::Sender::new((0, [0; 32])),
        blob: (sha256.clone(), sealed),
    });
    source.add(&mut node);
    let (told, mut watched) = watch::channel(LinkStatus::default());
    let stop = CancellationToken::new();
    let config = ClientConfig::new(dir, vec![address]);
    let link = tokio::spawn(client::run(config, Arc::clone(&source), Arc::new(SystemClock), told, stop.clone()));
    status(&mut watched, "the link's state", |status| status.phase == LinkPhase::Connected && status.durable >= 3).await;

    let nodes = until("the node in the list", async || {
        let nodes = hive.run("nodes --json").await.objects();
        nodes.iter().find(|node| node["node"] == "edge-1" && node["connected"] == true).cloned()
    })
    .await;
    assert_eq!((nodes["net"].as_str(), nodes["role"].as_str(), nodes["state"].as_str()), (Some("dmz"), Some("decoys"), Some("enrolled")));
    assert!(nodes["certificate_days"].as_i64().unwrap() >= 28);
    hive.settled().await;
    assert!(hive.run(&format!("session {id}")).await.ok().contains("ACCEPTED"));

    // Live: a follower sees what comes next.
    let config_path = hive.path("controller.toml");
    let (out, live, _) = glasshive_controller::screen::Out::captured(false);
    let words =
        ["glasshive", "tail", "-f", "--limit", "0", "--kind", "login", "--config", config_path.to_str().unwrap()].map(str::to_owned);
    let follower = tokio::spawn(glasshive_controller::cli::run(words, Some(out)));
    let mut millis = 30;
    until("the live event", async || {
        // Sent again until the follower listens: there is no moment to wait for.
        node.add(at(1, millis), Kind::Login, &open, &login(&sealer, "admin\u{202e}", b"x", false));
        source.add(&mut node);
        millis += 1;
        live.text().contains("admin\\u{202e}").then_some(())
    })
    .await;
    follower.abort();

    // The blob comes over the bulk connection, is opened, and is the upload.
    let files = hive.path("files");
    let exported = until("the file", async || {
        let _ = std::fs::remove_dir_all(&files);
        hive.run_words(&["export", "session", &id.to_string(), "--format", "files", "-o", files.to_str().unwrap()]).await.ok();
        std::fs::read(files.join(&sha256)).ok()
    })
    .await;
    assert!(exported == content, "byte-equal to the upload");
    assert!(hive.path("state/files").join(&sha256[..2]).join(&sha256).exists());

    // Shut out: needs a reason, ends the connection, is in the log.
    assert_eq!(hive.run("revoke edge-1").await.code, 4);
    let revoked = hive.run_words(&["revoke", "edge-1", "--reason", "host rebuilt"]).await.ok();
    assert_eq!(revoked, "node edge-1 is revoked; its connections were cut\n");
    status(&mut watched, "the link's state", |status| status.phase != LinkPhase::Connected).await;
    status(&mut watched, "the link's state", |status| status.problem == Some(Problem::Revoked)).await;
    assert!(hive.run("nodes").await.ok().contains("revoked"));
    let audits = hive.run("tail --kind audit --limit 1000").await.ok();
    for said in ["enroll node edge-1 as decoys in net dmz", "revoke node edge-1", "because: host rebuilt"] {
        assert!(audits.contains(said), "{said}: {audits}");
    }
    let health = until("the disconnect", async || {
        let health = hive.run("tail --kind health --limit 1000").await.ok();
        health.contains("disconnected").then_some(health)
    })
    .await;
    assert!(health.contains("node edge-1 joined") && health.contains("node edge-1 connected"), "{health}");
    stop.cancel();
    link.await.unwrap();

    // Offline: a request is signed into a bundle the node installs.
    let dir = IdentityDir::new(hive.path("offline"));
    let csr = dir.request(&"edge-3".parse().unwrap()).unwrap();
    std::fs::write(hive.path("edge-3.csr"), csr).unwrap();
    let bundle =
        hive.run_words(&["enroll", "--sign", hive.path("edge-3.csr").to_str().unwrap(), "--net", "dmz", "--role", "sensor"]).await.ok();
    assert_eq!(dir.install(bundle.as_bytes()).unwrap().node.as_str(), "edge-3");
    hive.stop().await;
}
