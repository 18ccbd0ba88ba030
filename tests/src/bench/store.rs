//! The controller's store: records a second durable through group commit, and how long an analyst
//! waits for a list of them, asked of the running daemon with the real command.

use super::measure::{Budget, percentile};
use super::records::{EVENTS, Node, now_ns};
use super::tree::Tree;
use super::{Bench, Run};
use crate::process::{binary, run_ok};
use crate::world::{Dial, PERSONA, Plan, World};
use anyhow::{Context as _, ensure};
use glasshive_journal::store::{NodeBatch, StoreConfig, StoreHandle};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "store",
    summary: "the controller's durable records a second, list latency and memory at 1 M events (--full: 10 M)",
    run,
    workers: &[("store", worker)],
};

/// Nodes that send.
const NODES: u8 = 50;
/// Visits a batch: the link sends about 256 KiB, which is 500 to 700 events.
const BATCH: u64 = 50;
/// Name of the control.
const FILE: &str = "bare file";
const LISTS: [(&str, &[&str]); 6] = [
    ("sessions", &["sessions"]),
    ("sessions --service", &["sessions", "--service", "ftp"]),
    ("sessions --source", &["sessions", "--source", "198.18.64.0/20"]),
    ("credentials", &["credentials"]),
    ("stats", &["stats"]),
    ("nodes", &["nodes"]),
];
/// How long loading may take.
const LOADING: Duration = Duration::from_secs(1_800);

fn run(run: &mut Run) -> crate::Result<()> {
    let events = if run.options.full { 10_000_000 } else { run.pick(5_000, 1_000_000) };
    for _ in 0..run.rounds {
        let dir = run.fresh("store")?;
        let plan = Plan { dir: &dir, root: false, nets: &[("lab", Dial::Node)], persona: PERSONA, extra: "" };
        let mut world = World::prepare(&plan)?;
        let state = world.dir.join("controller/state");
        let mut load = Command::new(binary("glasshive-lab")?);
        load.arg("bench-worker").arg("store").arg(&state).arg(events.to_string());
        let said: Value = serde_json::from_str(&run_ok(load, None, LOADING)?).context("the loader's answer")?;
        let number = |key: &str| said[key].as_f64().with_context(|| format!("the loader did not say {key}"));
        let durable = run.measure("durable records", "/s");
        durable.subject(number("durable_per_s")?).beside(FILE, number("file_per_s")?).budget(Budget::AtLeast(50_000.0));
        // Nobody waits for the summary; it follows at this rate.
        run.measure("records in the summary", "/s").subject(number("settled_per_s")?);
        run.measure("log on disk", "B/record").subject(number("disk_per_record")?).beside(FILE, number("bytes_per_record")?);
        world.start_controller()?;
        lists(run, &world, events)?;
        let pid = world.controller.as_ref().context("the controller does not run")?.pid();
        let memory = run.measure(&format!("glasshive serve, {NODES} nodes, after the lists"), "MiB");
        memory.subject(Tree(pid).memory().resident_kib as f64 / 1024.0).budget(Budget::AtMost(512.0));
    }
    run.note(format!(
        "{NODES} nodes send {events} events in all, durable at once; the summary follows beside at its own rate, and `doctor` says how far it is behind; the control appends the same bytes to a file and syncs after each batch of {} events",
        BATCH as usize * EVENTS
    ));
    run.note("lists are whole commands, start of the program included; the control is a command that asks nothing (--version); budgets are for 10 M events".to_owned());
    Ok(())
}

