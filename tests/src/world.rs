//! Controller and decoy nodes as real processes: in namespaces with real ports when root, on loopback
//! with ports + 20000 otherwise. Configuration is written as an operator would write it.

use crate::lab::Lab;
use crate::process::{Daemon, binary, command, run, run_ok, until};
use anyhow::{Context as _, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a daemon may take to start or a command to answer.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The same for a start, which after a kill may have millions of records to look at again first.
const START: Duration = Duration::from_secs(600);

/// The persona the lab's hosts wear.
pub const PERSONA: &str = include_str!("../data/personas/web.toml");

/// One decoy node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its net.
    pub net: String,
    /// Directory with its configuration and state.
    pub dir: PathBuf,
    /// The daemon, while it runs.
    pub daemon: Option<Daemon>,
    /// Address of its decoy.
    pub decoy: IpAddr,
    host: String,
    visitor: String,
}

/// How nodes and controller find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// The node dials; enrolled online with a token.
    Node,
    /// The controller dials; enrolled offline with a certificate request.
    Controller,
}

/// What to build.
pub struct Plan<'a> {
    /// Directory everything is written to.
    pub dir: &'a Path,
    /// Namespaces and real ports (needs root), or loopback.
    pub root: bool,
    /// Nets, each with one node, and who dials.
    pub nets: &'a [(&'a str, Dial)],
    /// Persona of the decoys.
    pub persona: &'a str,
    /// Lines added to each node's `decoys.toml`.
    pub extra: &'a str,
}

/// Everything running.
pub struct World {
    /// Directory everything is written to.
    pub dir: PathBuf,
    /// The controller, while it runs.
    pub controller: Option<Daemon>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The namespaces, as root.
    pub lab: Option<Lab>,
    port: u16,
}

impl World {
    /// Builds, enrols and starts everything.
    pub fn start(plan: &Plan<'_>) -> crate::Result<Self> {
        let mut world = Self::prepare(plan)?;
        world.start_controller()?;
        for index in 0..world.nodes.len() {
            let (_, dial) = plan.nets.get(index).copied().context("plan")?;
            world.enroll(index, dial)?;
            world.start_node(index)?;
        }
        Ok(world)
    }

    /// Writes configurations and makes the network; nothing runs yet.
    pub fn prepare(plan: &Plan<'_>) -> crate::Result<Self> {
        std::fs::create_dir_all(plan.dir)?;
        let dir = plan.dir.canonicalize()?;
        let mut lab = if plan.root { Some(Lab::new()?) } else { None };
        let port = 7443;
        let port = if plan.root { port } else { free_port()? };
        let mut nodes = Vec::new();
        if let Some(lab) = &mut lab {
            lab.bridge("mgmt")?;
            lab.host("ctl")?;
            lab.leg("ctl", "mgmt0", "mgmt", &["10.99.0.1/24"])?;
        }
        let mut controller = format!(
            "state_dir = {:?}\nlisten = \"{}:{port}\"\nsocket = {:?}\n",
            dir.join("controller/state"),
            if plan.root { "10.99.0.1" } else { "127.0.0.1" },
            dir.join("controller/admin.sock"),
        );
        for (index, (net, dial)) in plan.nets.iter().enumerate() {
            let number = index + 1;
            let name = format!("node{number}");
            let (host, visitor) = (format!("n{number}"), format!("v{number}"));
            let decoy: IpAddr =
                if plan.root { format!("10.66.{number}.10").parse()? } else { IpAddr::V4(Ipv4Addr::new(127, 0, 0, u8::try_from(number)?)) };
            let management = if plan.root { format!("10.99.0.{}", 10 + number) } else { "127.0.0.1".to_owned() };
            if let Some(lab) = &mut lab {
                lab.bridge(&format!("dcy{number}"))?;
                lab.host(&host)?;
                lab.leg(&host, "mgmt0", "mgmt", &[&format!("{management}/24")])?;
                lab.leg(&host, "dcy0", &format!("dcy{number}"), &[&format!("10.66.{number}.2/24"), &format!("fd00:66:{number}::10/64")])?;
                lab.ip(&host, &["route", "add", "local", &decoy.to_string(), "dev", "lo"])?;
                lab.host(&visitor)?;
                lab.leg(
                    &visitor,
                    "eth0",
                    &format!("dcy{number}"),
                    &[&format!("10.66.{number}.100/24"), &format!("fd00:66:{number}::100/64")],
                )?;
            }
            let node_dir = dir.join(&name);
            std::fs::create_dir_all(node_dir.join("personas"))?;
            std::fs::write(node_dir.join("personas/web.toml"), plan.persona)?;
            let dial_port = if plan.root { 7444 } else { free_port()? };
            let link = match dial {
                Dial::Node => format!("[link]\ncontroller = \"{}:{port}\"\n", if plan.root { "10.99.0.1" } else { "127.0.0.1" }),
                Dial::Controller => {
                    controller.push_str(&format!("[[dial]]\nnode = \"{name}\"\naddress = \"{management}:{dial_port}\"\n"));
                    format!("[link]\nlisten = \"{management}:{dial_port}\"\n")
                }
            };
            let addresses = if plan.root { format!("\"{decoy}\", \"fd00:66:{number}::10\"") } else { format!("\"{decoy}\"") };
            let config = format!(
                "state_dir = {:?}\nnode = {name:?}\nnet = {net:?}\npersonas = {:?}\nentry = {:?}\n{}\n[[decoy]]\nname = \"web-{number}\"\npersona = \"web\"\naddresses = [{addresses}]\n{link}",
                node_dir.join("state"),
                node_dir.join("personas"),
                if plan.root { "tproxy" } else { "plain" },
                plan.extra,
            );
            std::fs::write(node_dir.join("decoys.toml"), config)?;
            nodes.push(Node { name, net: (*net).to_owned(), dir: node_dir, daemon: None, decoy, host, visitor });
        }
        for (index, (net, _)) in plan.nets.iter().enumerate() {
            // What is open there, for the detectors of the sensor and of the controller.
            let node_dir = dir.join(format!("node{}", index + 1));
            let mut check = Command::new(binary("glasshive-decoys")?);
            check.arg("--config").arg(node_dir.join("decoys.toml")).args(["check", "--segment"]);
            let segment = node_dir.join("segment.toml");
            std::fs::write(&segment, run_ok(check, None, LIMIT)?)?;
            controller.push_str(&format!(
                "[net.{net}]\nsegment = {segment:?}\nvantage = \"inside\"\nowner = \"lab\"\npurpose = \"trying Glasshive out\"\nlegal_basis = \"own test network\"\nretention = \"7d\"\n"
            ));
        }
        std::fs::create_dir_all(dir.join("controller"))?;
        std::fs::write(dir.join("controller/controller.toml"), controller)?;
        Ok(Self { dir, controller: None, nodes, lab, port })
    }

