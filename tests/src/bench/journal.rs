//! A node's journal: records a second durable through group commit, how long one record waits until it
//! is (the exposure window), and the disk it takes.

use super::measure::{Budget, percentile};
use super::store::disk_use;
use super::{Bench, Run, records};
use crate::process::{binary, run_ok};
use anyhow::Context as _;
use glasshive_journal::{JournalConfig, JournalHandle, Pending};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "journal",
    summary: "a node's durable records a second and how long a record waits to be durable",
    run,
    workers: &[("journal", worker)],
};

/// Sessions that write at once.
const WRITERS: usize = 64;
/// Records the control writes between two syncs: the journal's group.
const GROUP: usize = 256;
/// Records whose wait is measured.
const WAITS: usize = 200;
/// Name of the control.
const FILE: &str = "bare file";

fn run(run: &mut Run) -> crate::Result<()> {
    let count = run.pick(2_000, 100_000);
    for _ in 0..run.rounds {
        let dir = run.fresh("journal")?;
        let mut worker = Command::new(binary("glasshive-lab")?);
        worker.arg("bench-worker").arg("journal").arg(&dir).arg(count.to_string());
        let said: Value = serde_json::from_str(&run_ok(worker, None, Duration::from_secs(600))?).context("the worker's answer")?;
        let number = |key: &str| said[key].as_f64().with_context(|| format!("the worker did not say {key}"));
        run.measure("durable records", "/s").subject(number("durable_per_s")?).beside(FILE, number("file_per_s")?);
        run.measure("one record until durable, p50", "ms").subject(number("wait_p50_ms")?).beside(FILE, number("file_p50_ms")?);
        let p99 = run.measure("one record until durable, p99", "ms");
        p99.subject(number("wait_p99_ms")?).beside(FILE, number("file_p99_ms")?).budget(Budget::AtMost(1000.0));
        run.measure("journal on disk", "B/record").subject(number("disk_per_record")?).beside(FILE, number("bytes_per_record")?);
    }
    run.note(format!("{WRITERS} writers, {count} records; the control appends the same bodies to a file and syncs after each {GROUP}, or after each one where one record waits"));
    Ok(())
}

/// `bench-worker journal DIR RECORDS`
fn worker(arguments: &[String]) -> crate::Result<()> {
    let [dir, count] = arguments else { anyhow::bail!("bench-worker journal DIR RECORDS") };
    let (dir, count) = (Path::new(dir), count.parse::<usize>()?);
    let config = JournalConfig { standalone: true, ..JournalConfig::new(dir.join("journal")) };
    let (journal, handle, _) = glasshive_journal::open(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let pendings = (0..count as u64).map(pending).collect::<crate::Result<Vec<_>>>()?;
    let bytes: usize = pendings.iter().map(|pending| pending.body.as_bytes().len()).sum();
    let mut file = File::create(dir.join("bare"))?;
    let start = Instant::now();
    for group in pendings.chunks(GROUP) {
        let block: Vec<u8> = group.iter().flat_map(|pending| pending.body.as_bytes().iter().copied()).collect();
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let bare = start.elapsed();
    let start = Instant::now();
    runtime.block_on(append(&handle, pendings))?;
    let durable = start.elapsed();
    let disk = disk_use(&dir.join("journal/log"));
    let (mut waits, mut file_waits) = (Vec::new(), Vec::new());
    for n in 0..WAITS.min(count) {
        let next = pending(n as u64)?;
        let start = Instant::now();
        file.write_all(next.body.as_bytes())?;
        file.sync_data()?;
        file_waits.push(start.elapsed().as_secs_f64() * 1000.0);
        let start = Instant::now();
        runtime.block_on(handle.append_durable(next))?;
        waits.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    drop(handle);
    journal.close()?;
    let rate = |took: Duration| count as f64 / took.as_secs_f64().max(1e-9);
    println!(
        "{}",
        json!({
            "durable_per_s": rate(durable),
            "file_per_s": rate(bare),
            "wait_p50_ms": percentile(&waits, 50.0),
            "wait_p99_ms": percentile(&waits, 99.0),
            "file_p50_ms": percentile(&file_waits, 50.0),
            "file_p99_ms": percentile(&file_waits, 99.0),
            "bytes_per_record": bytes as f64 / count.max(1) as f64,
            "disk_per_record": disk as f64 / count.max(1) as f64,
        })
    );
    Ok(())
}

fn pending(n: u64) -> crate::Result<Pending> {
    Ok(Pending { wall_ns: records::now_ns(), mono_ns: n, body: records::body(n)? })
}

/// Appends from many tasks; returns when all is durable.
async fn append(handle: &JournalHandle, pendings: Vec<Pending>) -> crate::Result<()> {
    let wanted = handle.durable().borrow().seq + pendings.len() as u64;
    let share = pendings.len().div_ceil(WRITERS).max(1);
    let mut pendings = pendings.into_iter();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let own: Vec<Pending> = pendings.by_ref().take(share).collect();
        if own.is_empty() {
            break;
        }
        let handle = handle.clone();
        tasks.spawn(async move {
            for pending in own {
                handle.append(pending).await?;
            }
            crate::Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    handle.durable().wait_for(|durable| durable.seq >= wanted).await?;
    Ok(())
}
