//! A reader that says this and that, and what the daemon makes of it.

use super::*;
use crate::wall::{Direction, Hook};
use glasshive_event::RecordView;
use glasshive_journal::{JournalConfig, JournalHandle};
use tokio::io::AsyncWriteExt as _;

struct System;

impl crate::recorder::Clock for System {
    fn wall_ns(&self) -> i64 {
        glasshive_daemon::clock::wall_ns()
    }
    fn mono_ns(&self) -> u64 {
        glasshive_daemon::clock::mono_ns()
    }
}

struct Daemon {
    dir: tempfile::TempDir,
    _journal: glasshive_journal::Journal,
    handle: JournalHandle,
    gate: Gate,
    stop: CancellationToken,
}

impl Daemon {
    async fn start(allowed: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, handle, _) = glasshive_journal::open(JournalConfig::new(dir.path().join("journal"))).unwrap();
        let settings = WallConfig { required: true, socket: dir.path().join("run/wall.sock"), ..WallConfig::default() };
        let mut wall = bind(&settings, rustix::process::getuid().as_raw(), &[], &mut Passed::default()).unwrap();
        wall.decoys.insert("10.66.1.10".parse().unwrap(), "web-1".into());
        if let Some(uid) = allowed {
            wall.allowed = vec![uid];
        }
        let (gate, stop) = (Gate::new(false, CancellationToken::new()), CancellationToken::new());
        let health = Health::new(handle.clone(), Arc::new(System), Some(wall.standing()));
        tokio::spawn(wall.serve(health, gate.clone(), true, stop.clone()));
        Self { dir, _journal: journal, handle, gate, stop }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("run/wall.sock")).await.unwrap()
    }

    /// Kinds and details in the journal, once there are `count` of `kind`.
    async fn records(&self, kind: Kind, count: usize) -> Vec<(Envelope, Value)> {
        loop {
            let mut found = Vec::new();
            let mut next = self.handle.first();
            loop {
                let blocks = self.handle.read(next, 1 << 20).await.unwrap();
                if blocks.is_empty() {
                    break;
                }
                for block in &blocks {
                    next = block.last + 1;
                    for record in glasshive_journal::block::records(&block.bytes) {
                        let (envelope, detail) = RecordView::parse(record.unwrap()).unwrap().split().unwrap();
                        if envelope.kind == kind.number() {
                            found.push((envelope, serde_json::from_str(detail).unwrap()));
                        }
                    }
                }
            }
            if found.len() >= count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn state(change: impl FnOnce(&mut State)) -> Message {
    let mut state = State { table: "inet glasshive_wall".into(), loaded: true, entry: true, hash: "ab".into(), ..State::default() };
    change(&mut state);
    Message::State(state)
}

async fn say(stream: &mut UnixStream, message: &Message) {
    let line = format!("{}\n", serde_json::to_string(message).unwrap());
    stream.write_all(line.as_bytes()).await.unwrap();
}

fn packet(source: &str) -> Message {
    Message::Blocked(Packet {
        direction: Direction::Out,
        protocol: 6,
        source: source.parse().unwrap(),
        destination: "192.0.2.7:443".parse().unwrap(),
        flags: 2,
        icmp: None,
        interface: "dcy0".into(),
        prefix: "glasshive out".into(),
        uid: Some(5),
        len: 60,
        bytes: "45".into(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_comes_is_told() {
    let daemon = Daemon::start(None).await;
    let told = daemon.records(Kind::Health, 2).await;
    let words: Vec<_> = told.iter().map(|(_, detail)| detail["message"].as_str().unwrap()).collect();
    assert!(words[0].contains("has said nothing yet") && words[1].contains("no reader has come"), "{words:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_follows_the_readers_word_and_its_silence() {
    let daemon = Daemon::start(None).await;
    let mut reader = daemon.connect().await;
    say(&mut reader, &state(|_| {})).await;
    daemon.gate.opened().await;
    for change in [
        (|state: &mut State| state.loaded = false) as fn(&mut State),
        |state| state.open = vec![Hook::Output],
        |state| state.error = Some("EPERM".into()),
        // Somebody changed a rule.
        |state| state.expected = Some("cd".into()),
    ] {
        say(&mut reader, &state(change)).await;
        daemon.gate.closed().await;
        say(&mut reader, &state(|_| {})).await;
        daemon.gate.opened().await;
    }
    // It says nothing more.
    daemon.gate.closed().await;
    let mut reader = daemon.connect().await;
    say(&mut reader, &state(|_| {})).await;
    daemon.gate.opened().await;
    drop(reader);
    daemon.gate.closed().await;
    let mut reader = daemon.connect().await;
    say(&mut reader, &state(|_| {})).await;
    daemon.gate.opened().await;
    // What is no message ends it.
    reader.write_all(b"{\"state\":7}\n").await.unwrap();
    daemon.gate.closed().await;

    let told = daemon.records(Kind::Health, 15).await;
    let words: Vec<_> = told.iter().map(|(_, detail)| detail["message"].as_str().unwrap()).collect();
    assert_eq!(words[0], "the wall does not stand: its reader has said nothing yet; visitors are refused until it stands");
    assert_eq!(words[1], "the wall stands; visitors are answered");
    assert!(words[2].contains("table inet glasshive_wall is not loaded"), "{words:?}");
    assert!(words[10].contains("its reader says nothing") && words[12].contains("its reader has gone"), "{words:?}");
    assert_eq!(told[1].1["fields"]["default_drop"], true);
    assert_eq!(told[1].1["fields"]["entry"], true);
    daemon.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_is_stored_and_what_was_missed_is_a_loss() {
    let daemon = Daemon::start(None).await;
    let mut reader = daemon.connect().await;
    say(&mut reader, &state(|_| {})).await;
    say(&mut reader, &packet("10.66.1.10:4000")).await;
    say(&mut reader, &packet("10.66.1.10:4001")).await;
    say(&mut reader, &packet("10.66.1.2:4000")).await;
    say(&mut reader, &state(|state| (state.skipped, state.lost) = (7, 2))).await;
    // The reader was started anew: its counts begin at 0.
    say(&mut reader, &state(|state| state.lost = 1)).await;
    let stored = daemon.records(Kind::Blocked, 2).await;
    assert_eq!(stored.len(), 2, "the second of a kind waits");
    assert_eq!((stored[0].0.decoy.as_deref(), stored[1].0.decoy.as_deref()), (Some("web-1"), None));
    assert_eq!((&stored[0].1["count"], &stored[0].1["uid"], &stored[0].1["prefix"]), (&1.into(), &5.into(), &"glasshive out".into()));
    let lost = daemon.records(Kind::Loss, 3).await;
    let counts: Vec<_> = lost.iter().map(|(_, detail)| (detail["place"].as_str().unwrap(), detail["count"].as_u64().unwrap())).collect();
    assert_eq!(counts, [("wall_reader", 7), ("wall_reader", 2), ("wall_reader", 1)]);
    // The end tells what was still untold.
    daemon.stop.cancel();
    let all = daemon.records(Kind::Blocked, 3).await;
    assert_eq!((&all[2].1["count"], &all[2].1["total"]), (&1.into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_is_not_believed() {
    let daemon = Daemon::start(Some(4_000_000_000)).await;
    let mut reader = daemon.connect().await;
    let _ = reader.write_all(format!("{}\n", serde_json::to_string(&state(|_| {})).unwrap()).as_bytes()).await;
    // Hung up on.
    let mut end = [0; 1];
    assert!(matches!(tokio::io::AsyncReadExt::read(&mut reader, &mut end).await, Ok(0) | Err(_)));
    assert!(!daemon.gate.is_open());
}
