//! Scenarios with real daemons and real clients, most in network namespaces: they need root, and the
//! programs `tests/install.sh test` installs. They run one after the other: each measures nothing, but
//! together they would starve each other on two cores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod activation;
mod bad_input;
mod packets;
mod wall;

use glasshive_tests::lab::Lab;
use glasshive_tests::process::{run, run_ok, until};
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World, is_root_tcp};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn root() {
    assert!(Lab::possible(), "this scenario needs root and the programs of tests/install.sh test");
}

fn world<'a>(dir: &'a tempfile::TempDir, root: bool, nets: &'a [(&'a str, Dial)], persona: &'a str, extra: &'a str) -> World {
    World::start(&Plan { dir: dir.path(), root, nets, persona, extra }).unwrap()
}

/// A persona with one raw port and no limit that a load from one address would meet.
const RAW: &str =
    "os = \"debian12\"\n[limits]\nper_source = 1000000\n[service.generic_tcp]\nports = [9100]\nidle_seconds = 60\n[service.http]\n";

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Two nets, one of them walled off so that only the controller may dial: each session shows its net.
#[test]
fn two_nets_one_controller() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, true, &[("alpha", Dial::Node), ("beta", Dial::Controller)], PERSONA, "");
    let lab = world.lab.as_ref().unwrap();
    // The second node may answer the controller and open nothing itself.
    let wall =
        "table inet wall { chain out { type filter hook output priority 0; policy accept; oifname \"mgmt0\" ct state new drop\n }\n }";
    let mut nft = lab.inside("n2", std::path::Path::new("nft"));
    nft.arg(wall);
    run_ok(nft, None, LIMIT).unwrap();
    for net in 0..2 {
        Visitor::new(&world, net).http(false, "/", &[]).unwrap();
        Visitor::new(&world, net).http(false, "/", &["-g"]).unwrap();
    }
    let sessions = world.wait_sessions(4, LIMIT).unwrap();
    for (index, net) in ["alpha", "beta"].into_iter().enumerate() {
        let of: Vec<_> = sessions.iter().filter(|s| s["net"] == net).collect();
        assert_eq!(of.len(), 2, "{net}: {sessions:?}");
        assert!(of.iter().all(|s| s["node"] == format!("node{}", index + 1) && s["decoy"] == format!("web-{}", index + 1)));
        assert!(of.iter().all(|s| s["source"]["ip"] == format!("10.66.{}.100", index + 1)), "real sources: {of:?}");
    }
    // IPv6 enters by its own transparent listener.
    let mut six = world.visitor(0, "curl").unwrap();
    six.args(["-sS", "-g", "--noproxy", "*", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "http://[fd00:66:1::10]/"]);
    assert_eq!(run_ok(six, None, LIMIT).unwrap(), "200");
    let sessions = world.wait_sessions(5, LIMIT).unwrap();
    assert!(sessions.iter().any(|s| s["source"]["ip"] == "fd00:66:1::100"), "{sessions:?}");
    // Revoked: cut off at once, and its visits stay on the node.
    world.cli(&["revoke", "node1", "--reason", "test"]).unwrap();
    until("the cut", LIMIT, || {
        world.cli(&["nodes", "--json"]).ok()?.lines().any(|l| l.contains("node1") && l.contains("revoked")).then_some(())
    })
    .unwrap();
    Visitor::new(&world, 0).http(false, "/after", &[]).unwrap();
    Visitor::new(&world, 1).http(false, "/after", &[]).unwrap();
    let sessions = world.wait_sessions(6, LIMIT).unwrap();
    assert_eq!(sessions.iter().filter(|s| s["net"] == "alpha").count(), 3, "a revoked node still delivers");
}

/// nmap names the persona's products, and ports that are not offered are closed.
#[test]
fn nmap_sees_the_persona() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, true, &[("alpha", Dial::Node)], PERSONA, "");
    let decoy = Visitor::new(&world, 0).decoy().unwrap();
    let mut nmap = world.visitor(0, "nmap").unwrap();
    nmap.args(["-n", "-Pn", "-sV", "-p", "21,22,23,53,80,443,8080", &decoy]);
    let out = run_ok(nmap, None, Duration::from_secs(240)).unwrap();
    for (port, product) in [
        ("21/tcp", "vsftpd"),
        ("22/tcp", "OpenSSH"),
        ("23/tcp", "telnetd"),
        ("53/tcp", "ISC BIND"),
        ("80/tcp", "nginx"),
        ("443/tcp", "nginx"),
    ] {
        let line = out.lines().find(|line| line.starts_with(port)).unwrap_or_else(|| panic!("{port} is not listed:\n{out}"));
        assert!(line.contains("open") && line.contains(product), "{line}\n{out}");
    }
    assert!(out.lines().any(|line| line.starts_with("8080/tcp") && line.contains("closed")), "{out}");
    assert!(!out.to_lowercase().contains("honey"), "{out}");
    let mut udp = world.visitor(0, "nmap").unwrap();
    udp.args(["-n", "-Pn", "-sU", "-sV", "-p", "53", &decoy]);
    let out = run_ok(udp, None, Duration::from_secs(120)).unwrap();
    assert!(out.lines().any(|line| line.starts_with("53/udp") && line.contains("BIND")), "{out}");
}

