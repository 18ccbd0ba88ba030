//! `glasshive restore`

use super::Shell;
use crate::fail::Failure;
use std::path::PathBuf;

/// Put a backup into the state directory of a new host
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive restore /srv/backup/2026-11-29
  systemctl start glasshive-controller

The state directory must be empty; every file is held against the manifest, and a backup of a
newer version is refused. Copy DIR/controller.toml to /etc/glasshive yourself. When the host has
the address nodes know, they come back unaided and send again what they recorded since the backup.
The controller begins a new log of its own. A node revoked after the backup is let in again:
revoke it once more before you start the daemon.")]
pub(super) struct Args {
    /// Directory `glasshive backup` made
    #[arg(value_name = "DIR")]
    from: PathBuf,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let config = shell.config()?;
    let (from, state) = (args.from.clone(), config.state_dir.clone());
    let copied = tokio::task::spawn_blocking(move || crate::backup::restore(&from, &config)).await.map_err(Failure::failed)??;
    if shell.out.json {
        return shell.out.object(&serde_json::json!({"state_dir": state, "files": copied.files, "bytes": copied.bytes}));
    }
    shell.out.line(&format!("{} holds {} files, {} bytes", state.display(), copied.files, copied.bytes))?;
    shell.out.line(&format!(
        "Next: compare {} with {}, then start glasshive serve",
        args.from.join("controller.toml").display(),
        shell.config_path().display()
    ))
}
