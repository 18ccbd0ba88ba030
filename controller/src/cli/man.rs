//! `glasshive man`

use super::Shell;
use crate::fail::Failure;
use std::path::PathBuf;

/// Write manual pages, one a command
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive man -o /usr/local/share/man/man1
  glasshive man -o . && man ./glasshive-sessions.1")]
pub(super) struct Args {
    /// Directory to write to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.output)?;
    clap_mangen::generate_to(super::command(), &args.output)?;
    shell.out.line(&format!("manual pages are in {}", args.output.display()))
}
