//! The daemons as a service manager sees them: ready, alive from their main loop, silent when stuck.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::process::{Daemon, binary, until};
use glasshive_tests::sensor::SensorLab;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a daemon must say within: the manager restarts it after that.
const WATCHDOG: Duration = Duration::from_millis(1_500);

/// A fake NOTIFY_SOCKET.
struct Manager(UnixDatagram, std::path::PathBuf);

impl Manager {
    fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket, path)
    }

    fn start(&self, name: &str, mut command: Command, dir: &Path) -> Daemon {
        command.env("NOTIFY_SOCKET", &self.1).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Daemon::start(name, command, &dir.join(format!("{name}.log"))).unwrap()
    }

    /// Messages since the last time.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned())).collect()
    }

    fn wait(&self, word: &str, times: usize, daemon: &Daemon) {
        let mut seen = 0;
        until(&format!("{times} times {word}"), LIMIT, || {
            seen += self.heard().iter().filter(|message| message.starts_with(word)).count();
            (seen >= times).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.output()));
    }
}

/// READY, signs of life while it lives, none while it is stopped, and again afterwards.
fn check(manager: &Manager, mut daemon: Daemon) {
    manager.wait("READY=1", 1, &daemon);
    manager.wait("WATCHDOG=1", 3, &daemon);
    daemon.signal(19);
    let state = format!("/proc/{}/stat", daemon.pid());
    let stopped = || std::fs::read_to_string(&state).unwrap().rsplit(')').next().unwrap().trim_start().starts_with('T');
    until("the stop", LIMIT, || stopped().then_some(())).unwrap();
    manager.heard();
    // As long as the manager would wait: not a word.
    assert!(until("a word", WATCHDOG * 2, || (!manager.heard().is_empty()).then_some(())).is_err(), "a stopped daemon speaks");
    daemon.signal(18);
    manager.wait("WATCHDOG=1", 2, &daemon);
    daemon.signal(15);
    manager.wait("STOPPING=1", 1, &daemon);
    assert_eq!(daemon.stop(LIMIT), Some(0), "{}", daemon.output());
}

#[test]
fn controller_and_decoys_are_alive_from_their_main_loop() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "port_offset = 21000" };
    let world = World::prepare(&plan).unwrap();
    let manager = Manager::new(dir.path(), "controller.notify");
    let mut serve = Command::new(binary("glasshive").unwrap());
    serve.arg("--config").arg(dir.path().join("controller/controller.toml")).arg("serve");
    check(&manager, manager.start("controller", serve, dir.path()));
    let manager = Manager::new(dir.path(), "decoys.notify");
    check(&manager, manager.start("decoys", world.decoys(0, &["run"]).unwrap(), dir.path()));
}

#[test]
fn the_sensor_is_alive_from_its_main_loop() {
    let dir = tempfile::tempdir().unwrap();
    let lab = SensorLab::new(dir.path(), "").unwrap();
    let manager = Manager::new(dir.path(), "sensor.notify");
    let mut serve = lab.lab.inside("b", &binary("glasshive-sensor").unwrap());
    serve.arg("--config").arg(dir.path().join("sensor.toml")).arg("run");
    check(&manager, manager.start("sensor", serve, dir.path()));
}
