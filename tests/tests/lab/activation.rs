//! The decoys as a service manager starts them: sockets handed over, an ordinary user, no capability
//! at all, and the entry's rules loaded by somebody else.

use super::{root, turn};
use glasshive_daemon::net::{TcpOptions, UdpOptions, bind_udp, listen_tcp};
use glasshive_tests::process::{Daemon, binary, run_ok};
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A user that is nobody's.
const USER: u32 = 61_234;

/// Hands the descriptors over as systemd does: from 3 on, named by LISTEN_FDS and LISTEN_PID, to a
/// process of another user without capabilities.
fn handed(world: &World, sockets: &[OwnedFd]) -> Daemon {
    // Above all the shell is to move them to, so that no move overwrites one that is still to come.
    let kept: Vec<OwnedFd> = sockets.iter().map(|socket| rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap()).collect();
    let mut moves = String::new();
    for (index, socket) in kept.iter().enumerate() {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
        moves.push_str(&format!("exec {}<&{} {}<&-\n", index + 3, socket.as_raw_fd(), socket.as_raw_fd()));
    }
    let node = &world.nodes[0];
    let script = format!(
        "{moves}exec 99<{:?}\nexport LISTEN_FDS={} LISTEN_PID=$$\nexec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- /proc/self/fd/99 --config {:?} run",
        // By its descriptor: this user may not be allowed to walk to where it was built.
        binary("glasshive-decoys").unwrap(),
        kept.len(),
        node.dir.join("decoys.toml"),
    );
    let mut command = world.lab.as_ref().unwrap().inside("n1", Path::new("bash"));
    command.args(["-c", &script]);
    Daemon::start("the handed daemon", command, &node.dir.join("log.txt")).unwrap()
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| own(&entry.unwrap().path()));
    }
}

#[test]
fn handed_sockets_serve_without_a_capability() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let plan = Plan { dir: dir.path(), root: true, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    let rules = run_ok(world.decoys(0, &["check", "--nft"]).unwrap(), None, LIMIT).unwrap();
    let unit = run_ok(world.decoys(0, &["check", "--socket"]).unwrap(), None, LIMIT).unwrap();
    for line in [
        "ListenStream=127.0.0.1:7400",
        "ListenStream=[::1]:7400",
        "ListenDatagram=0.0.0.0:53",
        "ListenDatagram=[::]:53",
        "Transparent=yes",
        "FreeBind=yes",
    ] {
        assert_eq!(unit.lines().filter(|one| *one == line).count(), 1, "{line}:\n{unit}");
    }
    let lab = world.lab.as_ref().unwrap();
    let mut nft = lab.inside("n1", Path::new("nft"));
    nft.args(["-f", "-"]);
    run_ok(nft, Some(rules.as_bytes()), LIMIT).unwrap();
    // What the unit's lines make systemd open, in its order.
    let (tcp, udp) = (TcpOptions { transparent: true, ..TcpOptions::default() }, UdpOptions { transparent: true, ..UdpOptions::default() });
    let sockets: Vec<OwnedFd> = lab
        .enter("n1", || {
            let mut all = Vec::new();
            for line in unit.lines() {
                if let Some(address) = line.strip_prefix("ListenStream=") {
                    all.push(OwnedFd::from(listen_tcp(address.parse()?, &tcp)?));
                } else if let Some(address) = line.strip_prefix("ListenDatagram=") {
                    all.push(OwnedFd::from(bind_udp(address.parse()?, &udp)?));
                }
            }
            Ok(all)
        })
        .unwrap();
    assert_eq!(sockets.len(), 4);
    own(&world.nodes[0].dir);
    let mut daemon = handed(&world, &sockets);
    daemon.wait_for("listening with", LIMIT).unwrap();
    assert!(!daemon.output().contains("standalone"), "{}", daemon.output());

    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}:\n{status}")).trim();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(set), 16).unwrap(), 0, "{set}");
    }
    assert!(field("Uid:").split_whitespace().all(|uid| uid == USER.to_string()));

    let visitor = Visitor::new(&world, 0);
    visitor.http(false, "/", &[]).unwrap();
    // Both families, both transports, and a data connection on a port nobody handed over.
    for words in [
        ["curl", "-sS", "-g", "--noproxy", "*", "--max-time", "20", "-o", "/dev/null", "http://[fd00:66:1::10]/"].as_slice(),
        &["dig", "+tries=1", "+time=10", "@10.66.1.10", "web-01.corp.example", "A"],
        &["dig", "+tries=1", "+time=10", "@fd00:66:1::10", "web-01.corp.example", "A"],
        &["curl", "-sS", "--noproxy", "*", "--max-time", "20", "--user", "deploy:Summer2026!", "-o", "/dev/null", "ftp://10.66.1.10/"],
    ] {
        let mut visit = world.visitor(0, words[0]).unwrap();
        visit.args(&words[1..]);
        run_ok(visit, None, LIMIT).unwrap_or_else(|error| panic!("{words:?}: {error:#}\n{}", daemon.output()));
    }
    let sessions = world.wait_sessions(3, LIMIT).unwrap();
    let sources: std::collections::BTreeSet<_> = sessions.iter().filter_map(|one| one["source"]["ip"].as_str()).collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["10.66.1.100", "fd00:66:1::100"], "original addresses: {sessions:?}");
    assert!(sessions.iter().any(|one| one["service"] == "dns" && one["transport"] == "udp"), "{sessions:?}");
    assert_eq!(daemon.stop(LIMIT), Some(0));
    // The next one gets the same sockets.
    let mut daemon = handed(&world, &sockets);
    daemon.wait_for("listening with", LIMIT).unwrap();
    visitor.http(false, "/again", &[]).unwrap();
    world.wait_sessions(4, LIMIT).unwrap();
}
