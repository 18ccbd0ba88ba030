//! What a session leaves in the controller's memory after it is over, with millions of them: they come as records over
//! the link from a node that has no visitors.
//!
//! While they come, memory goes up and down by tens of megabytes, since databases are filled and closed. So it is
//! judged at rest, when nothing has come for as long as the controller waits before it closes what it wrote, and by
//! what the controller says it has in use; what was seen under load is printed beside it.

use crate::growth::{Growth, blocks, growth, most};
use crate::{closes, connections, soak, turn};
use glasshive_link::client::{self, ClientConfig};
use glasshive_link::clock::SystemClock;
use glasshive_link::identity::IdentityDir;
use glasshive_link::{BlobPart, Block, BlockSource, LinkStatus, SourceClosed, SourceState};
use glasshive_tests::bench::records::{Node, SHORT, now_ns};
use glasshive_tests::bench::tree::Tree;
use glasshive_tests::process::until;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World};
use std::collections::VecDeque;
use std::future::{Future, ready};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longer than the controller takes between two times of giving memory back.
const REST: Duration = Duration::from_secs(12);
/// Looks at memory while records come, after the warm-up.
const POINTS: usize = 600;
/// Looks at memory at rest behind the one that ends the warm-up.
const RESTS: usize = 5;
/// Visits in a block: the store commits what of them waits together, and so much lies in its queues.
const BLOCK: u64 = 60;

/// A journal that makes its records when they are asked for, and keeps them until they are acknowledged.
struct Unwritten {
    made: Mutex<Made>,
    /// Visits there are to be by now.
    wanted: watch::Receiver<u64>,
}

struct Made {
    node: Node,
    visits: u64,
    /// Blocks made and not acknowledged.
    kept: VecDeque<Block>,
}

impl Unwritten {
    fn new(wanted: watch::Receiver<u64>) -> Self {
        Self { made: Mutex::new(Made { node: Node::new(1), visits: 0, kept: VecDeque::new() }), wanted }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Made) -> T) -> T {
        work(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Made {
    fn next(&self) -> u64 {
        self.visits * SHORT + 1
    }

    fn make(&mut self, wanted: u64) {
        let until = (self.visits + BLOCK).min(wanted);
        for n in self.visits..until {
            self.node.short_visit(n, now_ns()).unwrap();
        }
        self.visits = until;
        let batch = self.node.batch();
        let (first, last) = (batch.first, self.next() - 1);
        self.kept.push_back(Block { first, last, chain_before: batch.chain_before, bytes: batch.bytes });
    }
}

impl BlockSource for Unwritten {
    fn state(&self) -> impl Future<Output = Result<SourceState, SourceClosed>> + Send {
        ready(Ok(self.with(|made| {
            let first = made.kept.front().map_or(made.next(), |block| block.first);
            SourceState { log: made.node.log(), first, next: made.next(), chain: made.node.chain() }
        })))
    }

    async fn changed(&self, after: u64) -> Result<(), SourceClosed> {
        let more = |wanted: &u64| wanted * SHORT > after;
        self.wanted.clone().wait_for(more).await.map(drop).map_err(|_| SourceClosed)
    }

    fn read(&self, from: u64, _: usize) -> impl Future<Output = Result<Vec<Block>, SourceClosed>> + Send {
        let wanted = *self.wanted.borrow();
        ready(Ok(self.with(|made| {
            if from == made.next() && made.visits < wanted {
                made.make(wanted);
            }
            made.kept.iter().find(|block| block.last >= from).cloned().into_iter().collect()
        })))
    }

    fn acknowledged(&self, seq: u64) -> impl Future<Output = Result<(), SourceClosed>> + Send {
        self.with(|made| while made.kept.pop_front_if(|block| block.last <= seq).is_some() {});
        ready(Ok(()))
    }

    fn blob(&self, _: &str, _: u64, _: u32) -> impl Future<Output = Result<Option<BlobPart>, SourceClosed>> + Send {
        ready(Ok(None))
    }
}

/// How many databases in a directory are open.
fn open_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("READY").exists() && !path.join("CLEAN").exists()).count()
}

/// What a controller says it has in use, KiB, newest last: once whenever it gives memory back.
fn in_use(log: &str) -> Vec<u64> {
    let said = log.lines().filter_map(|line| line.split_once("in_use=")?.1.split_whitespace().next()?.parse::<u64>().ok());
    said.map(|bytes| bytes / 1024).collect()
}

