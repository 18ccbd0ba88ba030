//! `glasshive revoke`

use super::Shell;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::shown;
use serde_json::Value;

/// Shut a node out: its connections end at once, its certificates and tokens are void
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive revoke edge-1 --reason 'host rebuilt'
  glasshive enroll edge-1 --net dmz --role decoys    to let it back in, with a new log

What it recorded stays and stays verifiable.")]
pub(super) struct Args {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// Why, for the audit event
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (items, _) = shell.all(Request::Revoke { node: args.node, reason: args.reason }).await?;
    let item = items.into_iter().next().unwrap_or(Value::Null);
    if shell.out.json {
        return shell.out.object(&item);
    }
    let yes = |key: &str| item.get(key) == Some(&Value::Bool(true));
    let then = match (yes("was_connected"), yes("serving")) {
        (true, _) => "its connections were cut",
        (false, true) => "it was not connected",
        (false, false) => "the daemon is down, so it was not connected",
    };
    shell.out.line(&format!("node {} is revoked; {then}", shown(&item, "node")))
}
