//! The controller's own log: what operators do and what fusion finds, kept as durably and chained as any node's records.
//! It is stored under the node name `controller`; nothing that can be audited happens before its
//! record is durable.

use crate::fail::Failure;
use glasshive_event::detail::Audit;
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::{Body, Envelope, Header, Kind, LogId};
use glasshive_journal::store::{NodeBatch, StoreHandle};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// The node name of the controller's own log; no node may be enrolled under it.
pub const NODE: &str = "controller";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// User id, from the socket's peer credentials.
    pub uid: u32,
    /// Its name on this machine, or the number.
    pub user: String,
}

impl Operator {
    /// The operator with that user id.
    pub fn of(uid: u32) -> Self {
        Self { uid, user: user_name(uid).unwrap_or_else(|| uid.to_string()) }
    }

    /// The user this process runs as.
    pub fn this_process() -> Self {
        Self::of(rustix::process::getuid().as_raw())
    }
}

/// Writer of the controller's own log.
pub struct Desk {
    store: StoreHandle,
    log: LogId,
    boot: [u8; 16],
    started: Instant,
    head: tokio::sync::Mutex<(u64, [u8; 32])>,
}

impl Desk {
    /// Goes on where the log stands.
    pub async fn open(store: StoreHandle, state_dir: &Path) -> Result<Self, Failure> {
        let path = state_dir.join("controller-log");
        let log = read_or_make(&path)?;
        let head = store.high_water(NODE, log).map_or((0, [0; 32]), |mark| (mark.seq, mark.chain));
        Ok(Self { store, log, boot: boot_id(), started: Instant::now(), head: tokio::sync::Mutex::new(head) })
    }

    /// Appends one event; it is durable when this returns.
    pub async fn write<D: Serialize + ?Sized>(&self, kind: Kind, detail: &D) -> Result<u64, Failure> {
        self.record("", &Envelope { kind: kind.number(), ..Envelope::default() }, detail).await
    }

    /// Appends one event about a net; it is durable when this returns.
    pub async fn record<D: Serialize + ?Sized>(&self, net: &str, envelope: &Envelope, detail: &D) -> Result<u64, Failure> {
        let body = Body::encode(envelope, detail).map_err(|error| Failure::failed(format!("event of the controller: {error}")))?;
        let mut head = self.head.lock().await;
        let (seq, chain) = (head.0 + 1, head.1);
        let wall_ns = now_ns();
        let mono_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let record = body.with_header(&Header { log: self.log, seq, wall_ns, mono_ns, boot: self.boot });
        let mut bytes = u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend_from_slice(&record);
        let batch = NodeBatch {
            node: NODE.to_owned(),
            net: net.to_owned(),
            log: self.log,
            first: seq,
            chain_before: chain,
            bytes,
            received_ns: wall_ns,
        };
        self.store
            .append(batch)
            .await
            .map_err(|error| Failure::failed(format!("the event could not be kept, so nothing was done: {error}")))?;
        *head = (seq, chain_hash(&chain, &leaf_hash(&record)));
        Ok(seq)
    }

    /// Appends what an operator is about to do.
    pub async fn audit(&self, by: &Operator, action: &str, object: &str, reason: &str) -> Result<(), Failure> {
        let clip = |text: &str| text.chars().take(1_000).collect::<String>();
        let detail = Audit { action: action.to_owned(), uid: by.uid, user: clip(&by.user), object: clip(object), reason: clip(reason) };
        tracing::info!(action, object = %detail.object, uid = by.uid, "operator");
        self.write(Kind::Audit, &detail).await.map(|_| ())
    }
}

/// Wall time.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

fn read_or_make(path: &Path) -> Result<LogId, Failure> {
    let damaged = || Failure::failed(format!("{}: not a log id: remove the file to begin a new log", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| damaged()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let log = LogId(*uuid::Uuid::now_v7().as_bytes());
            let beside = path.with_extension("new");
            let made = std::fs::File::create(&beside)
                .and_then(|mut file| std::io::Write::write_all(&mut file, log.to_string().as_bytes()).and_then(|()| file.sync_all()))
                .and_then(|()| std::fs::rename(&beside, path));
            made.map(|()| log).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
        }
        Err(error) => Err(Failure::failed(format!("{}: {error}", path.display()))),
    }
}

fn boot_id() -> [u8; 16] {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
        .map_or([0; 16], |id| *id.as_bytes())
}

/// The name of a local user; the file is small and ours.
fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut cells = line.split(':');
        let name = cells.next()?;
        let found: u32 = cells.nth(1)?.parse().ok()?;
        (found == uid).then(|| name.to_owned())
    })
}
