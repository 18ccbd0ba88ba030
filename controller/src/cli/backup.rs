//! `glasshive backup`

use super::Shell;
use crate::client::Client;
use crate::desk::Operator;
use crate::fail::Failure;
use std::path::PathBuf;

/// Copy everything this controller is into a directory: identity, log, files, configuration
#[derive(clap::Args)]
#[command(after_help = "Examples:
  systemctl stop glasshive-controller
  runuser -u glasshive -- glasshive backup /srv/backup/2026-11-29
  systemctl start glasshive-controller

The daemon must be stopped: nodes keep what they record meanwhile and bring it afterwards. The
copy holds the certificate authority and the sealing key in clear, readable for its owner only
(directories 0700, files 0600): keep it as private, for instance with
  tar c DIR | age -r age1… > FILE
Not in it: other files controller.toml names (segment lists, keys of channels).")]
pub(super) struct Args {
    /// Directory to make
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (config, config_path) = (shell.config()?, shell.config_path());
    // Opened and closed once: whatever a crash left is mended, and the audit is in the copy.
    let client = Client::open(config.clone()).await?;
    if let Client::Daemon(socket) = &client {
        return Err(Failure::refused(format!(
            "the daemon answers at {}: stop it for the backup; nodes keep what they record meanwhile",
            socket.display()
        )));
    }
    let audited = client.audit(&Operator::this_process(), "backup", &args.to.display().to_string()).await;
    client.close().await?;
    audited?;
    let to = args.to.clone();
    let copied = tokio::task::spawn_blocking(move || crate::backup::save(&config, &config_path, &to)).await.map_err(Failure::failed)??;
    if shell.out.json {
        return shell.out.object(&serde_json::json!({"backup": args.to, "files": copied.files, "bytes": copied.bytes}));
    }
    shell.out.line(&format!(
        "{} holds {} files, {} bytes; keep it private: the keys are in it",
        args.to.display(),
        copied.files,
        copied.bytes
    ))
}
