//! The command line.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// The packet sensor of Glasshive. In this build packet capture is not included: `run` starts and
/// records nothing, `check` checks the configuration, `read` analyses capture files, the other commands
/// say that they are missing.
#[derive(Debug, Parser)]
#[command(name = "glasshive-sensor", version)]
pub struct Cli {
    /// Configuration file [default: /etc/glasshive/sensor.toml]
    #[arg(long, global = true, env = "GLASSHIVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State directory, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the sensor and wait for SIGTERM or SIGINT (captures nothing in this build)
    Run,
    /// Check the configuration and print what it means
    Check,
    /// Analyse capture files: flows, what was seen, findings, and a summary
    Read(crate::read::Options),
    /// Show the packet ring (not in this build)
    Ring,
    /// Make or install this node's identity (not in this build)
    Identity,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
