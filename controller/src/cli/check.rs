//! `glasshive check`

use super::Shell;
use crate::config::{Vantage, describe};
use crate::fail::Failure;
use serde_json::json;

/// Check the configuration and print what it means
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive check
  glasshive check --config ./controller.toml

A net must say vantage, owner, purpose, legal_basis and retention:
  [net.dmz]
  vantage = \"edge\"
  owner = \"security@example.org\"
  purpose = \"early warning\"
  legal_basis = \"legitimate interest, DPIA 12\"
  retention = \"90d\"
  segment = \"/etc/glasshive/dmz.segment\"    optional: glasshive-decoys check --segment > FILE")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, shell: &mut Shell) -> Result<(), Failure> {
    let config = shell.config()?;
    let path = shell.config_path();
    crate::fusion::Settings::of(&config)?;
    crate::notify::wanted(&config.notify)?;
    if shell.out.json {
        let nets: Vec<_> = config
            .net
            .iter()
            .map(|(name, net)| {
                let vantage = if net.vantage == Vantage::Inside { "inside" } else { "edge" };
                json!({"net": name, "vantage": vantage, "owner": net.owner, "purpose": net.purpose, "legal_basis": net.legal_basis,
                    "retention": net.retention.to_string(), "pause_criteria": net.pause_criteria})
            })
            .collect();
        let value = json!({"file": path, "state_dir": config.state_dir, "listen": config.listen.to_string(), "socket": config.socket, "nets": nets});
        return shell.out.object(&value);
    }
    describe(&config, &path).iter().try_for_each(|line| shell.out.line(line))
}
