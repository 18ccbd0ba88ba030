//! The walls around the decoys process, from within: the real daemon with one more service, which tries whatever a
//! visitor who took it over would try. Each try is refused by the kernel, nothing leaves the host, and the process
//! has no capability. Has its own `main`, for the daemon starts its own binary again for its link: this one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_decoys::cli;
use glasshive_decoys::conn::Conn;
use glasshive_decoys::recorder::BoxFuture;
use glasshive_decoys::services::{Outcome, Service, ServiceDef, beside};
use glasshive_decoys::session::Session;
use glasshive_event::Transport;
use glasshive_tests::lab::Lab;
use glasshive_tests::process::{Daemon, run_ok, until};
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--config") => {
            beside(&HOSTILE);
            cli::main(clap::Parser::parse())
        }
        _ if arguments.iter().any(|argument| argument == "--list") => ExitCode::SUCCESS,
        _ => {
            const NAME: &str = "nothing_gets_out_of_the_decoys_process";
            let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
            if filter.is_none_or(|filter| NAME.contains(filter.as_str())) {
                if Lab::possible() {
                    scenario();
                    println!("test {NAME} ... ok");
                } else {
                    println!("not run: the walls are tried as root only, which has most to lose behind them");
                }
            }
            ExitCode::SUCCESS
        }
    }
}

// ---- the service within ----

/// Tries what it is told, one word and an argument a line, and says what the kernel said.
struct Hostile;

static HOSTILE: ServiceDef = ServiceDef {
    name: "hostile",
    transports: &[Transport::Tcp],
    default_ports: &[],
    passive: false,
    protocol: "unknown",
    summary: "tries to get out",
    build: |_| Ok(std::sync::Arc::new(Hostile)),
};

impl Service for Hostile {
    fn serve(&self, mut conn: Conn, _: Session) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let mut said = Vec::new();
            loop {
                match conn.read_some(4096).await {
                    Ok(data) if data.is_empty() => break,
                    Ok(data) => said.extend_from_slice(&data),
                    Err(error) => return error.into(),
                }
            }
            let said = String::from_utf8_lossy(&said).into_owned();
            let tried = tokio::task::spawn_blocking(move || {
                let lines = said.lines().filter_map(|line| line.split_once(' '));
                lines.map(|(what, argument)| format!("{what} {argument}={}\n", attempt(what, argument))).collect::<String>()
            });
            let answer = tried.await.unwrap_or_else(|error| error.to_string());
            match tokio::io::AsyncWriteExt::write_all(&mut conn, answer.as_bytes()).await {
                Ok(()) => Outcome::Server,
                Err(error) => error.into(),
            }
        })
    }
}

fn attempt(what: &str, argument: &str) -> String {
    let pid = || nix::unistd::Pid::from_raw(argument.parse().unwrap());
    let of = |errno: nix::Error| io::Error::from_raw_os_error(errno as i32);
    let socket = |domain: i32, kind| socket2::Socket::new(domain.into(), kind, None);
    match what {
        "connect-tcp" => shown(TcpStream::connect(argument)),
        "connect-unix-stream" => shown(UnixStream::connect(argument)),
        // A socket there may be, so that the call itself is what is refused.
        "connect-unix-datagram" => shown(UnixDatagram::unbound().and_then(|socket| socket.connect(argument))),
        "socket-udp" => shown(UdpSocket::bind(argument)),
        "socket-inet" => shown(socket(2, socket2::Type::STREAM)),
        "socket-inet6" => shown(socket(10, socket2::Type::STREAM)),
        "socket-raw" => shown(socket(2, socket2::Type::RAW)),
        "socket-netlink" => shown(socket(16, socket2::Type::RAW)),
        "socket-packet" => shown(socket(17, socket2::Type::RAW)),
        "open" => shown(std::fs::File::open(argument)),
        "list" => shown(std::fs::read_dir(argument)),
        "write" => shown(std::fs::OpenOptions::new().append(true).create(true).open(argument)),
        "exec" => shown(Command::new(argument).status()),
        "ptrace" => shown(nix::sys::ptrace::attach(pid()).map_err(of)),
        "seize" => shown(nix::sys::ptrace::seize(pid(), nix::sys::ptrace::Options::empty()).map_err(of)),
        "unshare" => shown(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(of)),
        "setns" => {
            shown(std::fs::File::open(argument).and_then(|file| nix::sched::setns(file, nix::sched::CloneFlags::empty()).map_err(of)))
        }
        other => format!("unknown: {other}"),
    }
}

