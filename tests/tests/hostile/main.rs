//! Visitors who mean harm: scanners, hundreds of slow ones, half-open handshakes, lines and uploads
//! without end, thousands of channels. Every connection they make is a session with a beginning and an
//! end, a good visitor beside them is served, memory stays bounded, and the node comes to rest. How
//! long the good visitor waits is printed, not judged: machines differ. Needs root and the programs of
//! `tests/install.sh test`; `GLASSHIVE_CONNECTIONS=100000`, as in `make soak`, gives the full numbers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attacks;
mod syn;

use attacks::{ATTACKS, Attack};
use glasshive_tests::bench::tree::Tree;
use glasshive_tests::lab::Lab;
use glasshive_tests::process::{pause, until};
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World, is_root_tcp};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether the full numbers are asked for.
fn full() -> bool {
    std::env::var("GLASSHIVE_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(0) >= 100_000
}

/// The most the decoys process may hold, KiB. Idle it holds a tenth of that; the sum of the bounds of
/// what the visitors here can open is well below.
const MOST_KIB: u64 = 256 << 10;

/// The host all of them visit.
const DECOY: Ipv4Addr = Ipv4Addr::new(10, 66, 1, 10);
/// The good visitor's address.
const GOOD: Ipv4Addr = Ipv4Addr::new(10, 66, 1, 101);

/// Address of the attack of that number: all its connections come from there.
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 1, 110 + u8::try_from(number).unwrap())
}

/// Where everything happens.
struct Ground {
    world: World,
    _dir: tempfile::TempDir,
}

impl Ground {
    fn new(persona: &str) -> Self {
        assert!(Lab::possible(), "this scenario needs root and the programs of tests/install.sh test");
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { dir: dir.path(), root: true, nets: &[("alpha", Dial::Node)], persona, extra: "" };
        let world = World::start(&plan).unwrap();
        let lab = world.lab.as_ref().unwrap();
        for address in std::iter::once(GOOD).chain((0..ATTACKS.len()).map(source)) {
            lab.ip("v1", &["addr", "add", &format!("{address}/24"), "dev", "eth0"]).unwrap();
        }
        Self { world, _dir: dir }
    }

    /// Runs on the visitors' host.
    fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.world.lab.as_ref().unwrap().enter("v1", || Ok(work())).unwrap()
    }

    fn node(&self) -> Tree {
        Tree(self.world.nodes[0].daemon.as_ref().unwrap().pid())
    }

    /// Events of that kind at the controller.
    fn events(&self, kind: &str) -> u64 {
        let nodes = self.world.cli(&["nodes", "--json"]).unwrap();
        let node: serde_json::Value = serde_json::from_str(nodes.lines().find(|line| line.contains("\"node1\"")).unwrap()).unwrap();
        assert_eq!(node["gap_count"], 0, "{node}");
        assert_eq!(node["loss_count"], 0, "{node}");
        node["events"][kind].as_u64().unwrap_or(0)
    }
}

/// A connection from an address of the visitors' host.
fn connect(from: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((DECOY, port)).into(), Duration::from_secs(20))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The good visitor hears the banner and says goodbye, again and again, so often at least and until all
/// is `done`; milliseconds to the first byte. He must be served every time, and says when he was often
/// enough.
fn good_visits(least: usize, done: &AtomicBool, enough: &AtomicBool) -> Vec<f64> {
    let mut waited = Vec::new();
    while waited.len() < least || !done.load(Ordering::Relaxed) {
        // A visitor, not a load.
        pause();
        let start = Instant::now();
        let mut stream = connect(GOOD, 21).expect("the good visitor is let in");
        let mut bytes = [0; 256];
        let read = stream.read(&mut bytes).expect("the good visitor hears something");
        waited.push(start.elapsed().as_secs_f64() * 1000.0);
        assert!(bytes[..read].starts_with(b"220"), "{:?}", String::from_utf8_lossy(&bytes[..read]));
        stream.write_all(b"QUIT\r\n").unwrap();
        while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
        if waited.len() >= least {
            enough.store(true, Ordering::Relaxed);
        }
    }
    waited
}

