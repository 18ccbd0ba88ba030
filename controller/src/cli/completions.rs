//! `glasshive completions`

use super::Shell;
use crate::fail::Failure;

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive completions bash > /etc/bash_completion.d/glasshive
  glasshive completions zsh > \"${fpath[1]}/_glasshive\"
  glasshive completions fish > ~/.config/fish/completions/glasshive.fish")]
pub(super) struct Args {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "glasshive", &mut text);
    shell.out.raw(&text)
}
