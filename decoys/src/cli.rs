//! The command line of the decoys daemon.

use crate::app::{self, App};
use crate::config;
use crate::persona::file::load_all;
use crate::services::SERVICES;
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use glasshive_daemon::shutdown::Shutdown;
use glasshive_daemon::telemetry;
use glasshive_journal::JournalError;
use glasshive_link::host::IdentityCommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// Decoy hosts that record every visitor. Starts nothing towards the outside but the link to its controller.
#[derive(Parser)]
#[command(
    name = "glasshive-decoys",
    version = glasshive_journal::build::long_version(),
    about,
    max_term_width = 100,
    after_help = "Begin with:
  glasshive-decoys check                      is everything plausible and bindable?
  glasshive-decoys identity join              become a node: asks for the token of `glasshive enroll`
  glasshive-decoys run                        serve until told to stop
  glasshive-decoys wall                       beside it: tell it how the wall stands and what it drops
As root, visitors reach the decoys' own addresses and ports through nftables and TPROXY; as an ordinary
user every decoy listens on loopback, on its ports + 20000 (ssh on 20022).
Exit codes: 0 done, 1 failed, 2 wrong usage, 7 the journal is of a newer version."
)]
pub struct Cli {
    /// Configuration file.
    #[arg(long, env = "GLASSHIVE_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Directory of journal, identity and keys (default: `state_dir` of the configuration).
    #[arg(long)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the configured decoys until told to stop.
    Run,
    /// Read what the wall drops and whether it stands, for the daemon (needs CAP_NET_ADMIN, nothing else).
    ///
    /// Runs beside `run`, as a service of its own. It hands dropped packets (NFLOG) and, once a second, the state of
    /// the wall's table to the daemon's socket, and changes nothing. Keys: [wall] group, table, hooks, hash_file, socket.
    Wall {
        /// Print the SHA-256 of the table's chains and rules as they are loaded now, for the file of [wall] hash_file, and end.
        #[arg(long)]
        hash: bool,
    },
    /// Read configuration and personas, build every service, and say what would be open.
    Check {
        /// Print the nftables rules of the transparent entry.
        #[arg(long)]
        nft: bool,
        /// Print the systemd socket unit that hands the entry's sockets to a daemon without capabilities.
        #[arg(long, conflicts_with_all = ["nft", "segment"])]
        socket: bool,
        /// Print the segment list for the sensor: what is open where, without names (TOML, version 1).
        #[arg(long, conflicts_with = "nft")]
        segment: bool,
    },
    /// List the services a persona can offer.
    Services {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List the personas of the persona directory.
    Personas {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// The node's identity towards its controller.
    #[command(subcommand)]
    Identity(Identity),
    /// Print shell completions.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Write man pages to a directory.
    Man {
        /// Directory.
        directory: PathBuf,
    },
    /// Keeps the link's process alive; started by `run`.
    #[command(hide = true)]
    LinkKeeper,
    /// The link's own process; started by its keeper.
    #[command(hide = true)]
    LinkHelper,
}

#[derive(Subcommand)]
enum Identity {
    /// Join online with the one-time token that `glasshive enroll NODE` printed.
    Join {
        /// File whose first line is the token; `-` is standard input. A token given as an argument is refused: every
        /// user of this host could read it.
        #[arg(value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// Address and port of the controller (default: `link.controller`).
        #[arg(long, value_name = "HOST:PORT")]
        controller: Option<String>,
    },
    /// Make a key and print a certificate request, for `glasshive enroll --sign FILE`.
    Request,
    /// Install the bundle that `glasshive enroll --sign` printed (from standard input).
    Install,
    /// Show who this node is.
    Show,
}

/// Runs the command line.
pub fn main(cli: Cli) -> ExitCode {
    if let Err(error) = telemetry::init(telemetry::Format::Text, "warn,glasshive=info") {
        eprintln!("glasshive-decoys: {error}");
        return ExitCode::FAILURE;
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glasshive-decoys: {error:#}");
            ExitCode::from(error.downcast_ref::<JournalError>().map_or(1, JournalError::exit_code))
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let load = || config::load(&cli.config, cli.state_dir.as_deref());
    // What writes keys and records.
    let own = || {
        let config = load()?;
        let user = config.isolation.user()?;
        glasshive_daemon::state::refuse_for_another(&config.state_dir, user.is_some()).map_err(anyhow::Error::msg)?;
        anyhow::Ok(config)
    };
    match cli.command {
        Command::Run => {
            let app = App::prepare(own()?, &cli.config)?;
            runtime()?.block_on(async {
                let shutdown = Shutdown::new();
                shutdown.on_signals().context("listening for signals")?;
                app.run(shutdown).await
            })
        }
        Command::Wall { hash: true } => {
            println!("{}", crate::wall::reader::hash(&load()?.wall.unwrap_or_default())?);
            Ok(())
        }
        Command::Wall { hash: false } => crate::wall::reader::run(&load()?, &cli.config),
        Command::Check { nft, socket, segment } => check(&own()?, nft, socket, segment),
        Command::Services { json } => {
            services(json);
            Ok(())
        }
        Command::Personas { json } => personas(&load()?, json),
        Command::Identity(command) => {
            let config = load()?;
            let command = match command {
                Identity::Join { from, controller } => IdentityCommand::Join { from, controller },
                Identity::Request => IdentityCommand::Request { node: config.node.clone() },
                Identity::Install => IdentityCommand::Install,
                Identity::Show => IdentityCommand::Show,
            };
            Ok(config.host(&cli.config).identity(command)?)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "glasshive-decoys", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { directory } => {
            std::fs::create_dir_all(&directory)?;
            clap_mangen::generate_to(<Cli as clap::CommandFactory>::command(), &directory).context("writing man pages")
        }
        Command::LinkKeeper => Ok(load()?.host(&cli.config).keeper_main()?),
        Command::LinkHelper => Ok(load()?.host(&cli.config).child_main()?),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

fn check(config: &config::Config, nft: bool, socket: bool, segment: bool) -> anyhow::Result<()> {
    if segment {
        print!("{}", crate::segment::print(config)?);
        return Ok(());
    }
    let transparent = config.decoy.iter().all(|decoy| !decoy.addresses.is_empty());
    let hosts = app::hosts(config, transparent)?;
    let targets = crate::targets::Targets::new(&hosts);
    if nft {
        print!("{}", targets.nft(config.tproxy_port));
        return Ok(());
    }
    if socket {
        print!("{}", targets.socket_unit(config.tproxy_port));
        return Ok(());
    }
    for host in &hosts {
        let decoy = &host.decoy;
        let addresses: Vec<_> = decoy.addresses.iter().map(ToString::to_string).collect();
        println!("{}: persona {}, {} as {}, on {}", decoy.name, decoy.persona, decoy.fqdn(), decoy.os, addresses.join(", "));
        for offered in &host.offered {
            let ports: Vec<_> = offered.ports.iter().map(ToString::to_string).collect();
            println!("  {:<12} {}", offered.def.name, ports.join(", "));
        }
    }
    println!("ok");
    Ok(())
}

fn services(json: bool) {
    for def in SERVICES {
        let transports: Vec<_> = def.transports.iter().map(|t| t.name()).collect();
        if json {
            println!(
                "{}",
                serde_json::json!({"service": def.name, "transports": transports, "ports": def.default_ports, "summary": def.summary})
            );
        } else {
            let ports: Vec<_> = def.default_ports.iter().map(ToString::to_string).collect();
            println!("{:<12} {:<8} {:<8} {}", def.name, transports.join("+"), ports.join(","), def.summary);
        }
    }
}

fn personas(config: &config::Config, json: bool) -> anyhow::Result<()> {
    for persona in load_all(&config.personas).map_err(|why| anyhow::anyhow!(why))?.values() {
        let worn: Vec<_> = config.decoy.iter().filter(|decoy| decoy.persona == persona.name).map(|decoy| decoy.name.as_str()).collect();
        if json {
            println!("{}", serde_json::json!({"persona": persona.name, "hash": persona.hash, "file": persona.path, "decoys": worn}));
        } else {
            println!(
                "{:<16} {}  worn by: {}",
                persona.name,
                persona.hash.get(..12).unwrap_or_default(),
                if worn.is_empty() { "nobody".into() } else { worn.join(", ") }
            );
        }
    }
    Ok(())
}
