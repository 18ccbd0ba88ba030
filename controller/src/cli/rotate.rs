//! `glasshive rotate`

use super::Shell;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::shown;
use serde_json::Value;

/// Put another certificate authority in the place of this one, in three steps
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive rotate                                 where it stands, and who has not come back
  glasshive rotate distribute --reason 'yearly'    nodes get the new root beside the old one
  glasshive rotate reissue --reason 'yearly'       the new authority issues; nodes get certificates of it
  glasshive rotate drop --reason 'yearly'          the old root is trusted no more

Nodes go on sending in every step: they are handed roots and certificate over the link and come
back with them. A step made already changes nothing; the next one is refused until all nodes
have come back. With --force it is not: a node left behind must be enrolled anew. Tokens not
used before reissue are void.")]
pub(super) struct Args {
    /// distribute, reissue or drop; none = where it stands
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Why, for the audit event
    #[arg(long, value_name = "TEXT", default_value = "", requires = "step")]
    reason: String,
    /// Leave behind nodes that have not come back
    #[arg(long, requires = "step")]
    force: bool,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (items, _) = shell.all(Request::Rotate { step: args.step, reason: args.reason, force: args.force }).await?;
    let item = items.into_iter().next().unwrap_or(Value::Null);
    if shell.out.json {
        return shell.out.object(&item);
    }
    let list = |key: &str| {
        let list = item.get(key).and_then(Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().map(crate::screen::wire).collect::<Vec<_>>())
    };
    let next = match item.get("phase").and_then(Value::as_str) {
        Some("distributed") => "both roots are distributed; next: glasshive rotate reissue",
        Some("reissued") => "the new authority issues; next: glasshive rotate drop",
        _ => "one authority; to change it: glasshive rotate distribute",
    };
    let changed = if item.get("changed") == Some(&Value::Bool(true)) { "" } else { " (nothing was changed)" };
    shell.out.line(&format!("{}: {next}{changed}", shown(&item, "phase")))?;
    for (index, pin) in list("pins").iter().enumerate() {
        shell.out.line(&format!("  {}  {pin}", if index == 0 { "issues " } else { "trusted" }))?;
    }
    let behind = list("behind");
    if behind.is_empty() {
        return shell.out.line("  all nodes have come back since the last step");
    }
    shell.out.line(&format!("  not yet back since the last step: {}", behind.join(", ")))
}