    fn inside(&self, host: &str, program: &Path) -> Command {
        match &self.lab {
            Some(lab) => lab.inside(host, program),
            None => Command::new(program),
        }
    }

    /// Starts the controller and waits until it is ready.
    pub fn start_controller(&mut self) -> crate::Result<()> {
        let mut serve = self.inside("ctl", &binary("glasshive")?);
        serve.arg("--config").arg(self.dir.join("controller/controller.toml")).arg("serve");
        // Long runs read from its log what it has in use.
        serve.env("GLASSHIVE_LOG", "info,glasshive_daemon::memory=debug");
        let log = self.dir.join("controller/log.txt");
        let daemon = started("the controller", serve, &log, "controller serves")?;
        self.controller = Some(daemon);
        Ok(())
    }

    /// Starts node `index` and waits until its listeners are open.
    pub fn start_node(&mut self, index: usize) -> crate::Result<()> {
        let node = self.nodes.get(index).context("no such node")?;
        let mut serve = self.inside(&node.host, &binary("glasshive-decoys")?);
        serve.arg("--config").arg(node.dir.join("decoys.toml")).arg("run");
        let log = node.dir.join("log.txt");
        let daemon = started(&node.name, serve, &log, "listening")?;
        let node = self.nodes.get_mut(index).context("no such node")?;
        node.daemon = Some(daemon);
        Ok(())
    }

    /// Gives node `index` its identity.
    pub fn enroll(&self, index: usize, dial: Dial) -> crate::Result<()> {
        let node = self.nodes.get(index).context("no such node")?;
        match dial {
            Dial::Node => {
                let out = self.cli(&["enroll", &node.name, "--net", &node.net, "--role", "decoys", "--json"])?;
                let token = serde_json::from_str::<serde_json::Value>(out.lines().next().unwrap_or_default())?;
                let token = token.get("token").and_then(|t| t.as_str()).context("enroll printed no token")?.to_owned();
                let controller = format!("{}:{}", if self.lab.is_some() { "10.99.0.1" } else { "127.0.0.1" }, self.port);
                run_ok(self.decoys(index, &["identity", "join", "-", "--controller", &controller])?, Some(token.as_bytes()), LIMIT)?;
            }
            Dial::Controller => {
                let csr = run_ok(self.decoys(index, &["identity", "request"])?, None, LIMIT)?;
                let path = node.dir.join("node.csr");
                std::fs::write(&path, csr)?;
                let path = path.to_string_lossy().into_owned();
                let bundle = self.cli(&["enroll", "--net", &node.net, "--role", "decoys", "--sign", &path])?;
                run_ok(self.decoys(index, &["identity", "install"])?, Some(bundle.as_bytes()), LIMIT)?;
            }
        }
        Ok(())
    }

