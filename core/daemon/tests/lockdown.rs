//! Locks real processes down and tries what must be refused; starts real helper processes.
//!
//! No test harness: its threads would make the lockdown refuse. Each scenario is this program again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_daemon::keeper::{self, Backoff, Kept};
use glasshive_daemon::lockdown::{Calls, Files, Lockdown, LockdownError, Report, report};
use glasshive_daemon::net::{TcpOptions, UdpOptions, bind_udp, client_isn, listen_tcp};
use glasshive_daemon::reexec::{self, Helper};
use glasshive_daemon::shutdown::Shutdown;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const EPERM: &str = "os 1";
const EACCES: &str = "os 13";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("decoys") => decoys_child(Path::new(&arguments[1]), arguments[2].parse().unwrap()),
        Some("connecting") => connecting_child(arguments[1].parse().unwrap()),
        Some("helper") => helper_child(),
        Some("parent") => parent_child(),
        Some("idle") => idle_child(),
        Some("keeper") => keeper::keep(&["worker"], QUICK).unwrap(),
        Some("worker") => worker_child(),
        _ => scenarios(&arguments),
    }
}

/// Runs the scenarios whose name holds the filter, as the usual harness does.
fn scenarios(arguments: &[String]) {
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let all: [(&str, fn()); 6] = [
        ("decoys_process_is_walled_in", decoys),
        ("connecting_process_keeps_connections", connecting),
        ("threads_are_refused", threads),
        ("helper_talks_over_its_socketpair", helper),
        ("helper_dies_with_its_parent", orphan),
        ("worker_comes_back_after_the_lockdown", kept),
    ];
    for (name, scenario) in all.iter().filter(|(name, _)| name.contains(&filter)) {
        scenario();
        println!("test {name} ... ok");
    }
}

// ---- the decoys process ----

fn decoys() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["read", "write"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), "x").unwrap();
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::fs::write(dir.path().join("outside"), "x").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_address = target.local_addr().unwrap().to_string();
    let (child, mut output) = start(&["decoys", dir.path().to_str().unwrap(), &target_address]);

    let mut port = String::new();
    output.read_line(&mut port).unwrap();
    let mut visitor = TcpStream::connect(port.trim().parse::<SocketAddr>().unwrap()).unwrap();
    visitor.write_all(b"hello").unwrap();
    let seen = results(child, output);

    for (probe, expected) in [
        ("accept", "ok 5 isn true"),
        ("connect tcp", EPERM),
        ("connect unix", EPERM),
        ("fast open sendto", EPERM),
        ("fast open sendmsg", EPERM),
        ("socket inet", EPERM),
        ("socket inet6", EPERM),
        ("socket netlink", EPERM),
        ("socket packet", EPERM),
        ("socket raw", EPERM),
        ("socket unix", "ok"),
        ("udp answer", "ok"),
        ("execve", EPERM),
        ("chroot", EPERM),
        ("thread", "ok"),
        ("runtime", "ok Clean"),
        ("read allowed", "ok"),
        ("read outside", EACCES),
        ("read /etc/passwd", EACCES),
        ("list /", EACCES),
        ("write read-only", EACCES),
        ("write allowed", "ok"),
        ("rename allowed", "ok"),
        ("second lockdown", "ok"),
    ] {
        assert_eq!(seen.get(probe).map(String::as_str), Some(expected), "{probe}; all: {seen:#?}");
    }
    // The system call filter alone must refuse the connection: the target never saw one.
    target.set_nonblocking(true).unwrap();
    assert_eq!(target.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let root = rustix::process::getuid().is_root();
    let report = &seen["report"];
    assert!(report.contains("capabilities dropped yes, no new privileges yes, system calls filtered yes, file rules full"), "{report}");
    assert_eq!(seen["capability sets"], if root { "0 0 0 0 0" } else { &seen["capability sets"] });
    assert!(seen["capability sets"].starts_with("0 0 0 0 "), "{seen:?}");
    assert_eq!(seen["user"], if root { "65534 65534 [65534]".to_owned() } else { seen["user"].clone() });
    // More than one thread by then: all are covered.
    assert_eq!(seen["report later"], "true true true true");
}

