//! The subject: a controller and a decoy node linked to it, with three personas and every limit above
//! the load. Ports are chosen so that nothing else on the machine is in the way.

use super::Run;
use super::tree::Tree;
use crate::process::until;
use crate::world::{Dial, LIMIT, Plan, World};
use anyhow::{Context as _, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Visitors all come from this machine, so no limit may hold for one source; wrong passwords are
/// answered at once, so that a closed loop measures work and not waiting.
const PERSONA: &str = r#"
os = "debian12"
hostname = "web-01"
domain = "corp.example"
[limits]
per_source = 1000000
[[account]]
name = "backup"
passwords = ["backup123"]
uid = 1001
[service.ssh]
fail_delay_ms = 0
[service.telnet]
fail_delay_ms = 0
[service.ftp]
[service.http]
[service.https]
[service.dns]
[service.generic_tcp]
ports = [9100]
idle_seconds = 3600
"#;
const SECOND: &str = "os = \"debian12\"\n[service.ssh]\n[service.http]\n[service.https]\n";
const THIRD: &str = "os = \"debian12\"\n[service.ssh]\n[service.telnet]\n[service.ftp]\n";

/// Ports of the personas.
const PORTS: [u16; 7] = [21, 22, 23, 53, 80, 443, 9100];
/// Passive FTP ports begin so far above the offset.
const PASSIVE: u16 = 500;

/// What the controller has of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Sessions closed.
    pub(super) closes: u64,
    /// Passwords tried.
    pub(super) logins: u64,
}

/// Everything running.
pub(super) struct Subject {
    /// Controller and node.
    pub(super) world: World,
    offset: u16,
}

impl Subject {
    /// Starts it in `name` below the run's scratch directory.
    pub(super) fn start(run: &Run, name: &str) -> crate::Result<Self> {
        let dir = run.fresh(name)?;
        let offset = free_offset()?;
        let extra = format!("port_offset = {offset}\npassive_ports = [{}, {}]\n", offset + PASSIVE, offset + PASSIVE + 63);
        let mut world = World::prepare(&Plan { dir: &dir, root: false, nets: &[("lab", Dial::Node)], persona: PERSONA, extra: &extra })?;
        let node = world.nodes.first().context("no node")?.dir.clone();
        let config = node.join("decoys.toml");
        let mut text = std::fs::read_to_string(&config)?;
        for (number, (persona, content)) in [("second", SECOND), ("third", THIRD)].into_iter().enumerate() {
            std::fs::write(node.join(format!("personas/{persona}.toml")), content)?;
            let address = Ipv4Addr::new(127, 0, 0, u8::try_from(number + 2)?);
            text.push_str(&format!("[[decoy]]\nname = {persona:?}\npersona = {persona:?}\naddresses = [\"{address}\"]\n"));
        }
        std::fs::write(&config, text)?;
        // Host keys take seconds to make: they are made once a run.
        let (kept, keys) = (run.dir.join("keys"), node.join("state/keys"));
        if kept.exists() {
            copy(&kept, &keys)?;
        }
        world.start_controller()?;
        world.enroll(0, Dial::Node)?;
        world.start_node(0)?;
        if !kept.exists() {
            copy(&keys, &kept)?;
        }
        Ok(Self { world, offset })
    }

    /// Where the first decoy offers a persona's port.
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port + self.offset))
    }

    /// The node's processes.
    pub(super) fn node(&self) -> crate::Result<Tree> {
        let daemon = self.world.nodes.first().and_then(|node| node.daemon.as_ref()).context("the node does not run")?;
        Ok(Tree(daemon.pid()))
    }

    /// Stops the node and starts it anew; its journal goes on.
    pub(super) fn restart(&mut self) -> crate::Result<()> {
        self.stop();
        self.world.start_node(0)
    }

    /// Stops the node and starts it anew with an empty journal, as after its first start. All it had
    /// must be at the controller.
    pub(super) fn restart_empty(&mut self) -> crate::Result<()> {
        self.stop();
        let dir = &self.world.nodes.first().context("no node")?.dir;
        std::fs::remove_dir_all(dir.join("state/journal"))?;
        self.world.start_node(0)
    }

    fn stop(&mut self) {
        let daemon = self.world.nodes.first_mut().and_then(|node| node.daemon.take());
        if let Some(mut daemon) = daemon {
            daemon.stop(LIMIT);
        }
    }

    /// What the controller has of the node now.
    pub(super) fn recorded(&self) -> crate::Result<Recorded> {
        let mut sum = Recorded::default();
        for line in self.world.cli(&["nodes", "--json"])?.lines() {
            let node: serde_json::Value = serde_json::from_str(line)?;
            let count = |kind: &str| node["events"][kind].as_u64().unwrap_or(0);
            sum.closes += count("session.close");
            sum.logins += count("login");
        }
        Ok(sum)
    }

    /// Waits until `sessions` more than `before` are closed at the controller, and until no more
    /// come; gives what came.
    pub(super) fn recorded_since(&self, before: Recorded, sessions: usize) -> crate::Result<Recorded> {
        let mut last = Recorded::default();
        let came = until("the sessions at the controller", Duration::from_secs(120), || {
            let now = self.recorded().ok()?;
            last = Recorded { closes: now.closes - before.closes, logins: now.logins - before.logins };
            (last.closes >= sessions as u64).then_some(last)
        });
        came.with_context(|| format!("{} of {sessions} sessions are closed there", last.closes))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // The node first: it has a controller to hand its last records to.
        for node in &mut self.world.nodes {
            drop(node.daemon.take());
        }
    }
}

/// An offset at which all ports are free on the three loopback addresses. All stay below 32768, where
/// the kernel begins to give ports to connections.
pub(super) fn free_offset() -> crate::Result<u16> {
    let start = u16::try_from(std::process::id() % 20)?;
    for step in 0..20 {
        let offset = 10_000 + (start + step) % 20 * 600;
        let passive = offset + PASSIVE..offset + PASSIVE + 64;
        let wanted = PORTS.iter().map(|port| port + offset).chain(passive);
        let free = |port: u16| {
            (1..=3).all(|last| {
                let at = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
                std::net::TcpListener::bind(at).is_ok() && std::net::UdpSocket::bind(at).is_ok()
            })
        };
        if wanted.into_iter().all(free) {
            return Ok(offset);
        }
    }
    bail!("no offset at which all ports of the personas are free on loopback")
}

fn copy(from: &Path, to: &Path) -> crate::Result<()> {
    ensure!(from.is_dir(), "{} is not there", from.display());
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
