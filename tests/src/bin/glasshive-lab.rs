//! `make run`, `make demo` and `make bench`: a controller and a decoy node on this machine, and clients.

use clap::{Parser, Subcommand};
use glasshive_tests::bench::{self, Options};
use std::path::PathBuf;
use std::process::ExitCode;

/// A lab on this machine: in namespaces with real ports as root, on loopback otherwise.
#[derive(Parser)]
#[command(name = "glasshive-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the lab, say what to try, and keep it until interrupted.
    Run {
        /// Where everything is written.
        #[arg(long, default_value = "run/lab")]
        out: PathBuf,
    },
    /// Start the lab, let real clients visit, review and export, compare, end.
    Demo {
        /// Where everything is written.
        #[arg(long, default_value = "run/demo")]
        out: PathBuf,
        /// Loopback even as root.
        #[arg(long)]
        loopback: bool,
    },
    /// Measure throughput, latency and memory beside a bare control; a JSON file a benchmark and one table.
    Bench(Options),
    /// Part of a benchmark that runs as a process of its own.
    #[command(hide = true)]
    BenchWorker {
        /// Which.
        name: String,
        /// What it is told.
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { out } => glasshive_tests::demo::run(&out),
        Command::Demo { out, loopback } => glasshive_tests::demo::demo(&out, loopback),
        Command::Bench(options) => bench::run(&options),
        Command::BenchWorker { name, arguments } => bench::worker(&name, &arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glasshive-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
