//! `make bench`: what Glasshive costs and bears on this machine, beside a control measured in the same
//! run, and whether the budgets of the design are met. One file a benchmark, one line in [`BENCHES`].
//!
//! Every benchmark runs the real binaries on loopback or in namespaces, takes turns between subject,
//! controls and peers, and reports medians of its rounds; all samples go to `<out>/<name>.json`. A budget
//! that is not met is said, never an error: machines differ. What must fail a benchmark is a visit that
//! went wrong in a way it does not count.

mod clients;
mod control;
mod load;
mod machine;
mod measure;
mod peers;
pub mod records;
mod report;
mod subject;
mod traffic;
pub mod tree;

mod capture;
mod carve;
mod end_to_end;
mod first_bytes;
mod journal;
mod memory;
mod sessions;
mod store;

use anyhow::{Context as _, bail};
use measure::Measure;
use std::path::{Path, PathBuf};

/// A part of a benchmark that runs as a process of its own: what is measured must not share its
/// memory and CPU time with the visitors.
type Worker = (&'static str, fn(&[String]) -> crate::Result<()>);

/// One benchmark.
pub struct Bench {
    /// Its name, and that of its file.
    pub name: &'static str,
    /// What it measures, in one line.
    pub summary: &'static str,
    run: fn(&mut Run) -> crate::Result<()>,
    workers: &'static [Worker],
}

/// All benchmarks, in the order they run.
pub static BENCHES: [&Bench; 8] = [
    &memory::BENCH,
    &first_bytes::BENCH,
    &sessions::BENCH,
    &capture::BENCH,
    &carve::BENCH,
    &store::BENCH,
    &journal::BENCH,
    &end_to_end::BENCH,
];

/// Workers any benchmark may use.
static WORKERS: [Worker; 2] = [("tokio", control::tokio_worker), ("russh", control::russh_worker)];

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Small numbers and one round: shows that everything runs, says little about speed
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// The large numbers: ten million events in the controller's store, 2.5 GB of packets
    #[arg(long)]
    pub full: bool,
    /// Only this benchmark; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Rounds of subject and control [default: 5, quick: 1]
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Measure OpenCanary and Cowrie too, as tests/install-peers.sh installed them
    #[arg(long)]
    pub peers: bool,
    /// Where they were installed
    #[arg(long, default_value = "run/bench-peers", value_name = "DIR")]
    pub peers_dir: PathBuf,
    /// Where the results are written
    #[arg(long, default_value = "run/bench", value_name = "DIR")]
    pub out: PathBuf,
    /// List the benchmarks and end
    #[arg(long)]
    pub list: bool,
}

/// A benchmark at work: its settings, and what it has measured so far.
pub struct Run {
    /// Scratch directory, on the disk the results lie on.
    dir: PathBuf,
    options: Options,
    rounds: usize,
    runtime: tokio::runtime::Runtime,
    measures: Vec<Measure>,
    notes: Vec<String>,
}

impl Run {
    /// The measure of that name, made when there is none.
    fn measure(&mut self, name: &str, unit: &'static str) -> &mut Measure {
        let at = match self.measures.iter().position(|measure| measure.name == name) {
            Some(at) => at,
            None => {
                self.measures.push(Measure::new(name, unit));
                self.measures.len() - 1
            }
        };
        &mut self.measures[at]
    }

    /// A sentence for the reader, once.
    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// A number by the size of the run.
    fn pick(&self, quick: usize, usual: usize) -> usize {
        if self.options.quick { quick } else { usual }
    }

    /// The peers to measure.
    fn peers(&self) -> &'static [peers::Peer] {
        if self.options.peers { &peers::PEERS } else { &[] }
    }

    /// An empty directory of that name.
    fn fresh(&self, name: &str) -> crate::Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Runs the benchmarks asked for, writes their files and prints the table.
///
/// # Errors
/// When a benchmark could not measure; the others are still run and written.
pub fn run(options: &Options) -> crate::Result<()> {
    if options.list {
        for bench in BENCHES {
            println!("{:<12} {}", bench.name, bench.summary);
        }
        return Ok(());
    }
    if let Some(unknown) = options.only.iter().find(|name| !BENCHES.iter().any(|bench| bench.name == name.as_str())) {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no benchmark {unknown:?}; there are: {}", known.join(", "));
    }
    raise_descriptors();
    std::fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
    let scratch = Scratch::new(&options.out)?;
    let machine = machine::facts(&options.out);
    println!("{}", report::heading(&machine));
    let mut table = report::Table::default();
    let mut failed = Vec::new();
    for bench in BENCHES.iter().filter(|bench| options.only.is_empty() || options.only.iter().any(|name| name == bench.name)) {
        eprintln!("· {}: {}", bench.name, bench.summary);
        let load_before = machine::load();
        let mut run = Run {
            dir: scratch.0.clone(),
            options: options.clone(),
            rounds: options.rounds.unwrap_or(if options.quick { 1 } else { 5 }).max(1),
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
            measures: Vec::new(),
            notes: Vec::new(),
        };
        if let Err(error) = (bench.run)(&mut run) {
            eprintln!("  {}: {error:#}", bench.name);
            run.note(format!("did not finish: {error:#}"));
            failed.push(bench.name);
        }
        let loads = [load_before, machine::load()];
        report::write(&options.out, bench, &run, &machine, &loads)?;
        table.add(bench.name, &run.measures);
        table.notes(bench.name, &run.notes);
    }
    println!("{table}\nAll samples: {}", options.out.display());
    if failed.is_empty() { Ok(()) } else { bail!("could not measure: {}", failed.join(", ")) }
}

/// The hidden entry of a worker process.
///
/// # Errors
/// Whatever the worker says.
pub fn worker(name: &str, arguments: &[String]) -> crate::Result<()> {
    let all = WORKERS.iter().chain(BENCHES.iter().flat_map(|bench| bench.workers));
    let (_, run) = all.into_iter().find(|(known, _)| *known == name).with_context(|| format!("no worker {name:?}"))?;
    run(arguments)
}

/// Whose turn it is in a round: the subject, its control, or the peer of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Subject,
    Control,
    Peer(usize),
}

/// All turns of a round. Each round begins with another, so that nobody always finds the machine as
/// the same one left it.
fn turns(round: usize, peers: usize) -> Vec<Turn> {
    let mut all = vec![Turn::Subject, Turn::Control];
    all.extend((0..peers).map(Turn::Peer));
    let first = round % all.len();
    all.rotate_left(first);
    all
}

/// Thousands of connections need as many descriptors.
fn raise_descriptors() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// A directory that is gone when the run is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(out: &Path) -> crate::Result<Self> {
        let dir = out.canonicalize()?.join(format!("work-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