fn p99(waited: &[f64]) -> f64 {
    let mut sorted = waited.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

/// Waits until node and link use less than 2 % of a core for a second; how long until then.
fn at_rest(tree: Tree) -> Duration {
    let start = Instant::now();
    let (mut spent, mut since) = (tree.cpu_ms(), Instant::now());
    until("the node at rest", LIMIT, || {
        if since.elapsed() < Duration::from_secs(1) {
            return None;
        }
        let now = tree.cpu_ms();
        let busy = (now - spent) / since.elapsed().as_secs_f64() / 10.0;
        (spent, since) = (now, Instant::now());
        (busy < 2.0).then_some(())
    })
    .unwrap();
    start.elapsed()
}

fn withstand(name: &str, persona: &str) {
    // Where it is measured, one after the other.
    let _turn = full().then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let ground = Ground::new(persona);
    let visits = if full() { 2_000 } else { 50 };
    at_rest(ground.node());
    let idle = ground.outside(|| good_visits(visits, &AtomicBool::new(true), &AtomicBool::new(false)));
    println!("{name}: good visitor alone: p99 {:.2} ms, the decoys process {} KiB", p99(&idle), ground.node().own_kib());
    let mut made = BTreeMap::from([(GOOD, idle.len())]);
    for (number, Attack { name: attack, run }) in ATTACKS.iter().enumerate() {
        let (done, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        let (ground, done, enough) = (&ground, &done, &enough);
        let (connections, waited) = std::thread::scope(|scope| {
            let good = scope.spawn(move || ground.outside(move || good_visits(visits, done, enough)));
            // A good visitor who was not served is waited for by nobody.
            let connections = run(ground, source(number), &|| enough.load(Ordering::Relaxed) || good.is_finished());
            done.store(true, Ordering::Relaxed);
            (connections, good.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let kib = ground.node().own_kib();
        let rest = at_rest(ground.node());
        println!(
            "{name}: {attack}: {}, good visitor {} visits, p99 {:.2} ms = {:.1} x idle; decoys {kib} KiB; at rest after {:.1} s",
            connections.map_or_else(|| "connections uncounted".to_owned(), |count| format!("{count} connections")),
            waited.len(),
            p99(&waited),
            p99(&waited) / p99(&idle),
            rest.as_secs_f64(),
        );
        assert!(kib < MOST_KIB, "{attack}: the decoys process holds {kib} KiB");
        *made.get_mut(&GOOD).unwrap() += waited.len();
        if let Some(connections) = connections {
            made.insert(source(number), connections);
        }
    }
    // Nothing goes on any more, so everything that began has ended, and all of it is at the controller.
    let mut last = String::new();
    let sessions = until("an end of every session", LIMIT * 2, || {
        let sessions = ground.world.sessions().ok()?;
        let open = sessions.iter().filter(|session| session["close"].is_null()).count();
        let mut found: BTreeMap<Ipv4Addr, usize> = made.keys().map(|from| (*from, 0)).collect();
        for session in sessions.iter().filter(|session| is_root_tcp(session)) {
            let from = session["source"]["ip"].as_str()?.parse().ok()?;
            found.entry(from).and_modify(|count| *count += 1);
        }
        last = format!("{open} without an end; by source {found:?}, made {made:?}");
        (open == 0 && found == made).then_some(sessions.len())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last}"));
    assert_eq!(ground.events("session.open"), ground.events("session.close"));
    let log = ground.world.nodes[0].daemon.as_ref().unwrap().output();
    assert!(!log.contains("panic"), "{log}");
    println!("{name}: {sessions} sessions, all begun and ended; none lost");
}

/// Limits above the load: everybody is served.
#[test]
fn with_room_for_all() {
    withstand("room for all", &format!("{PERSONA}\n[limits]\nper_source = 100000\n"));
}

/// The limits a persona has when it says nothing: whoever is over them is closed, and recorded.
#[test]
fn at_the_limits_of_a_persona() {
    withstand("persona limits", PERSONA);
}
