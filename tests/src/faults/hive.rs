//! A controller and nodes within this process, for faults that need a clock, a wire or a pause of our own: the
//! controller as `glasshive serve` composes it, a node's real journal, and the link's client between them.

use super::Random;
use anyhow::{Context as _, ensure};
use glasshive_controller::config::{Config, Overrides};
use glasshive_controller::screen::Out;
use glasshive_controller::serve::{Running, start_with};
use glasshive_daemon::shutdown::Shutdown;
use glasshive_event::text::hex;
use glasshive_event::{Body, Envelope, Kind};
use glasshive_journal::{Journal, JournalConfig, JournalHandle, OpenReport, Pending};
use glasshive_link::client::{self, ClientConfig};
use glasshive_link::clock::OffsetClock;
use glasshive_link::host::JournalSource;
use glasshive_link::identity::IdentityDir;
use glasshive_link::{Clock as _, LinkStatus, Role};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes this long; it turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// A controller in a directory.
pub struct Hive {
    dir: PathBuf,
    shutdown: Shutdown,
    /// Its parts.
    pub running: Running,
}

impl Hive {
    /// Starts one with a net `lab`, without detectors: what they find is not what is looked at.
    pub async fn start(dir: &Path) -> crate::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let net = "[net.lab]\nvantage = \"inside\"\nowner = \"lab\"\npurpose = \"faults\"\nlegal_basis = \"own test network\"\nretention = \"7d\"\n";
        let (state, socket) = (dir.join("state"), dir.join("admin.sock"));
        std::fs::write(
            dir.join("controller.toml"),
            format!("state_dir = {state:?}\nsocket = {socket:?}\nlisten = \"127.0.0.1:0\"\n{net}"),
        )?;
        let config = Config::load(&Overrides { config: Some(dir.join("controller.toml")), ..Overrides::default() })?;
        let shutdown = Shutdown::new();
        let running = start_with(config, shutdown.clone(), &[]).await.map_err(|failure| anyhow::anyhow!(failure.message))?;
        Ok(Self { dir: dir.to_owned(), shutdown, running })
    }

    /// Where nodes reach it.
    pub fn address(&self) -> SocketAddr {
        self.running.listen
    }

    /// `glasshive nodes --json`, by name.
    pub async fn nodes(&self) -> crate::Result<BTreeMap<String, Value>> {
        let config = self.dir.join("controller.toml").display().to_string();
        let (out, stdout, stderr) = Out::captured(true);
        let code = glasshive_controller::cli::run(["glasshive", "nodes", "--json", "--config", &config], Some(out)).await;
        ensure!(code == 0, "glasshive nodes: {}", stderr.text());
        let nodes = stdout.text();
        nodes
            .lines()
            .map(|line| -> crate::Result<(String, Value)> {
                let node: Value = serde_json::from_str(line)?;
                Ok((node["node"].as_str().context("no name")?.to_owned(), node))
            })
            .collect()
    }

    /// Ends as the daemon does.
    pub async fn stop(self) -> crate::Result<()> {
        self.shutdown.request();
        self.running.stop().await.map_err(|failure| anyhow::anyhow!(failure.message))
    }
}

/// A node: its journal and its link.
pub struct Node {
    /// Its journal.
    pub handle: JournalHandle,
    /// What opening that found.
    pub report: OpenReport,
    /// Its clock.
    pub clock: Arc<OffsetClock>,
    /// How its link stands.
    pub status: watch::Receiver<LinkStatus>,
    journal: Journal,
    stop: CancellationToken,
    link: JoinHandle<()>,
}

impl Node {
    /// Enrols `name` where it has no identity in `dir` yet, opens its journal there, and dials `address`.
    pub async fn start(hive: &Hive, name: &str, dir: &Path, address: SocketAddr) -> crate::Result<Self> {
        let clock = Arc::new(OffsetClock::default());
        let identity = IdentityDir::new(dir.join("identity"));
        if !identity.exists() {
            let controller = hive.running.context.identity.as_ref().context("the controller has no identity")?;
            let token = controller.enroll(name.parse()?, "lab", Role::Decoys, LIMIT)?;
            client::join(&hive.address().to_string(), &token, &identity, clock.clone()).await?;
        }
        let place = dir.join("journal");
        let (journal, handle, report) = tokio::task::spawn_blocking(move || glasshive_journal::open(JournalConfig::new(place))).await??;
        let mut config = ClientConfig::new(identity, vec![address.to_string()]);
        // Faults come by the dozen here, so patience is short.
        config.pause = (Duration::from_millis(1), Duration::from_millis(40));
        config.ping = Duration::from_millis(150);
        config.idle = Duration::from_millis(700);
        config.handshake = Duration::from_secs(2);
        let (send, status) = watch::channel(LinkStatus::default());
        let stop = CancellationToken::new();
        let link = tokio::spawn(client::run(config, JournalSource::new(handle.clone(), None), clock.clone(), send, stop.clone()));
        Ok(Self { handle, report, clock, status, journal, stop, link })
    }

    /// Writes `count` records of random size by its own clock; they are durable when this returns.
    pub async fn write(&self, count: usize, random: &mut Random) -> crate::Result<()> {
        for left in (0..count).rev() {
            let text: String = (0..random.below(60)).map(|_| hex(&random.number().to_be_bytes())).collect();
            let envelope = Envelope { kind: Kind::Health.number(), ..Envelope::default() };
            let body = Body::encode(&envelope, &json!({"what": "test", "message": text}))?;
            let pending = Pending { wall_ns: self.clock.wall_ns(), mono_ns: glasshive_daemon::clock::mono_ns(), body };
            if left == 0 {
                self.handle.append_durable(pending).await?;
            } else {
                self.handle.append(pending).await?;
            }
        }
        Ok(())
    }

    /// Last record that is durable here.
    pub fn last(&self) -> u64 {
        self.handle.durable().borrow().seq
    }

    /// Waits until the link stands as wanted.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&LinkStatus) -> bool) -> crate::Result<LinkStatus> {
        let mut status = self.status.clone();
        let found = tokio::time::timeout(LIMIT, status.wait_for(wanted)).await.map(|found| found.map(|status| status.clone()));
        found.ok().and_then(Result::ok).with_context(|| format!("never came: {what}: {:?}", *self.status.borrow()))
    }

    /// Waits until the controller said that it has everything up to `seq`.
    pub async fn delivered(&self, seq: u64) -> crate::Result<()> {
        self.until(&format!("record {seq} at the controller"), |status| status.durable >= seq).await.map(|_| ())
    }

    /// Ends link and journal.
    pub async fn stop(self) -> crate::Result<()> {
        self.stop.cancel();
        self.link.await?;
        drop(self.handle);
        tokio::task::spawn_blocking(move || self.journal.close()).await??;
        Ok(())
    }
}
