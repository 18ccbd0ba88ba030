//! Bad input against real daemons: on every port, on the link, in tokens and certificates, and disks
//! that fill. Each is an event or one clear line, and a good visitor or node beside it notices nothing.

use super::*;
use glasshive_tests::process::pause;
use socket2::{Domain, Socket, Type};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Ports of the persona, as an unprivileged visitor reaches them.
const PORTS: [u16; 7] = [20_021, 20_022, 20_023, 20_053, 20_080, 20_443, 29_100];

/// The web persona, with room for everything these tests do at once.
fn roomy() -> String {
    format!("{PERSONA}\n[limits]\nper_source = 100000\n")
}

/// Connects from an address of its own, so that per-source limits keep others apart.
fn connect(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(20))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Bytes no protocol knows, the same every time.
fn junk(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Reads until the end, an error, or nothing for the socket's time limit.
fn drain(stream: &mut TcpStream) {
    let mut buffer = [0u8; 4096];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

/// How a visitor misbehaves. Returns the connection when it is to be held.
type Misbehaviour = fn(TcpStream, &AtomicBool) -> Option<TcpStream>;

/// One line a misbehaviour.
const MISBEHAVIOURS: [(&str, Misbehaviour); 5] = [
    ("junk", |mut stream, _| {
        let _ = stream.write_all(&junk(64 << 10));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        drain(&mut stream);
        None
    }),
    ("silent", |stream, _| Some(stream)),
    ("one byte a second", |mut stream, done| {
        // The pace is the visitor's way, not a wait for something; it ends with the good visitor's work.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut sink = [0u8; 512];
        for byte in b"GET /slow HTTP/1.1\r\nHost: slow\r\n".iter().cycle() {
            if done.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
                break;
            }
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until && !done.load(Ordering::Relaxed) {
                match stream.read(&mut sink) {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        None
    }),
    ("oversized", |mut stream, _| {
        let block = [b'A'; 16 << 10];
        for _ in 0..64 {
            if stream.write_all(&block).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        drain(&mut stream);
        None
    }),
    ("cut off", |mut stream, _| {
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        let socket = Socket::from(stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
        None
    }),
];

/// One page fetched over HTTP, whole.
fn good_visit(port: u16) {
    let mut stream = connect([127, 0, 0, 1], SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web-01\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

fn node_row(world: &World, name: &str) -> serde_json::Value {
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let wanted = format!("\"node\":\"{name}\"");
    serde_json::from_str(nodes.lines().find(|line| line.contains(&wanted)).unwrap()).unwrap()
}

/// Junk, silence, a byte a second, too much and too little, on every port and on the link at once: the
/// good visitor is served throughout, and every connection is a session, exactly once.
#[test]
fn every_port_and_the_link() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let persona = roomy();
    let mut world = world(&dir, false, &[("alpha", Dial::Node)], &persona, "");
    let done = AtomicBool::new(false);
    let made = AtomicUsize::new(0);
    let link = SocketAddr::from((Ipv4Addr::LOCALHOST, world.controller_port()));
    let ports = PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut good = 0;
    std::thread::scope(|scope| {
        let mut ending = Vec::new();
        for (row, (name, misbehave)) in MISBEHAVIOURS.iter().enumerate() {
            for to in ports.iter().chain([&link]) {
                let (done, made, own) = (&done, &made, to != &link);
                let from = [127, 0, 66, row as u8 + 1];
                let handle = scope.spawn(move || {
                    let stream = connect(from, *to).unwrap_or_else(|error| panic!("{name} at {to}: {error}"));
                    if own {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    let held = misbehave(stream, done);
                    if held.is_some() {
                        while !done.load(Ordering::Relaxed) {
                            pause();
                        }
                    }
                });
                if !matches!(*name, "silent" | "one byte a second") {
                    ending.push(handle);
                }
            }
        }
        // The good visitor comes again and again until everyone who will end has ended.
        while good < 20 || ending.iter().any(|handle| !handle.is_finished()) {
            good_visit(20_080);
            good += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    let count = good + made.load(Ordering::Relaxed);
    assert_eq!(made.load(Ordering::Relaxed), PORTS.len() * MISBEHAVIOURS.len());
    let sessions = world.wait_sessions(count, LIMIT).unwrap();
    assert_eq!(sessions.iter().filter(|s| is_root_tcp(s)).count(), count, "exactly once");
    let good_ones = sessions.iter().filter(|s| s["source"]["ip"] == "127.0.0.1" && s["service"] == "http").count();
    assert_eq!(good_ones, good);
    // No session ended by a fault of ours.
    assert!(sessions.iter().all(|s| s["reason"] != "panic" && s["reason"] != "node_crash"), "{sessions:?}");
    let row = node_row(&world, "node1");
    assert_eq!((&row["gap_count"], &row["loss_count"]), (&0.into(), &0.into()), "{row}");
    assert!(world.nodes[0].daemon.as_mut().unwrap().alive() && world.controller.as_mut().unwrap().alive());
    // Those at the link's door are in the controller's log, one line each.
    let said = world.controller.as_ref().unwrap().output();
    assert!(said.matches("rejected").count() >= 3, "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Tokens that are expired, or pinned to another controller: one line each, and nothing is enrolled.
#[test]
fn tokens_that_do_not_let_in() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    let enroll = |name: &str, ttl: &str| {
        let out = world.cli(&["enroll", name, "--net", "alpha", "--role", "decoys", "--ttl", ttl, "--json"]).unwrap();
        let token: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        token["token"].as_str().unwrap().to_owned()
    };
    let join = |token: &str, state: &str| {
        let mut command = world.decoys(0, &["--state-dir"]).unwrap();
        command.arg(dir.path().join(state)).args(["identity", "join"]);
        let output = run(command, Some(token.as_bytes()), LIMIT).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        (output.status.code(), said)
    };
    // Another controller's pin: the node refuses to tell its secret.
    let token = enroll("mistaken", "1h");
    let mut parts: Vec<&str> = token.split('.').collect();
    let other = "A".repeat(parts[2].len());
    parts[2] = &other;
    let (code, said) = join(&parts.join("."), "mistaken");
    assert!(code == Some(1) && said.contains("not of the expected CA"), "{said}");
    assert_eq!(run(world.decoys(0, &["identity", "show"]).unwrap(), None, LIMIT).unwrap().status.code(), Some(0));
    // Too late.
    let token = enroll("late", "1s");
    let issued = Instant::now();
    until("the token's expiry", LIMIT, || (issued.elapsed() > Duration::from_millis(1_100)).then_some(())).unwrap();
    let (code, said) = join(&token, "late");
    assert!(code == Some(1) && said.contains("expired"), "{said}");
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let enrolled = nodes.lines().filter(|line| line.contains("\"state\":\"enrolled\"")).count();
    assert_eq!(enrolled, 1, "node1 alone: {nodes}");
    // The good node goes on.
    knock(SocketAddr::from(([127, 0, 0, 1], 29_100)), 1).unwrap();
    world.wait_sessions(1, LIMIT).unwrap();
}

/// A node that comes with another's certificate writes nothing into that one's log, nor its own past
/// into the other's name.
#[test]
fn a_certificate_opens_its_own_log_only() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(&dir, true, &[("alpha", Dial::Node), ("beta", Dial::Node)], RAW, "");
    for net in 0..2 {
        Visitor::new(&world, net).http(false, "/before", &[]).unwrap();
    }
    world.wait_sessions(2, LIMIT).unwrap();
    for node in &mut world.nodes {
        node.daemon.as_mut().unwrap().stop(LIMIT);
        node.daemon = None;
    }
    // A node's last word, that it stops, is there by then.
    let before = [node_row(&world, "node1"), node_row(&world, "node2")];
    // node2's daemon keeps its own journal and comes with node1's certificate and key.
    let identity = |world: &World, node: usize| world.nodes[node].dir.join("state/identity");
    let (theirs, own) = (identity(&world, 0), identity(&world, 1));
    std::fs::remove_dir_all(&own).unwrap();
    copy_dir(&theirs, &own);
    // The daemon itself sees that it is another net's.
    let refused = run(world.decoys(1, &["run"]).unwrap(), None, LIMIT).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("\"beta\" is not the net this node was enrolled for"), "{said}");
    // So the thief lies there too.
    let config = world.nodes[1].dir.join("decoys.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("net = \"beta\"", "net = \"alpha\"");
    std::fs::write(&config, text).unwrap();
    world.start_node(1).unwrap();
    Visitor::new(&world, 1).http(false, "/stolen", &[]).unwrap();
    let said = until("what the controller makes of it", LIMIT, || {
        let said = world.controller.as_ref()?.output();
        let sessions = world.sessions().ok()?;
        (sessions.len() > 2 || said.contains("log belongs to node node2")).then_some((said, sessions))
    })
    .unwrap_or_else(|error| {
        panic!("{error}: {}\n{}", world.controller.as_ref().unwrap().output(), world.nodes[1].daemon.as_ref().unwrap().output())
    });
    // Whatever became of it, it is not in node2's log, and nothing in either log has changed.
    let after = [node_row(&world, "node1"), node_row(&world, "node2")];
    assert_eq!(before[1]["logs"], after[1]["logs"], "{after:?}\n{}", said.0);
    for session in &said.1 {
        let mine = if session["net"] == "alpha" { "node1" } else { "node2" };
        assert_eq!(session["node"], mine, "{session}");
    }
    assert_eq!(said.1.iter().filter(|s| s["node"] == "node2").count(), 1, "{:?}", said.1);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A small file system, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = glasshive_tests::process::command(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs"]);
        mount.arg(at);
        run_ok(mount, None, LIMIT).unwrap();
        Self(at.to_owned())
    }

    /// Takes all the room there is; the path to remove when it is to be given back.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = vec![0u8; 64 << 10];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..1]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = glasshive_tests::process::command(["umount", "-l"]);
        umount.arg(&self.0);
        let _ = run_ok(umount, None, LIMIT);
    }
}

/// Visits that do not wait for the decoy: they are in the kernel's queue when it pauses.
fn leave(count: usize) -> Vec<TcpStream> {
    let to = SocketAddr::from(([127, 0, 0, 1], 29_100));
    (0..count)
        .map(|index| {
            let mut stream = connect([127, 0, 0, 1], to).unwrap();
            stream.write_all(format!("visit {index}\n").as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream
        })
        .collect()
}

/// The node's disk (60 MB) fills: it says so and pauses; with room again every visit arrives once.
#[test]
fn a_full_node() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: false, nets: &[("alpha", Dial::Node)], persona: RAW, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    let disk = Disk::mount(&world.nodes[0].dir.join("state"));
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    world.start_node(0).unwrap();
    load(SocketAddr::from(([127, 0, 0, 1], 29_100)), 50);
    world.wait_sessions(50, LIMIT).unwrap();
    let filler = disk.fill();
    let waiting = leave(100);
    until("the word of the full disk", LIMIT, || {
        let said = world.nodes[0].daemon.as_ref()?.output();
        ["full", "room", "space"].iter().any(|word| said.contains(word)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", world.nodes[0].daemon.as_ref().unwrap().output()));
    assert!(world.nodes[0].daemon.as_mut().unwrap().alive());
    std::fs::remove_file(filler).unwrap();
    let sessions = world.wait_sessions(150, LIMIT).unwrap();
    assert_eq!(sessions.iter().filter(|s| is_root_tcp(s)).count(), 150, "exactly once");
    assert_eq!(node_row(&world, "node1")["gap_count"], 0);
    drop(waiting);
    world.nodes.clear();
}

/// The controller's disk (60 MB) fills: nodes keep what it cannot take, and bring it when it can.
#[test]
fn a_full_controller() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: false, nets: &[("alpha", Dial::Node)], persona: RAW, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    let disk = Disk::mount(&dir.path().join("controller/state"));
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    world.start_node(0).unwrap();
    load(SocketAddr::from(([127, 0, 0, 1], 29_100)), 50);
    world.wait_sessions(50, LIMIT).unwrap();
    let filler = disk.fill();
    load(SocketAddr::from(([127, 0, 0, 1], 29_100)), 200);
    until("the word of the full disk", LIMIT, || {
        let said = world.controller.as_ref()?.output();
        ["full", "room", "space"].iter().any(|word| said.contains(word)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", world.controller.as_ref().unwrap().output()));
    assert!(world.controller.as_mut().unwrap().alive() && world.nodes[0].daemon.as_mut().unwrap().alive());
    std::fs::remove_file(filler).unwrap();
    let sessions = world.wait_sessions(250, Duration::from_secs(120)).unwrap();
    assert_eq!(sessions.iter().filter(|s| is_root_tcp(s)).count(), 250, "exactly once");
    world.nodes.clear();
    world.controller.take();
}

/// A state directory that is none: one line with its path, exit 1.
#[test]
fn a_state_directory_that_cannot_be() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "");
    let file = dir.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    for mut command in [world.decoys(0, &["--state-dir"]).unwrap(), world.cli_command(&["--state-dir"]).unwrap()] {
        command.arg(&file);
        let daemon = command.get_program().to_string_lossy().ends_with("glasshive");
        command.arg(if daemon { "serve" } else { "run" });
        let output = run(command, None, LIMIT).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 6)), "{said}");
        assert!(said.trim().lines().count() == 1 && said.contains("a-file"), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a directory");
    }
}

/// PROXY protocol: believed from a listed peer only, and the tuple on the wire stays what it is.
#[test]
fn proxy_protocol_from_listed_peers() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let world = world(&dir, false, &[("alpha", Dial::Node)], RAW, "[proxy_protocol]\nfrom = [\"127.0.7.0/24\"]\n");
    let to = SocketAddr::from(([127, 0, 0, 1], 29_100));
    let say = |from: [u8; 4], bytes: &[u8]| {
        let mut stream = connect(from, to).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drain(&mut stream);
    };
    say([127, 0, 7, 1], b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 9100\r\nhello");
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend([203, 0, 113, 10, 198, 51, 100, 1, 0x9c, 0x42, 0x23, 0x8c]);
    second.extend(b"hello");
    say([127, 0, 7, 2], &second);
    say([127, 0, 7, 3], b"PROXY TCP4 203.0.113.11 ");
    say([127, 0, 0, 9], b"PROXY TCP4 203.0.113.12 198.51.100.1 40004 9100\r\nhello");
    let sessions = world.wait_sessions(4, LIMIT).unwrap();
    let sources: BTreeSet<String> = sessions.iter().map(|s| s["source"]["ip"].as_str().unwrap().to_owned()).collect();
    let expected: BTreeSet<String> = ["203.0.113.9", "203.0.113.10", "127.0.7.3", "127.0.0.9"].map(str::to_owned).into();
    assert_eq!(sources, expected, "{sessions:?}");
    let cut = sessions.iter().find(|s| s["source"]["ip"] == "127.0.7.3").unwrap();
    let story = world.cli(&["session", cut["session"].as_str().unwrap()]).unwrap();
    assert!(story.contains("cut off"), "{story}");
    let unlisted = sessions.iter().find(|s| s["source"]["ip"] == "127.0.0.9").unwrap();
    assert_eq!(unlisted["bytes_in"], 54, "the header is its first bytes: {unlisted}");
    assert_eq!(sessions.iter().find(|s| s["source"]["ip"] == "203.0.113.9").unwrap()["bytes_in"], 5);
}
