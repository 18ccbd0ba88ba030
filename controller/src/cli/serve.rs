//! `glasshive serve`

use super::Shell;
use crate::fail::Failure;
use glasshive_daemon::shutdown::{Notifier, Shutdown};
use glasshive_daemon::telemetry::{self, Format};

/// Run the controller: take in nodes' records, answer questions
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive serve
  glasshive serve --config ./controller.toml --state-dir ./state --socket ./controller.sock
  GLASSHIVE_LOG=debug glasshive serve

The first start makes the controller's certificate authority and sealing key in
STATE/identity: back that directory up, nothing sealed can be read without it.
SIGTERM drains and stops; a second one stops at once.")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, shell: &mut Shell) -> Result<(), Failure> {
    let config = shell.config()?;
    let format = if shell.out.json { Format::Json } else { Format::Text };
    telemetry::init(format, "info").map_err(Failure::usage)?;
    let notifier = Notifier::from_environment();
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let running = notifier.starting(crate::serve::start(config, shutdown.clone())).await?;
    notifier.ready(&format!("listening on {}", running.listen));
    notifier.watch(&shutdown, || running.is_alive()).await;
    notifier.stopping();
    running.stop().await
}
