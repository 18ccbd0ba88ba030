//! Visitors that connect without pause and know what became of each try.

use crate::process::until;
use crate::world::{LIMIT, World};
use anyhow::Context as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// A persona with one raw port that answers, and no limit that a load from one address would meet.
pub const PERSONA: &str =
    "os = \"debian12\"\n[limits]\nper_source = 1000000\n[service.generic_tcp]\nports = [9100]\nidle_seconds = 60\nanswer = \"seen\"\n";

/// The answer of that persona.
const ANSWER: &[u8] = b"seen";

/// One visit that was carried through: connected, said something, was answered, saw the end.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// The visitor's port.
    pub port: u16,
    /// Before it connected, nanoseconds UTC.
    pub from_ns: i64,
    /// After it saw the end.
    pub to_ns: i64,
}

/// What all visitors of a load count together.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    hold: AtomicBool,
    tries: AtomicU64,
    done: AtomicU64,
    broken: AtomicU64,
}

impl Load {
    /// Tries so far, whatever came of them: the clock of a scenario that should not look at one.
    pub fn tries(&self) -> u64 {
        self.tries.load(Relaxed)
    }

    /// Visits carried through so far.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Tries that connected, or may have, and did not see the end.
    pub fn broken(&self) -> u64 {
        self.broken.load(Relaxed)
    }

    /// Waits for `count` more tries.
    pub fn wait(&self, count: u64) -> crate::Result<()> {
        let until = self.tries() + count;
        crate::process::until("tries of the visitors", Duration::from_secs(120), || (self.tries() >= until).then_some(()))
    }

    /// Lets no visitor begin while `held`: what is looked at in peace need not grow meanwhile.
    pub fn hold(&self, held: bool) {
        self.hold.store(held, Relaxed);
    }

    /// Tells the visitors to go.
    pub fn end(&self) {
        self.stop.store(true, Relaxed);
    }

    /// One visitor after another until told to end: what each of them did, in order.
    pub fn lane(&self, address: SocketAddr) -> crate::Result<Vec<Visit>> {
        let mut visits = Vec::new();
        while !self.stop.load(Relaxed) {
            if self.hold.load(Relaxed) {
                crate::process::pause();
                continue;
            }
            let from_ns = now()?;
            match visit(address) {
                Ok(port) => {
                    visits.push(Visit { port, from_ns, to_ns: now()? });
                    self.done.fetch_add(1, Relaxed);
                }
                Err(refused) => {
                    self.broken.fetch_add(u64::from(!refused), Relaxed);
                    // A port that answers with a reset would otherwise be asked without pause.
                    crate::process::pause();
                }
            }
            self.tries.fetch_add(1, Relaxed);
        }
        Ok(visits)
    }
}

/// At least `count` visits to that port of the first node's decoy, every one carried through; how many there were.
pub fn visits(world: &World, port: u16, count: u64) -> crate::Result<u64> {
    let (load, address) = (Load::default(), SocketAddr::new(world.nodes.first().context("a node")?.decoy, world.port(port)));
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| load.lane(address));
        let waited = until("visits", LIMIT, || (load.done() >= count).then_some(()));
        load.end();
        visitor.join().map_err(|_| anyhow::anyhow!("the visitor panicked"))??;
        waited
    })?;
    anyhow::ensure!(load.broken() == 0, "{} visits were cut", load.broken());
    Ok(load.done())
}

/// The wall clock, nanoseconds UTC.
pub fn now() -> crate::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("clock")?.as_nanos())?)
}

/// The port it came from; `Err(true)` when nobody was there.
fn visit(address: SocketAddr) -> Result<u16, bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(300)).map_err(|error| {
        // A connection that only timed out may still be answered later.
        error.kind() == std::io::ErrorKind::ConnectionRefused
    })?;
    let broken = |_| false;
    let port = stream.local_addr().map_err(broken)?.port();
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(broken)?;
    stream.write_all(format!("from port {port}\n").as_bytes()).map_err(broken)?;
    stream.shutdown(Shutdown::Write).map_err(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(broken)?;
    if answer == ANSWER { Ok(port) } else { Err(false) }
}
