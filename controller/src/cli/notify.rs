//! `glasshive notify`

use super::Shell;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{plural, shown};
use serde_json::Value;

/// Send a test message over every channel of [notify], and say what happened to each
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive notify test

What is told: new findings at least min_severity bad, and what doctor calls wrong. Each matter
once; of a flood the first, then a count. In controller.toml:
  [notify]
  min_severity = \"high\"            nets = [\"dmz\"] for some only
  [notify.webhook]
  url = \"https://hooks.example.org/glasshive\"
  secret_file = \"/etc/glasshive/webhook.key\"
  [notify.syslog]
  address = \"10.99.0.5:6514\"
  transport = \"tls\"                udp, tcp or tls
  ca = \"/etc/glasshive/syslog-ca.pem\"

The webhook's body is JSON. X-Glasshive-Signature is sha256= and the HMAC-SHA-256 of
X-Glasshive-Timestamp, a dot and the body, by the key in secret_file.
Exit codes: 0 every channel took it, 1 one did not, 2 none is configured.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send a test message over every channel
    Test,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let Command::Test = args.command;
    let (items, _) = shell.all(Request::NotifyTest).await?;
    if items.is_empty() {
        return Err(Failure::usage("no channel is configured: add [notify.webhook] or [notify.syslog]; see glasshive notify --help"));
    }
    let mut failed = 0u64;
    for item in &items {
        let sent = item.get("sent") == Some(&Value::Bool(true));
        failed = failed.saturating_add(u64::from(!sent));
        if shell.out.json {
            shell.out.object(item)?;
        } else if sent {
            shell.out.line(&format!("{} to {}: sent", shown(item, "channel"), shown(item, "target")))?;
        } else {
            shell.out.line(&format!("{} to {}: FAILED: {}", shown(item, "channel"), shown(item, "target"), shown(item, "error")))?;
        }
    }
    if failed > 0 { Err(Failure::failed(format!("{} did not take the message", plural(failed, "channel")))) } else { Ok(()) }
}
