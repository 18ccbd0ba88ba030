//! Adapters: the recorder's sink, seal, files and clock over the journal, the link's sealer and the system.

use crate::config::{Config, OnFull};
use crate::recorder::{BoxFuture, Clock, Entry, EventSink, FileSink, FileStore, Recorder, Room, Seal};
use anyhow::Context as _;
use glasshive_event::text::hex;
use glasshive_journal::blobs::{Blobs, BlobsConfig};
use glasshive_journal::{JournalConfig, JournalHandle, Pending};
use glasshive_link::identity::NodeIdentity;
use glasshive_link::seal::{RecipientSealer, Sealer};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A segment of the journal is closed at this size on disk. sled keeps nearly all of an open segment in memory,
/// whatever its cache is, and a start reads the last one whole: this bounds both.
const SEGMENT_BYTES: u64 = 8 << 20;

pub(super) fn journal_config(config: &Config, standalone: bool) -> JournalConfig {
    let mut journal = JournalConfig::new(config.state_dir.join("journal"));
    journal.segment_bytes = SEGMENT_BYTES;
    journal.quota_bytes = config.journal.quota.0;
    journal.max_age = config.journal.max_age.0;
    journal.on_full = match config.journal.on_full {
        OnFull::Pause => glasshive_journal::OnFull::Pause,
        OnFull::DropOldest => glasshive_journal::OnFull::DropOldest,
    };
    journal.standalone = standalone;
    journal
}

pub(super) fn recorder(
    config: &Config,
    journal: &JournalHandle,
    blobs: &Arc<Blobs>,
    identity: Option<&NodeIdentity>,
    config_hash: &str,
    binary_hash: &str,
) -> anyhow::Result<Recorder> {
    let sealer: Arc<dyn Sealer> = match identity {
        Some(identity) => Arc::new(RecipientSealer::from_identity(identity)?),
        None => Arc::new(RecipientSealer::standalone(&config.state_dir.join("standalone"))?),
    };
    Ok(Recorder {
        sink: Arc::new(JournalSink(journal.clone())),
        clock: Arc::new(SystemClock),
        seal: Arc::new(SecretSeal(Arc::clone(&sealer))),
        files: Arc::new(SealedFiles { blobs: Arc::clone(blobs), sealer, spool: Arc::new(Spool::new(config)) }),
        config_hash: config_hash.into(),
        binary_hash: binary_hash.into(),
        net: config.net.as_str().into(),
    })
}

/// SHA-256 of the running binary: an examiner can tell which build pretended.
pub(super) fn binary_hash() -> anyhow::Result<String> {
    let mut file = std::fs::File::open("/proc/self/exe").context("reading the running binary for its hash")?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

struct JournalSink(JournalHandle);

impl EventSink for JournalSink {
    fn append(&self, entry: Entry, room: Room) -> BoxFuture<'_, bool> {
        let pending = Pending { wall_ns: entry.wall_ns, mono_ns: entry.mono_ns, body: entry.body };
        Box::pin(async move {
            match room {
                Room::Wait => self.0.append(pending).await.is_ok(),
                Room::Reserved => self.0.append_reserved(pending).await.is_ok(),
                Room::Now => self.0.try_append(pending).is_ok(),
            }
        })
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        glasshive_daemon::clock::wall_ns()
    }
    fn mono_ns(&self) -> u64 {
        glasshive_daemon::clock::mono_ns()
    }
}

struct SecretSeal(Arc<dyn Sealer>);

impl Seal for SecretSeal {
    fn seal(&self, secret: &[u8]) -> String {
        self.0.seal(secret)
    }
    fn pivot(&self, secret: &[u8]) -> String {
        self.0.pivot(secret)
    }
}

/// Where captured files are kept.
pub(super) fn blobs_config(config: &Config) -> BlobsConfig {
    BlobsConfig { dir: config.state_dir.join("files"), quota_bytes: config.files.quota.0, max_bytes: config.files.quota.0 / 4 }
}

/// Received content waiting to be sealed: in files without a name, together bounded by the quota.
struct Spool {
    dir: PathBuf,
    used: AtomicU64,
    limit: u64,
}

impl Spool {
    fn new(config: &Config) -> Self {
        Self { dir: config.state_dir.join("files"), used: AtomicU64::new(0), limit: config.files.quota.0 / 2 }
    }
}

struct SealedFiles {
    blobs: Arc<Blobs>,
    sealer: Arc<dyn Sealer>,
    spool: Arc<Spool>,
}

impl FileStore for SealedFiles {
    fn create(&self) -> io::Result<Box<dyn FileSink>> {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let file = std::fs::File::from(rustix::fs::open(&self.spool.dir, flags, mode)?);
        Ok(Box::new(Receiving {
            file,
            held: 0,
            blobs: Arc::clone(&self.blobs),
            sealer: Arc::clone(&self.sealer),
            spool: Arc::clone(&self.spool),
        }))
    }
}

struct Receiving {
    file: std::fs::File,
    held: u64,
    blobs: Arc<Blobs>,
    sealer: Arc<dyn Sealer>,
    spool: Arc<Spool>,
}

impl FileSink for Receiving {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let more = data.len() as u64;
        if self.spool.used.fetch_add(more, Ordering::Relaxed) + more > self.spool.limit {
            self.spool.used.fetch_sub(more, Ordering::Relaxed);
            return Err(io::Error::other("half of the quota for captured files is being received already; raise files.quota"));
        }
        self.held += more;
        self.file.write_all(data)
    }

    fn finish(mut self: Box<Self>, sha256: &str) -> io::Result<String> {
        let name = glasshive_journal::blobs::parse_name(sha256).ok_or_else(|| io::Error::other("not a SHA-256"))?;
        if self.blobs.size(&name).map_err(io::Error::other)?.is_some() {
            return Ok(sha256.to_owned());
        }
        self.file.rewind()?;
        let mut put = PutWriter(self.blobs.put().map_err(io::Error::other)?);
        self.sealer.seal_file(&mut self.file, &mut put).map_err(io::Error::other)?;
        put.0.finish_as(name).map_err(io::Error::other)?;
        Ok(sha256.to_owned())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

struct PutWriter<'a>(glasshive_journal::blobs::Put<'a>);

impl Write for PutWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data).map_err(io::Error::other)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
