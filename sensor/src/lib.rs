//! The packet sensor: captures an interface, keeps its packets in a ring on disk, says what flowed and
//! what it means, and gives packets out again. It sends nothing to the segment it listens on, and never
//! holds secrets or decoys' names.
#![forbid(unsafe_code)]

pub mod app;
pub mod capture;
pub mod carve;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod flow;
#[cfg(test)]
mod frames;
pub mod pipeline;
pub mod read;
pub mod ring;

use anyhow::Context as _;
use cli::{Cli, Command, Identity};
use config::Config;
use glasshive_daemon::config::Loaded;
use glasshive_daemon::shutdown::Shutdown;
use glasshive_daemon::telemetry;
use glasshive_link::host::IdentityCommand;
use std::path::{Path, PathBuf};

/// Does what the command line asks. The text of an `Ok` goes to standard output.
///
/// # Errors
/// One line for the operator; the process then exits 1, or with the code of a [`commands::Exit`].
pub fn run(cli: Cli) -> anyhow::Result<String> {
    let Cli { config, state_dir, command } = cli;
    let path = config.unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATH));
    let load = || config::load(&path, state_dir.as_deref());
    match command {
        Command::Run => serve(load()?, &path).map(|()| String::new()),
        Command::Check => {
            let loaded = load()?;
            daemon::pipeline(&loaded.value, String::new())?;
            Ok(format!("{}: good: {}", loaded.path.display(), loaded.value.summary()))
        }
        Command::Read(options) => read::run(&options).map(|()| String::new()),
        Command::Carve(arguments) => commands::carve::run(&load()?.value.ring_dir(), &arguments),
        Command::Ring(arguments) => commands::ring::run(&load()?.value.ring_dir(), &arguments),
        Command::Identity(command) => identity(&load()?.value, &path, command).map(|()| String::new()),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "glasshive-sensor", &mut text);
            Ok(String::from_utf8(text)?)
        }
        Command::Man { directory } => {
            std::fs::create_dir_all(&directory)?;
            clap_mangen::generate_to(<Cli as clap::CommandFactory>::command(), &directory).context("writing man pages")?;
            Ok(String::new())
        }
        Command::LinkKeeper => Ok(helper(load()?, &path)?.keeper_main().map(|()| String::new())?),
        Command::LinkHelper => Ok(helper(load()?, &path)?.child_main().map(|()| String::new())?),
    }
}

fn serve(loaded: Loaded<Config>, path: &Path) -> anyhow::Result<()> {
    telemetry::init(loaded.value.log.format, "info")?;
    let app = daemon::App::prepare(loaded.value, path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().context("listening for signals")?;
        app.run(shutdown).await
    })
}

/// The link's processes, with the same configuration.
fn helper(loaded: Loaded<Config>, path: &Path) -> anyhow::Result<glasshive_link::host::Host> {
    telemetry::init(loaded.value.log.format, "info")?;
    Ok(loaded.value.host(path))
}

fn identity(config: &Config, path: &Path, command: Identity) -> anyhow::Result<()> {
    let command = match command {
        Identity::Join { from, controller } => IdentityCommand::Join { from, controller },
        Identity::Request => IdentityCommand::Request { node: config.node.clone() },
        Identity::Install => IdentityCommand::Install,
        Identity::Show => IdentityCommand::Show,
    };
    Ok(config.host(path).identity(command)?)
}

/// Cases a property test runs: 10 000, or `GLASSHIVE_FUZZ`.
#[cfg(test)]
pub(crate) fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn with(text: &str, command: &[&str]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sensor.toml");
        std::fs::write(&path, text).unwrap();
        let state = dir.path().join("state");
        let arguments = ["glasshive-sensor", "--config", path.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
        run(Cli::try_parse_from(arguments.into_iter().chain(command.iter().copied())).unwrap())
            .map_err(|error| format!("{error:#}"))
            .map(|text| text.replace(dir.path().to_str().unwrap(), "/d"))
    }

    #[test]
    fn check_reads_the_configuration_really() {
        let good = "interface = \"eth1\"\n[ring]\nquota = \"2 GiB\"\nmax_age = \"7d\"\n";
        assert_eq!(with(good, &["check"]).unwrap(), "/d/sensor.toml: good: interface eth1, ring at most 2 GiB and 7d, state in /d/state");
        for (text, expected) in [
            ("interface = 5\n", "sensor.toml:1: key `interface`: invalid type"),
            ("interfaces = \"eth1\"\n", "sensor.toml:1: unknown key `interfaces`: did you mean `interface`?"),
            ("", "missing key `interface`"),
            ("interface = \"a b\"\n", "sensor.toml:1: key `interface`: \"a b\" is no interface name"),
            ("interface = \"eth1\"\n[ring]\nquota = \"1 MiB\"\n", "sensor.toml:3: key `ring.quota`: 1 MiB is too small"),
            ("interface = \"eth1\"\n[capture]\nring = \"2 MiB\"\n", "sensor.toml:3: key `capture.ring`: 2 MiB: must be between"),
            ("interface = \"eth1\"\n[capture]\ntimeout = 0\n", "sensor.toml:3: unknown key `capture.timeout`"),
            ("interface = \"eth1\"\nsegment = \"/nonexistent/s.toml\"\n", "key segment: /nonexistent/s.toml"),
            ("interface = \"eth1\"\nnet = \"\"\n", "sensor.toml:2: key `net`: must name the net"),
        ] {
            let error = with(text, &["check"]).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_empty_ring_is_listed_verified_and_carved() {
        let text = "interface = \"eth1\"\n";
        assert!(with(text, &["ring"]).unwrap().contains("no segments"));
        assert_eq!(with(text, &["ring", "verify"]).unwrap(), "0 segments verified");
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("a.pcapng");
        let said = with(text, &["carve", "--out", file.to_str().unwrap()]).unwrap();
        assert!(said.contains("matched     0 packets"), "{said}");
        let bytes = std::fs::read(&file).unwrap();
        assert!(glasshive_pcapng::BlockReader::new(&bytes[..]).next_block().unwrap().is_some());
        let error = with(text, &["carve", "--bpf", "nonsense (", "--out", file.to_str().unwrap()]).unwrap_err();
        assert!(error.contains("pcap filter") && !error.contains('\n'), "{error}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn example_configuration_is_good() {
        assert!(with(config::EXAMPLE, &["check"]).is_ok());
    }
}