fn decoys_child(dir: &Path, target: SocketAddr) {
    let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions::default()).unwrap();
    let udp = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let unconnected: Vec<Socket> = (0..3).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let unix_path = dir.join("socket");
    let _unix = std::os::unix::net::UnixListener::bind(&unix_path).unwrap();
    println!("{}", listener.local_addr().unwrap());

    let files = Files { read: vec![dir.join("read"), dir.join("missing")], write: vec![dir.join("write")], no_connect: false };
    let user = rustix::process::getuid().is_root().then(|| "65534:65534".parse().unwrap());
    let lockdown = Lockdown { user, files: Some(files), calls: Calls::Decoys, ..Lockdown::default() };
    tell("report", lockdown.apply().map(|report: Report| format!("ok {report}")).unwrap());

    let target = SockAddr::from(target);
    let fast_open = 0x2000_0000;
    probe("connect tcp", unconnected[0].connect(&target));
    probe("fast open sendto", unconnected[1].send_to_with_flags(b"x", &target, fast_open));
    let buffers = [io::IoSlice::new(b"x")];
    probe("fast open sendmsg", unconnected[2].sendmsg(&socket2::MsgHdr::new().with_addr(&target).with_buffers(&buffers), fast_open));
    probe("connect unix", std::os::unix::net::UnixStream::connect(&unix_path));
    let socket = |domain: i32, kind| Socket::new(Domain::from(domain), kind, None);
    probe("socket inet", socket(2, Type::STREAM));
    probe("socket inet6", socket(10, Type::DGRAM));
    probe("socket netlink", socket(16, Type::RAW));
    probe("socket packet", socket(17, Type::RAW));
    probe("socket raw", socket(2, Type::RAW));
    probe("socket unix", socket(1, Type::DGRAM));
    probe("udp answer", udp.send_to(b"x", udp.local_addr().unwrap()));
    probe("execve", Command::new("/bin/true").status());
    probe("chroot", rustix::process::chroot("/").map_err(io::Error::from));
    probe("thread", std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join));
    probe("read allowed", std::fs::read(dir.join("read/file")));
    probe("read outside", std::fs::read(dir.join("outside")));
    probe("read /etc/passwd", std::fs::read("/etc/passwd"));
    probe("list /", std::fs::read_dir("/"));
    probe("write read-only", std::fs::write(dir.join("read/new"), "x"));
    probe("write allowed", std::fs::write(dir.join("write/new"), "x"));
    probe("rename allowed", std::fs::rename(dir.join("write/new"), dir.join("write/newer")));
    tell("capability sets", capability_sets());
    let groups: Vec<u32> = rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
    tell("user", format!("{} {} {groups:?}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
    // The ended thread may linger in /proc a moment; what matters is that no error other than that comes.
    let again = Lockdown { calls: Calls::Decoys, ..Lockdown::default() }.apply();
    tell("second lockdown", if matches!(again, Ok(_) | Err(LockdownError::Threads(_))) { "ok".to_owned() } else { format!("{again:?}") });

    // A runtime started afterwards works, signals and timers included.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let isn = client_isn(&stream);
        let mut bytes = [0; 5];
        let got = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut bytes).await.unwrap();
        tell("accept", format!("ok {got} isn {}", isn.is_some()));
        let stopped = shutdown.clone();
        shutdown.spawn(async move { stopped.requested().await });
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        shutdown.requested().await;
        tell("runtime", format!("ok {:?}", shutdown.drain(Duration::from_secs(60)).await));
        let now = report();
        tell("report later", format!("{} {} {} {}", now.no_capabilities, now.no_new_privs, now.call_filter, now.threads > 1));
    });
}

fn capability_sets() -> String {
    use caps::CapSet::{Ambient, Bounding, Effective, Inheritable, Permitted};
    let size = |set| caps::read(None, set).unwrap().len().to_string();
    [Effective, Permitted, Inheritable, Ambient, Bounding].map(size).join(" ")
}

// ---- a process that may connect ----

fn connecting() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (child, output) = start(&["connecting", &target.local_addr().unwrap().to_string()]);
    let seen = results(child, output);
    for (probe, expected) in [("connect", "ok"), ("udp", "ok"), ("packet", EPERM), ("raw", EPERM), ("execve", EPERM)] {
        assert_eq!(seen.get(probe).map(String::as_str), Some(expected), "{probe}; all: {seen:#?}");
    }
    assert!(target.accept().is_ok());
}

