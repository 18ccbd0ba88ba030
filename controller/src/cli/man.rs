//! `glasshive man`

use super::Shell;
use crate::fail::Failure;
use crate::screen::plural;
use std::path::{Path, PathBuf};

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
    let mut root = super::command().disable_help_subcommand(true);
    root.build();
    let mut count = 0;
    write(&root, "glasshive", &args.output, &mut count)?;
    shell.out.line(&format!("{} in {}", plural(count, "page"), args.output.display()))
}

fn write(command: &clap::Command, name: &str, dir: &Path, count: &mut u64) -> Result<(), Failure> {
    let page = clap_mangen::Man::new(command.clone().name(name.to_owned())).title(name.to_uppercase());
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    std::fs::write(dir.join(format!("{name}.1")), bytes)?;
    *count += 1;
    command.get_subcommands().filter(|sub| sub.get_name() != "help").try_for_each(|sub| write(sub, &format!("{name}-{}", sub.get_name()), dir, count))
}
