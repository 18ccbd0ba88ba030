//! `glasshive-decoys`: see `--help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    glasshive_decoys::cli::main(glasshive_decoys::cli::Cli::parse())
}
