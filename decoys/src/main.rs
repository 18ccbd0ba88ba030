//! `glasshive-decoys`: see `--help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    glasshive_journal::build::pretend(option_env!("GLASSHIVE_TEST_STAMP"));
    glasshive_daemon::memory::give_back();
    glasshive_decoys::cli::main(glasshive_decoys::cli::Cli::parse())
}