/// One connection of the load: a few bytes that name it, and a close.
fn knock(address: SocketAddr, index: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("visit {index}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut end = [0u8; 1];
    let _ = stream.read(&mut end);
    Ok(())
}

fn load(address: SocketAddr, count: usize) {
    std::thread::scope(|scope| {
        for lane in 0..16 {
            scope.spawn(move || {
                for index in (lane..count).step_by(16) {
                    // A refused try is made again: the count of connections must be exact.
                    while knock(address, index).is_err() {
                        glasshive_tests::process::pause();
                    }
                }
            });
        }
    });
}

/// The controller is away while many visits happen; afterwards all arrive once, in order.
#[test]
fn controller_away() {
    let _turn = turn();
    let count = number("GLASSHIVE_CONNECTIONS", 10_000);
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    world.controller.take();
    load(SocketAddr::from(([127, 0, 0, 1], 29_100)), count);
    world.start_controller().unwrap();
    let sessions = world.wait_sessions(count, Duration::from_secs(600)).unwrap();
    assert_eq!(sessions.iter().filter(|s| is_root_tcp(s)).count(), count, "exactly once");
    let ids: BTreeSet<_> = sessions.iter().map(|s| s["session"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), sessions.len(), "no session twice");
    for session in &sessions {
        assert!(session["events"].as_u64() >= Some(4), "open, request, stream and close: {session}");
    }
    // In order: nothing is missing in the log, so nothing arrived out of turn (the store refuses gaps).
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let node: serde_json::Value = serde_json::from_str(nodes.lines().find(|l| l.contains("\"node\":\"node1\"")).unwrap()).unwrap();
    assert_eq!(node["gap_count"], 0, "{node}");
    assert_eq!(node["loss_count"], 0, "{node}");
}

/// kill -9 of the node while a visitor is inside: the visit is closed at the next start, with a gap.
#[test]
fn killed_node() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    let mut inside = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 29_100))).unwrap();
    inside.write_all(b"still here").unwrap();
    until("the open session", LIMIT, || world.sessions().ok().filter(|all| all.len() == 1)).unwrap();
    world.nodes[0].daemon.as_mut().unwrap().kill();
    world.nodes[0].daemon = None;
    world.start_node(0).unwrap();
    let sessions = world.wait_sessions(1, LIMIT).unwrap();
    assert_eq!(sessions[0]["reason"], "node_crash", "{sessions:?}");
    knock(SocketAddr::from(([127, 0, 0, 1], 29_100)), 1).unwrap();
    world.wait_sessions(2, LIMIT).unwrap();
}

/// A second daemon on the same state, and a port in use, are one clear line each; the first goes on.
#[test]
fn refused_starts() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    let second = run(world.decoys(0, &["run"]).unwrap(), None, LIMIT).unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let pid = world.nodes[0].daemon.as_ref().unwrap().pid();
    assert!(said.trim().lines().count() == 1 && said.contains(&pid.to_string()), "{said}");
    // The same ports with another state directory.
    let mut other = world.decoys(0, &["--state-dir"]).unwrap();
    other.arg(dir.path().join("elsewhere")).arg("run");
    let second = run(other, None, LIMIT).unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("29100") || said.contains("20080"), "names the port: {said}");
    assert!(said.contains("glasshive-decoy") || said.contains(&pid.to_string()), "names the holder: {said}");
    let (code, _, said) = world.cli_result(&["serve"]).unwrap();
    assert_eq!(code, 6, "{said}");
    assert!(said.trim().lines().count() == 1, "{said}");
    knock(SocketAddr::from(([127, 0, 0, 1], 29_100)), 1).unwrap();
    world.wait_sessions(1, LIMIT).unwrap();
}

/// Unknown keys, unreadable places and wrong tokens: one line that names file, key and remedy.
#[test]
fn bad_configuration() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    let config = world.nodes[0].dir.join("decoys.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    let check = |text: &str, words: &[&str]| {
        std::fs::write(&config, text).unwrap();
        let output = run(world.decoys(0, &["check"]).unwrap(), None, LIMIT).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{said:?} lacks {word:?}");
        }
    };
    check(&format!("netz = \"x\"\n{good}"), &["decoys.toml", "netz"]);
    check(&good.replace("persona = \"web\"", "persona = \"nosuch\""), &["nosuch", "web"]);
    check(&good.replace(&format!("{:?}", world.nodes[0].dir.join("personas")), "\"/nonexistent\""), &["/nonexistent"]);
    std::fs::write(&config, &good).unwrap();
    let missing = run(
        {
            let mut command = std::process::Command::new(glasshive_tests::process::binary("glasshive-decoys").unwrap());
            command.args(["--config", "/nonexistent/decoys.toml", "check"]);
            command
        },
        None,
        LIMIT,
    )
    .unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/decoys.toml"));
    // A used token, and one that was never given out.
    let out = world.cli(&["enroll", "late", "--net", "alpha", "--role", "decoys", "--json"]).unwrap();
    let token: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    let join = |token: &str, state: &str| {
        let mut command = world.decoys(0, &["--state-dir"]).unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{token}\n")).unwrap();
        command.arg(dir.path().join(state)).args(["identity", "join"]).arg(file);
        let output = run(command, None, LIMIT).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // A token as an argument is in every user's list of processes: refused before anything is sent.
    let exposed = run(world.decoys(0, &["identity", "join", &token]).unwrap(), None, LIMIT).unwrap();
    let said = String::from_utf8_lossy(&exposed.stderr).into_owned();
    assert_eq!((exposed.status.code(), said.trim().lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("standard input") && !said.contains(&token), "{said}");
    assert_eq!(join(&token, "late1").0, Some(0));
    let (code, said) = join(&token, "late2");
    assert_eq!((code, said.trim().lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("token"), "{said}");
}
