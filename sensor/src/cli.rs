//! The command line.

use crate::commands::{carve, ring};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// The packet sensor of Glasshive: keeps every packet of an interface in a ring on disk, says what
/// flowed and what it means, and gives packets out again.
#[derive(Debug, Parser)]
#[command(
    name = "glasshive-sensor",
    version = glasshive_journal::build::long_version(),
    max_term_width = 100,
    after_help = "Begin with:
  glasshive-sensor check                          is the configuration good?
  glasshive-sensor run                            capture until told to stop
  glasshive-sensor ring                           what is in the ring?
  glasshive-sensor read --json a.pcapng           what does a capture file hold?
  glasshive-sensor carve --since 1h --host 10.0.0.5 --out a.pcapng
Exit codes: 0 done, 1 failed, 2 wrong usage, 5 verification failed,
7 the journal is of a newer version."
)]
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
    /// Capture until SIGTERM or SIGINT
    Run,
    /// Check the configuration and print what it means
    Check,
    /// Analyse capture files: flows, what was seen, findings, and a summary
    Read(crate::read::Options),
    /// Take packets out of the ring, in order of time, beside the running sensor
    Carve(Box<carve::Arguments>),
    /// Show the packet ring, or verify it
    Ring(ring::Arguments),
    /// This node's identity towards its controller
    #[command(subcommand)]
    Identity(Identity),
    /// Print shell completions
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write man pages to a directory
    Man {
        /// Directory
        directory: PathBuf,
    },
    /// Keeps the link's process alive; started by `run`
    #[command(hide = true)]
    LinkKeeper,
    /// The link's own process; started by its keeper
    #[command(hide = true)]
    LinkHelper,
}

/// Commands on the node's identity.
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Join online with the one-time token that `glasshive enroll NODE` printed
    Join {
        /// File whose first line is the token; `-` is standard input. A token given as an argument is refused: every
        /// user of this host could read it
        #[arg(value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// Address and port of the controller [default: `link.controller`]
        #[arg(long, value_name = "HOST:PORT")]
        controller: Option<String>,
    },
    /// Make a key and print a certificate request, for `glasshive enroll --sign FILE`
    Request,
    /// Install the bundle that `glasshive enroll --sign` printed (from standard input)
    Install,
    /// Show who this node is
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