fn lists(run: &mut Run, world: &World, events: usize) -> crate::Result<()> {
    let times = run.pick(3, 15);
    // The daemon says it serves before the summary is warm; an analyst's first list is measured too.
    for (name, words) in LISTS {
        let (mut asked, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..times {
            asked.push(timed(world.cli_command(words)?)?);
            let mut version = Command::new(binary("glasshive")?);
            version.arg("--version");
            bare.push(timed(version)?);
        }
        for (percent, label) in [(50.0, "p50"), (99.0, "slowest")] {
            let measure = run.measure(&format!("{name}, {events} events, {label}"), "ms");
            let of = |samples: &[f64]| percentile(samples, percent).unwrap_or(f64::INFINITY);
            measure.subject(of(&asked)).beside("--version", of(&bare)).budget(Budget::AtMost(100.0));
        }
    }
    Ok(())
}

/// Milliseconds a command takes; it must succeed.
pub(super) fn timed(mut command: Command) -> crate::Result<f64> {
    let start = Instant::now();
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// `bench-worker store DIR EVENTS`: fills a store, prints what it took.
fn worker(arguments: &[String]) -> crate::Result<()> {
    let [dir, events] = arguments else { anyhow::bail!("bench-worker store DIR EVENTS") };
    let (dir, visits) = (Path::new(dir), events.parse::<u64>()? / EVENTS as u64);
    std::fs::create_dir_all(dir)?;
    let (store, handle, _) = glasshive_journal::store::open(StoreConfig::new(dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut nodes: Vec<Node> = (1..=NODES).map(Node::new).collect();
    let file_path = dir.with_extension("bare");
    let mut file = File::create(&file_path)?;
    let day = 86_400_000_000_000;
    let begin = now_ns() - day;
    // All made before the first is appended: making them costs as much as storing them.
    let all = batches(&mut nodes, visits, |n| begin + n as i64 * (day / visits.max(1) as i64))?;
    let bytes: usize = all.iter().flatten().map(|batch| batch.bytes.len()).sum();
    let start = Instant::now();
    append_to_file(&mut file, &all)?;
    let bare = start.elapsed();
    let start = Instant::now();
    runtime.block_on(append(&handle, all))?;
    let durable = start.elapsed();
    runtime.block_on(handle.settled())?;
    let settled = start.elapsed();
    let total = (visits * EVENTS as u64).max(1) as f64;
    let disk = disk_use(&dir.join("log"));
    drop(handle);
    store.close();
    std::fs::remove_file(file_path)?;
    let rate = |took: Duration| total / took.as_secs_f64().max(1e-9);
    println!(
        "{}",
        json!({
            "durable_per_s": rate(durable),
            "settled_per_s": rate(settled),
            "file_per_s": rate(bare),
            "bytes_per_record": bytes as f64 / total,
            "disk_per_record": disk as f64 / total,
        })
    );
    Ok(())
}

/// Batches of each node.
fn batches(nodes: &mut [Node], visits: u64, at: impl Fn(u64) -> i64) -> crate::Result<Vec<Vec<NodeBatch>>> {
    let mut all: Vec<Vec<NodeBatch>> = nodes.iter().map(|_| Vec::new()).collect();
    let visits: Vec<u64> = (0..visits).collect();
    for (turn, some) in visits.chunks(BATCH as usize).enumerate() {
        let which = turn % nodes.len().max(1);
        let (Some(node), Some(list)) = (nodes.get_mut(which), all.get_mut(which)) else { break };
        for n in some {
            node.visit(*n, at(*n))?;
        }
        list.push(node.batch());
    }
    Ok(all)
}

/// All nodes at once, each waiting for the answer to a batch before it sends the next, as the link's server does.
async fn append(handle: &StoreHandle, chunk: Vec<Vec<NodeBatch>>) -> crate::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for batches in chunk {
        let handle = handle.clone();
        tasks.spawn(async move {
            for batch in batches {
                handle.append(batch).await?;
            }
            crate::Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The control: the same bytes, the nodes by turns, synced after each batch, since each is to be
/// acknowledged.
fn append_to_file(file: &mut File, all: &[Vec<NodeBatch>]) -> crate::Result<()> {
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    for turn in 0..longest {
        for batch in all.iter().filter_map(|batches| batches.get(turn)) {
            file.write_all(&batch.bytes)?;
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Bytes a directory occupies.
pub(super) fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_use(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}
