//! Notifications arrive at receivers that are not ours: a webhook in Python that checks the signature,
//! and rsyslogd. What is below the severity does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::process::{Daemon, command, until};
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World, free_port};
use serde_json::Value;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

struct Receivers {
    webhook: Option<Daemon>,
    _syslog: Daemon,
    bodies: PathBuf,
    lines: PathBuf,
    port: u16,
    key: PathBuf,
    config: String,
}

fn webhook(dir: &Path, key: &Path, bodies: &Path, port: u16, refuse: u32) -> Daemon {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/webhook.py");
    let mut python = command(["python3"]);
    python.arg(script).arg(bodies).arg(key).args([refuse.to_string(), port.to_string()]);
    let mut daemon = Daemon::start("the webhook", python, &dir.join("webhook.log")).unwrap();
    daemon.wait_for("receiving", LIMIT).unwrap();
    daemon
}

fn receivers(dir: &Path, refuse: u32) -> Receivers {
    let (port, syslog_port) = (free_port().unwrap(), free_port().unwrap());
    let (bodies, lines, key) = (dir.join("bodies"), dir.join("lines"), dir.join("webhook.key"));
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::write(&bodies, "").unwrap();
    // rsyslogd parses the message itself and writes the parts it found.
    let rsyslog = format!(
        "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{syslog_port}\")\n\
         template(name=\"parts\" type=\"string\" string=\"%pri%|%protocol-version%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
         action(type=\"omfile\" file={lines:?} template=\"parts\")\n"
    );
    std::fs::write(dir.join("rsyslog.conf"), rsyslog).unwrap();
    let mut rsyslogd = command(["/usr/sbin/rsyslogd", "-n", "-i"]);
    rsyslogd.arg(dir.join("rsyslog.pid")).arg("-f").arg(dir.join("rsyslog.conf"));
    let syslog = Daemon::start("rsyslogd", rsyslogd, &dir.join("rsyslog.log")).unwrap();
    until("rsyslogd", LIMIT, || TcpStream::connect(("127.0.0.1", syslog_port)).ok())
        .unwrap_or_else(|error| panic!("{error}: {}", syslog.output()));
    let config = format!(
        "[notify]\nmin_severity = \"medium\"\ncheck = \"1s\"\n[notify.webhook]\nurl = \"http://127.0.0.1:{port}/hook\"\nsecret_file = {key:?}\n\
         [notify.syslog]\naddress = \"127.0.0.1:{syslog_port}\"\n"
    );
    let webhook = Some(webhook(dir, &key, &bodies, port, refuse));
    Receivers { webhook, _syslog: syslog, bodies, lines, port, key, config }
}

impl Receivers {
    fn bodies(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.bodies).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.lines).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn world(dir: &Path, config: &str, extra: &str) -> World {
    let plan = Plan { dir, root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra };
    let mut world = World::prepare(&plan).unwrap();
    let path = dir.join("controller/controller.toml");
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(config.as_bytes()).unwrap();
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    world.start_node(0).unwrap();
    world
}

#[test]
fn a_test_says_of_each_channel_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let receivers = receivers(dir.path(), 2);
    let config = receivers.config.replace("[notify]\n", "[notify]\ntroubles = false\n");
    let world = world(&dir.path().join("hive"), &config, "port_offset = 22000");
    // The receiver answers 503 twice: told by channel, and by the exit code.
    let (code, out, said) = world.cli_result(&["notify", "test"]).unwrap();
    assert_eq!(code, 1, "{out}{said}");
    assert!(out.contains("webhook to 127.0.0.1:") && out.contains("FAILED: the server answered 503"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("syslog to 127.0.0.1:") && line.ends_with(": sent")), "{out}");
    assert_eq!(world.cli_result(&["notify", "test"]).unwrap().0, 1);
    let (code, out, _) = world.cli_result(&["notify", "test", "--json"]).unwrap();
    assert_eq!(code, 0, "{out}");
    assert!(out.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["sent"] == true), "{out}");
    let bodies = receivers.bodies();
    assert_eq!((bodies.len(), &bodies[0]["kind"], &bodies[0]["version"]), (1, &"test".into(), &1.into()), "{bodies:?}");
    let lines = until("three tests in the syslog", LIMIT, || Some(receivers.lines()).filter(|lines| lines.len() >= 3)).unwrap();
    // local0 and informational; the parts as another parser of RFC 5424 found them.
    assert!(lines[0].starts_with("134|1|glasshive|test|[glasshive@32473 id=\"") && lines[0].contains("kind=\"test\""), "{}", lines[0]);
}

#[test]
fn both_channels_are_told_of_troubles_once_and_of_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut receivers = receivers(dir.path(), 0);
    let mut world = world(&dir.path().join("hive"), &receivers.config, "port_offset = 24000");
    let of = |receivers: &Receivers, kind: &str| {
        let of_node = |one: &&Value| {
            one["kind"] == kind && one["about"] == "node node1" && one["summary"].as_str().unwrap().contains("not connected")
        };
        receivers.bodies().iter().filter(of_node).count()
    };
    // Between enrolment and start the node was away: that may have been told; then it is over first.
    until("a quiet start", LIMIT, || {
        let (_, out, _) = world.cli_result(&["doctor", "--json"]).ok()?;
        let all: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let connected = all.iter().any(|one| one["node"] == "node1" && one["connected"] == true);
        let idle = all.iter().filter(|one| one["type"] == "notify" && one["queued"] == 0).count() == 2;
        (connected && idle && of(&receivers, "trouble") == of(&receivers, "cleared")).then_some(())
    })
    .unwrap();
    let before = of(&receivers, "trouble");
    world.nodes[0].daemon.as_mut().unwrap().kill();
    until("the alarm", LIMIT, || (of(&receivers, "trouble") > before).then_some(())).unwrap();
    let told = receivers.bodies().into_iter().rfind(|one| one["kind"] == "trouble").unwrap();
    assert_eq!((&told["severity"], &told["count"]), (&"high".into(), &1.into()), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("systemctl status"), "{told}");
    let in_syslog = |line: &String| line.contains("|trouble|") && line.contains("node node1: not connected");
    until("the alarm on the second channel", LIMIT, || receivers.lines().iter().any(in_syslog).then_some(())).unwrap();
    world.start_node(0).unwrap();
    until("the end of it", LIMIT, || (of(&receivers, "cleared") > before).then_some(())).unwrap();
    assert_eq!(of(&receivers, "trouble"), before + 1, "told once");

    // A receiver that is away is a trouble itself, told over the other channel; what waited arrives.
    drop(receivers.webhook.take());
    world.nodes[0].daemon.as_mut().unwrap().kill();
    let doctor = || world.cli_result(&["doctor"]).ok().filter(|(code, out, _)| *code == 1 && out.contains("the last note did not arrive"));
    until("the doctor's word", LIMIT, doctor).unwrap();
    until("the other channel", LIMIT, || receivers.lines().iter().any(|line| line.contains("notify webhook")).then_some(())).unwrap();
    receivers.webhook = Some(webhook(dir.path(), &receivers.key, &receivers.bodies, receivers.port, 0));
    until("what waited", LIMIT, || (of(&receivers, "trouble") > before + 1).then_some(())).unwrap();
}

#[test]
fn no_channel_is_a_wrong_use() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "port_offset = 23000" };
    let mut world = World::prepare(&plan).unwrap();
    world.start_controller().unwrap();
    let (code, _, said) = world.cli_result(&["notify", "test"]).unwrap();
    assert_eq!(code, 2);
    assert!(said.contains("no channel is configured: add [notify.webhook] or [notify.syslog]"), "{said}");
}