/// Memory, KiB, of a controller that has closed all it closes when nothing comes: the summary, and of the log what it
/// does not write. Resident, when what was freed has gone back to the system; and in use.
fn at_rest(daemon: Tree, state: &Path, log: &Path) -> (u64, u64) {
    let closed = || (open_in(&state.join("summary")) == 0 && open_in(&state.join("log")) <= 1).then_some(());
    until("the databases are closed", LIMIT * 5, closed).unwrap();
    let resident = daemon.settled_kib(REST, 3 * REST);
    let said = || in_use(&std::fs::read_to_string(log).unwrap());
    let before = said().len();
    let newest = until("what is in use", LIMIT, || said().get(before).copied());
    (resident, newest.unwrap())
}

/// The memory of the controller over so many sessions, the first half of which warms up: detectors count up to 2 048
/// visits of each visitor. The full number is 3 000 000 (`GLASSHIVE_CONNECTIONS=100000`). Log segments are small, since
/// the one being written stays open at rest; much smaller, and what is known of each would count.
#[test]
fn a_session_leaves_nothing_at_the_controller() {
    let _turn = turn();
    let half = if soak() { 15 * connections() } else { (connections() / 4).max(POINTS) } as u64;
    let part = half / POINTS as u64;
    let (warm, total) = (half, half + part * POINTS as u64);
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: false, nets: &[("lab", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    let mut config = std::fs::File::options().append(true).open(world.dir.join("controller/controller.toml")).unwrap();
    config.write_all(b"[store]\nsegment = \"2MiB\"\n").unwrap();
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    let daemon = Tree(world.controller.as_ref().unwrap().pid());
    let state = world.dir.join("controller/state");
    let identity = IdentityDir::new(world.nodes[0].dir.join("state/identity"));
    let link = ClientConfig::new(identity, vec![format!("127.0.0.1:{}", world.controller_port())]);
    let (tell, mut status) = watch::channel(LinkStatus::default());
    let (want, wanted) = watch::channel(0);
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sending = runtime.spawn(client::run(link, Unwritten::new(wanted), Arc::new(SystemClock), tell, stop.clone()));
    let mut reached = |visits: u64| {
        let come = status.wait_for(|status| status.durable >= visits * SHORT);
        let come = runtime.block_on(async { tokio::time::timeout(LIMIT * 60, come).await.map(|come| come.map(drop)) });
        come.expect("the records come to the controller").expect("the link goes on");
    };
    let (mut points, mut rests, mut uses) = (Vec::new(), Vec::new(), Vec::new());
    let log = world.dir.join("controller/log.txt");
    let mut rest = |visits: u64| {
        // Minutes in all: at reduced numbers memory is not judged.
        if soak() {
            let (resident, used) = at_rest(daemon, &state, &log);
            println!("{visits} sessions, at rest: {:.1} MiB, {:.2} in use", resident as f64 / 1024.0, used as f64 / 1024.0);
            rests.push((visits as f64, resident as f64));
            uses.push((visits as f64, used as f64));
        }
    };
    let mut took = Duration::ZERO;
    for stretch in 0..=RESTS {
        let start = Instant::now();
        let every = POINTS / RESTS;
        let looks = if stretch == 0 { 0..=0 } else { (stretch - 1) * every + 1..=stretch * every };
        want.send(warm + part * *looks.end() as u64).unwrap();
        for look in looks {
            let visits = warm + part * look as u64;
            reached(visits);
            points.push((visits as f64, daemon.own_kib() as f64));
        }
        took += start.elapsed();
        rest(warm + part * (stretch * every) as u64);
    }
    until("the sessions at the controller", LIMIT * 2, || (closes(&world) >= total).then_some(())).unwrap();
    assert_eq!(closes(&world), total, "every session exactly once");
    stop.cancel();
    runtime.block_on(sending).unwrap();
    println!("controller: {total} sessions, {:.0} a second, the first {warm} warm up", total as f64 / took.as_secs_f64());
    if soak() {
        println!("all, KiB: {:?}", points.iter().map(|point| point.1 as u64).collect::<Vec<_>>());
    }
    for (what, points) in
        [("while they come", &points), ("means of 20 parts", &blocks(&points, 20)), ("at rest", &rests), ("in use at rest", &uses)]
    {
        println!("{what}: {}", shown(points));
    }
    // What is scattered among it makes resident memory go up and down by megabytes; what is in use is exact.
    assert!(!soak() || growth(&uses).middle < 1.0, "the controller keeps {:.2} B of every session: {uses:?}", growth(&uses).middle);
    assert!(!soak() || growth(&rests).bounds.0 < 1.0, "resident memory grows, {:.2} B a session: {rests:?}", growth(&rests).middle);
}

/// One line about points.
fn shown(points: &[(f64, f64)]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return "not looked at".to_owned() };
    let Growth { middle, bounds: (low, high) } = growth(points);
    let (first, last) = (first.1 / 1024.0, last.1 / 1024.0);
    format!("{middle:.2} B a session ({low:.2} to {high:.2}), {first:.1} to {last:.1} MiB, at most {:.1}", most(points))
}