fn shown<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |code| format!("os {code}")),
    }
}

// ---- the scenario without ----

const PERSONA: &str = "os = \"debian12\"\n[service.generic_tcp]\nports = [9100]\n";

fn scenario() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: true, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    let node = world.nodes[0].dir.clone();
    // The daemon is this binary, and its persona offers what only this binary has.
    std::fs::write(node.join("personas/web.toml"), PERSONA.replace("generic_tcp", "hostile")).unwrap();
    let lab = world.lab.as_ref().unwrap();
    let mut serve = lab.inside("n1", &std::env::current_exe().unwrap());
    serve.arg("--config").arg(node.join("decoys.toml")).arg("run");
    let mut daemon = Daemon::start("node1", serve, &node.join("log.txt")).unwrap();
    daemon.wait_for("listening with", LIMIT).unwrap();
    until("the link", LIMIT, || world.cli(&["nodes", "--json"]).ok()?.contains("\"connected\":true").then_some(())).unwrap();

    // Targets that would answer: on the visitor's host and, as a socket in the file system, on the node's.
    let target = lab.enter("v1", || Ok(TcpListener::bind("10.66.1.100:4444")?)).unwrap();
    target.set_nonblocking(true).unwrap();
    let (stream, datagram) = (node.join("state/journal/stream"), node.join("state/journal/datagram"));
    let _stream = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    let _datagram = UnixDatagram::bind(&datagram).unwrap();
    let mut counter = lab.inside("n1", Path::new("nft"));
    counter.arg(
        "add table inet counted; add counter inet counted out; \
         add chain inet counted o { type filter hook output priority 0; policy accept; }; \
         add rule inet counted o ip daddr 10.66.1.100 tcp flags syn / syn,ack counter name out; \
         add rule inet counted o ip daddr 10.66.1.100 meta l4proto udp counter name out",
    );
    run_ok(counter, None, LIMIT).unwrap();

    let key = node.join("state/identity/identity.json");
    assert!(std::fs::read_to_string(&key).unwrap().contains("key"), "the link's key is kept elsewhere: try that");
    let keeper = children(daemon.pid());
    assert_eq!(keeper.len(), 1, "the keeper alone is the daemon's child");
    let link = children(keeper[0]);
    assert_eq!(link.len(), 1, "the link's process alone is the keeper's child");

    const EPERM: &str = "os 1";
    const EACCES: &str = "os 13";
    let own = std::env::current_exe().unwrap();
    let mut tries: Vec<(String, &str)> = vec![
        ("connect-tcp 10.66.1.100:4444".into(), EPERM),
        ("connect-tcp 10.99.0.1:7443".into(), EPERM),
        (format!("connect-unix-stream {}", stream.display()), EPERM),
        (format!("connect-unix-datagram {}", datagram.display()), EPERM),
        (format!("connect-unix-stream {}", dir.path().join("controller/admin.sock").display()), EPERM),
        ("socket-udp 0.0.0.0:0".into(), EPERM),
        ("socket-inet -".into(), EPERM),
        ("socket-inet6 -".into(), EPERM),
        ("socket-raw -".into(), EPERM),
        ("socket-netlink -".into(), EPERM),
        ("socket-packet -".into(), EPERM),
        ("exec /bin/true".into(), EPERM),
        ("exec /proc/self/exe".into(), EPERM),
        (format!("exec {}", own.display()), EPERM),
        ("unshare -".into(), EPERM),
        ("setns /proc/self/ns/net".into(), EPERM),
        ("open /etc/shadow".into(), EACCES),
        ("open /etc/passwd".into(), EACCES),
        ("list /".into(), EACCES),
        (format!("open /proc/{}/environ", keeper[0]), EACCES),
        (format!("open /proc/{}/mem", link[0]), EACCES),
        (format!("list {}", node.join("state/identity").display()), EACCES),
        (format!("write {}", node.join("decoys.toml").display()), EACCES),
        (format!("write {}", node.join("state/new").display()), EACCES),
        (format!("open {}", node.join("state/keys/seed").display()), EACCES),
        (format!("open {}", dir.path().join("controller/controller.toml").display()), EACCES),
        // That something works shows that the answers are the kernel's.
        (format!("write {}", node.join("state/files/new").display()), "done"),
        ("open /proc/self/status".into(), "done"),
    ];
    tries.push((format!("open {}", key.display()), EACCES));
    for pid in [parent(daemon.pid()), daemon.pid(), keeper[0], link[0]] {
        tries.push((format!("ptrace {pid}"), EPERM));
        tries.push((format!("seize {pid}"), EPERM));
    }
    let asked: String = tries.iter().map(|(attempt, _)| format!("{attempt}\n")).collect();
    let answer = lab
        .enter("v1", || {
            let mut stream = TcpStream::connect("10.66.1.10:9100")?;
            stream.write_all(asked.as_bytes())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .unwrap();
    let seen: BTreeMap<_, _> = answer.lines().filter_map(|line| line.rsplit_once('=')).collect();
    for (attempt, expected) in &tries {
        assert_eq!(seen.get(attempt.as_str()), Some(expected), "{attempt}; all: {seen:#?}");
    }
    assert_eq!(target.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "a connection came out");
    let mut counter = lab.inside("n1", Path::new("nft"));
    counter.args(["list", "counter", "inet", "counted", "out"]);
    let counted = run_ok(counter, None, LIMIT).unwrap();
    assert!(counted.contains("packets 0"), "{counted}");

    // Every thread of it, and of the link's process, after the start.
    for (name, pid, bounding) in [("decoys", daemon.pid(), true), ("link", link[0], true)] {
        let threads = statuses(pid);
        for status in &threads {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"].into_iter().chain(bounding.then_some("CapBnd")) {
                assert_eq!(field(status, set), "0000000000000000", "{name}: {status}");
            }
            assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1", "2"), "{name}: {status}");
        }
        println!("{name}: {} threads without any capability, system calls filtered", threads.len());
    }
    println!("keeper: CapEff {}, Seccomp {}", field(&statuses(keeper[0])[0], "CapEff"), field(&statuses(keeper[0])[0], "Seccomp"));
    // The controller was told, and the visit is a session like any other.
    let sessions = world.wait_sessions(1, LIMIT).unwrap();
    assert_eq!((sessions[0]["service"].as_str(), sessions[0]["reason"].as_str()), (Some("hostile"), Some("server")), "{sessions:?}");
    let health = world.cli(&["tail", "--kind", "health", "--limit", "100", "--json"]).unwrap();
    let start = health.lines().find(|line| line.contains("\"lockdown\"")).unwrap();
    let start: serde_json::Value = serde_json::from_str(start).unwrap();
    let lockdown = &start["detail"]["fields"]["lockdown"];
    for on in ["no_capabilities", "bounding_empty", "no_new_privs", "call_filter"] {
        assert_eq!(lockdown[on], true, "{lockdown}");
    }
    assert_eq!(daemon.stop(LIMIT), Some(0), "{}", daemon.output());
    println!("{} tries, each answered as it must be", tries.len());
}

fn statuses(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim()
}

fn parent(pid: u32) -> u32 {
    field(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(), "PPid").parse().unwrap()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("children")).unwrap_or_default();
    tasks.flat_map(|task| of(task.path()).split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}