fn connecting_child(target: SocketAddr) {
    Lockdown { calls: Calls::Connecting, ..Lockdown::default() }.apply().unwrap();
    probe("connect", TcpStream::connect(target));
    probe("udp", std::net::UdpSocket::bind("127.0.0.1:0"));
    probe("packet", Socket::new(Domain::PACKET, Type::DGRAM, None));
    probe("raw", Socket::new(Domain::IPV4, Type::RAW.cloexec(), None));
    probe("execve", Command::new("/bin/true").status());
}

// ---- too late ----

fn threads() {
    let (send, receive) = std::sync::mpsc::sync_channel::<()>(0);
    let thread = std::thread::spawn(move || receive.recv());
    let refused = Lockdown { calls: Calls::Decoys, ..Lockdown::default() }.apply();
    assert!(matches!(refused, Err(LockdownError::Threads(2))), "{refused:?}");
    drop(send);
    thread.join().unwrap().unwrap_err();
}

// ---- helpers ----

fn helper() {
    let mut helper = Helper::start(["helper"]).unwrap();
    helper.stream.write_all(b"ping").unwrap();
    let mut answer = [0; 8];
    helper.stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping 1 1");
    assert!(helper.ended().unwrap().is_none());
    assert!(helper.finish().unwrap().success());
    // Without a daemon above it, the helper says what it is.
    let output = Command::new("/proc/self/exe").arg("helper").stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by the daemon itself"), "{output:?}");
}

fn helper_child() {
    let known = reexec::is_helper();
    let mut stream = match reexec::inherited() {
        Ok(stream) => stream,
        Err(error) => return eprintln!("{error}"),
    };
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).unwrap();
    let stdin_is_empty = io::stdin().read(&mut [0]).unwrap() == 0;
    stream.write_all(&[&bytes[..], format!(" {} {}", u8::from(known), u8::from(stdin_is_empty)).as_bytes()].concat()).unwrap();
    // Ends when the parent closes its end.
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
}

fn orphan() {
    let (mut parent, mut output) = start(&["parent"]);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "helper is idle\n");
    parent.kill().unwrap();
    parent.wait().unwrap();
    // Both write ends of the pipe are closed only when the helper is gone too.
    assert_eq!(output.read_to_string(&mut line).unwrap(), 0);
}

fn parent_child() {
    let helper = Helper::start(["idle"]).unwrap();
    let _ = helper.finish();
}

/// Ignores its socket, so that only the parent's death can end it.
fn idle_child() {
    let _stream = reexec::inherited().unwrap();
    println!("helper is idle");
    loop {
        std::thread::park();
    }
}

// ---- a worker that comes back; last, for it locks this process down ----

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(1), healthy: Duration::from_secs(60) };

fn kept() {
    let keeper = Kept::start(["keeper"]).unwrap();
    Lockdown { calls: Calls::Decoys, ..Lockdown::default() }.apply().unwrap();
    assert!(Command::new("/bin/true").status().is_err(), "this process itself can start nothing");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let kept = Kept::adopt(keeper).unwrap();
        let mut pids = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut worker = kept.worker().await.unwrap();
            pids.insert(worker.read_u32().await.unwrap());
            worker.write_all(b"abort").await.unwrap();
            assert_eq!(worker.read(&mut [0]).await.unwrap_or(0), 0);
        }
        assert_eq!(pids.len(), 3, "each is a new process");
        let mut last = kept.worker().await.unwrap();
        last.read_u32().await.unwrap();
        // A worker that ends when its stream does; then the keeper ends too.
        drop(last);
        kept.finish().unwrap()
    });
    assert!(status.success());
}

fn worker_child() {
    let mut stream = reexec::inherited().unwrap();
    stream.write_all(&std::process::id().to_be_bytes()).unwrap();
    let mut order = [0; 5];
    if stream.read_exact(&mut order).is_ok() && &order == b"abort" {
        std::process::abort();
    }
}

// ---- plumbing ----

fn start(arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new("/proc/self/exe").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn results(mut child: Child, output: BufReader<ChildStdout>) -> BTreeMap<String, String> {
    let lines = output.lines().map_while(Result::ok);
    let seen = lines.filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
    assert!(child.wait().unwrap().success(), "{seen:#?}");
    seen
}

fn tell(name: &str, value: impl AsRef<str>) {
    println!("{name}={}", value.as_ref());
}

fn probe<T: Debug>(name: &str, result: io::Result<T>) {
    tell(
        name,
        result.map_or_else(|error| error.raw_os_error().map_or(error.to_string(), |code| format!("os {code}")), |_| "ok".to_owned()),
    );
}
