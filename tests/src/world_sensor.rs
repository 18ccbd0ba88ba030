//! A sensor beside a net's decoys: its own host on the segment, where it sees every frame and sends none.

use crate::process::{Daemon, binary, run_ok, until};
use crate::world::{LIMIT, World, started};
use anyhow::Context as _;
use std::path::PathBuf;
use std::process::Command;

/// A running sensor of one net.
pub struct Sensor {
    /// Its node name.
    pub name: String,
    /// Directory with its configuration and state.
    pub dir: PathBuf,
    /// The segment list its detectors know, made from the decoys' configuration.
    pub segment: PathBuf,
    /// The daemon, while it runs.
    pub daemon: Option<Daemon>,
    host: String,
}

/// The interface it captures from.
pub const INTERFACE: &str = "cap0";

impl Sensor {
    /// Adds a host with a mirror of net `index`'s segment, enrols a sensor there and starts it.
    pub fn start(world: &mut World, index: usize, extra: &str) -> crate::Result<Self> {
        let number = index + 1;
        let (name, host, bridge) = (format!("sensor{number}"), format!("s{number}"), format!("dcy{number}"));
        let lab = world.lab.as_mut().context("packets are captured in namespaces only: run as root")?;
        lab.host(&host)?;
        lab.leg(&host, "mgmt0", "mgmt", &[&format!("10.99.0.{}/24", 30 + number)])?;
        lab.leg(&host, INTERFACE, &bridge, &[])?;
        // The segment's bridge forgets every address at once and so repeats every frame to every port,
        // as a mirror port does.
        lab.ip("sw", &["link", "set", &bridge, "type", "bridge", "ageing_time", "0"])?;
        let dir = world.dir.join(&name);
        std::fs::create_dir_all(&dir)?;
        let node = world.nodes.get(index).context("no such net")?;
        let (net, segment) = (node.net.clone(), node.dir.join("segment.toml"));
        std::fs::write(
            dir.join("sensor.toml"),
            format!(
                "interface = {INTERFACE:?}\nstate_dir = {:?}\nnode = {name:?}\nsegment = {segment:?}\n{extra}\n[ring]\nquota = \"256 MiB\"\n[link]\ncontroller = \"10.99.0.1:{}\"\n",
                dir.join("state"),
                world.controller_port(),
            ),
        )?;
        let mut sensor = Self { name, dir, segment, daemon: None, host };
        let out = world.cli(&["enroll", &sensor.name, "--net", &net, "--role", "sensor", "--json"])?;
        let token = serde_json::from_str::<serde_json::Value>(out.lines().next().unwrap_or_default())?;
        let token = token["token"].as_str().context("enroll printed no token")?.to_owned();
        run_ok(sensor.command(world, &["identity", "join"])?, Some(token.as_bytes()), LIMIT)?;
        sensor.run(world)?;
        let connected = format!("\"node\":\"{}\"", sensor.name);
        until("the sensor at the controller", LIMIT, || {
            let nodes = world.cli(&["nodes", "--json"]).ok()?;
            nodes.lines().any(|line| line.contains(&connected) && line.contains("\"connected\":true")).then_some(())
        })?;
        Ok(sensor)
    }

    /// Starts the daemon and waits until it captures.
    pub fn run(&mut self, world: &World) -> crate::Result<()> {
        let log = self.dir.join("log.txt");
        self.daemon = Some(started(&self.name, self.command(world, &["run"])?, &log, "capturing from")?);
        Ok(())
    }

    /// `glasshive-sensor ARGS` with its configuration.
    pub fn command(&self, world: &World, arguments: &[&str]) -> crate::Result<Command> {
        let mut command = self.inside(world, &binary("glasshive-sensor")?)?;
        command.arg("--config").arg(self.dir.join("sensor.toml")).args(arguments);
        Ok(command)
    }

    /// A program on the sensor's host.
    pub fn inside(&self, world: &World, program: &std::path::Path) -> crate::Result<Command> {
        Ok(world.lab.as_ref().context("no namespaces")?.inside(&self.host, program))
    }

    /// tcpdump on the same interface, writing to `file`: an independent recorder.
    pub fn tcpdump(&self, world: &World, file: &std::path::Path) -> crate::Result<Daemon> {
        let command = self.inside(world, std::path::Path::new("tcpdump"))?;
        crate::process::tcpdump(command, INTERFACE, &["--immediate-mode", "--time-stamp-precision=nano"], file)
    }
}

/// tshark on a file: one line a frame, fields tab-separated.
pub fn tshark(file: &std::path::Path, words: &[&str]) -> crate::Result<String> {
    let mut command = crate::process::command(["tshark", "-n", "-r"]);
    command.arg(file).args(words);
    run_ok(command, None, LIMIT)
}