    /// `glasshive-decoys ARGS` with node `index`'s configuration.
    pub fn decoys(&self, index: usize, arguments: &[&str]) -> crate::Result<Command> {
        let node = self.nodes.get(index).context("no such node")?;
        let mut command = self.inside(&node.host, &binary("glasshive-decoys")?);
        command.arg("--config").arg(node.dir.join("decoys.toml")).args(arguments);
        Ok(command)
    }

    /// `glasshive ARGS` with the controller's configuration, as a command.
    pub fn cli_command(&self, arguments: &[&str]) -> crate::Result<Command> {
        let mut command = self.inside("ctl", &binary("glasshive")?);
        command.arg("--config").arg(self.dir.join("controller/controller.toml")).args(arguments);
        Ok(command)
    }

    /// `glasshive ARGS`, which must succeed; returns its standard output.
    pub fn cli(&self, arguments: &[&str]) -> crate::Result<String> {
        run_ok(self.cli_command(arguments)?, None, LIMIT)
    }

    /// `glasshive ARGS` and its exit code, output and errors.
    pub fn cli_result(&self, arguments: &[&str]) -> crate::Result<(i32, String, String)> {
        let output = run(self.cli_command(arguments)?, None, LIMIT)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// All sessions the controller knows, with those opened inside others, as JSON.
    pub fn sessions(&self) -> crate::Result<Vec<serde_json::Value>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut words = vec!["sessions", "--json", "--children", "--limit", "5000"];
            if let Some(cursor) = &cursor {
                words.extend(["--cursor", cursor]);
            }
            let (code, out, said) = self.cli_result(&words)?;
            ensure!(code == 0, "glasshive sessions: {said}");
            for line in out.lines() {
                all.push(serde_json::from_str(line)?);
            }
            // The end of a page says how to go on.
            cursor = said.split_once("--cursor ").map(|(_, rest)| rest.trim().to_owned());
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// `session.close` records of all nodes at the controller.
    fn closes(&self) -> crate::Result<u64> {
        let mut sum = 0;
        for line in self.cli(&["nodes", "--json"])?.lines() {
            let node: serde_json::Value = serde_json::from_str(line)?;
            sum += node["events"]["session.close"].as_u64().unwrap_or(0);
        }
        Ok(sum)
    }

    /// Waits until the controller shows at least `count` closed TCP sessions without parent.
    pub fn wait_sessions(&self, count: usize, limit: Duration) -> crate::Result<Vec<serde_json::Value>> {
        let mut last = String::from("no answer");
        until("sessions at the controller", limit, || {
            match self.closes() {
                Ok(closes) if closes >= count as u64 => {}
                Ok(closes) => {
                    last = format!("{closes} sessions are closed");
                    return None;
                }
                Err(error) => {
                    last = format!("{error:#}");
                    return None;
                }
            }
            let sessions = self.sessions().ok()?;
            let closed = sessions.iter().filter(|s| is_root_tcp(s) && !s["close"].is_null()).count();
            last = format!("{closed} of {count} closed TCP sessions arrived");
            (closed >= count).then_some(sessions)
        })
        .with_context(|| last)
    }

    /// A program run by the visitor of net `index`.
    pub fn visitor(&self, index: usize, program: &str) -> crate::Result<Command> {
        let node = self.nodes.get(index).context("no such net")?;
        Ok(match &self.lab {
            Some(lab) => lab.inside(&node.visitor, Path::new(program)),
            None => command([program]),
        })
    }

    /// The port nodes reach the controller on.
    pub fn controller_port(&self) -> u16 {
        self.port
    }

    /// The port a visitor uses for a persona's port.
    pub fn port(&self, port: u16) -> u16 {
        if self.lab.is_some() { port } else { port + 20_000 }
    }
}

/// Starts a daemon and waits until it says `word` once more than its log already held.
pub(crate) fn started(name: &str, command: Command, log: &Path, word: &str) -> crate::Result<Daemon> {
    let before = std::fs::read_to_string(log).map_or(0, |text| text.matches(word).count());
    let mut daemon = Daemon::start(name, command, log)?;
    until(&format!("the start of {name}"), START, || (daemon.output().matches(word).count() > before || !daemon.alive()).then_some(()))?;
    ensure!(daemon.output().matches(word).count() > before, "{name} ended at start:\n{}", daemon.output());
    Ok(daemon)
}

/// A TCP session that was not opened inside another.
pub fn is_root_tcp(session: &serde_json::Value) -> bool {
    session["transport"] == "tcp" && session["parent"].is_null()
}

/// A loopback port nobody uses now, and which the kernel gives to nobody either: a daemon that is
/// started again must find it free.
pub fn free_port() -> crate::Result<u16> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    (0..10_000)
        .find_map(|_| {
            let next = std::process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let port = u16::try_from(10_000 + next % 10_000).ok()?;
            std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
        })
        .context("no loopback port between 10000 and 20000 is free")
}
