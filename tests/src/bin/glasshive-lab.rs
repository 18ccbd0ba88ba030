//! `make run` and `make demo`: a controller and a decoy node on this machine, and real clients.

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { out } => glasshive_tests::demo::run(&out),
        Command::Demo { out, loopback } => glasshive_tests::demo::demo(&out, loopback),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glasshive-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
