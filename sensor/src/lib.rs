//! The packet sensor. In this build it analyses capture files (`read`); as a daemon it is a frame: it
//! reads and checks its configuration, starts, says that capture is not in it, and stops cleanly. It
//! captures nothing and opens no socket.
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod decode;
pub mod flow;
pub mod pipeline;
pub mod read;

use cli::{Cli, Command};
use config::Config;
use glasshive_daemon::config::{ConfigError, Loaded, Source};
use glasshive_daemon::shutdown::{Notifier, Shutdown};
use glasshive_daemon::{lockdown::Lockdown, telemetry};
use std::path::PathBuf;

/// Where the configuration is when no `--config` names one.
pub const DEFAULT_CONFIG: &str = "/etc/glasshive/sensor.toml";

/// What `run` says and `--help` repeats.
pub const NO_CAPTURE: &str = "packet capture is not part of this build: the sensor runs and records nothing";

/// Does what the command line asks. The text of an `Ok` goes to standard output.
///
/// # Errors
/// One line for the operator; the process then exits 1.
pub fn run(cli: Cli) -> anyhow::Result<String> {
    match &cli.command {
        Command::Run => serve(&cli).map(|()| String::new()),
        Command::Check => {
            let loaded = load(&cli)?;
            Ok(format!("{}: good: {}", loaded.path.display(), loaded.value.summary()))
        }
        Command::Read(options) => read::run(options).map(|()| String::new()),
        Command::Ring => Err(absent("ring")),
        Command::Identity => Err(absent("identity")),
    }
}

/// Reads and checks the configuration a command line names.
///
/// # Errors
/// [`ConfigError`], one line.
pub fn load(cli: &Cli) -> Result<Loaded<Config>, ConfigError> {
    let source = Source::file(cli.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)))
        .environment()
        .flag("state_dir", cli.state_dir.as_ref().map(|dir| dir.display().to_string()));
    let loaded = source.load::<Config>()?;
    config::check(&loaded)?;
    Ok(loaded)
}

fn absent(command: &str) -> anyhow::Error {
    anyhow::anyhow!("{command}: not in this build: it comes with packet capture")
}

fn serve(cli: &Cli) -> anyhow::Result<()> {
    let loaded = load(cli)?;
    telemetry::init(loaded.value.log.format, "info")?;
    let notifier = Notifier::from_environment();
    // It needs nothing, so it keeps nothing.
    Lockdown::default().apply()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        tracing::warn!(config = %loaded.path.display(), "{NO_CAPTURE}");
        notifier.ready(NO_CAPTURE);
        shutdown.requested().await;
        notifier.stopping();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn with(text: &str, command: &[&str]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sensor.toml");
        std::fs::write(&path, text).unwrap();
        let arguments = ["glasshive-sensor", "--config", path.to_str().unwrap()].into_iter().chain(command.iter().copied());
        run(Cli::try_parse_from(arguments).unwrap())
            .map_err(|error| format!("{error:#}"))
            .map(|text| text.replace(dir.path().to_str().unwrap(), "/d"))
    }

    #[test]
    fn check_reads_the_configuration_really() {
        let good = "interface = \"eth1\"\n[ring]\nquota = \"2 GiB\"\nmax_age = \"7d\"\n";
        assert_eq!(
            with(good, &["check"]).unwrap(),
            "/d/sensor.toml: good: interface eth1, ring at most 2 GiB and 7d, state in /var/lib/glasshive/sensor"
        );
        assert!(with(good, &["--state-dir", "/x", "check"]).unwrap().ends_with("state in /x"));
        for (text, expected) in [
            ("interface = 5\n", "sensor.toml:1: key `interface`: invalid type"),
            ("interfaces = \"eth1\"\n", "sensor.toml:1: unknown key `interfaces`: did you mean `interface`?"),
            ("", "missing key `interface`"),
            ("interface = \"a b\"\n", "sensor.toml:1: key `interface`: \"a b\" is no interface name"),
            ("interface = \"eth1\"\n[ring]\nquota = \"1 MiB\"\n", "sensor.toml:3: key `ring.quota`: 1 MiB is too small"),
            ("interface = \"eth1\"\nstate_dir = \"var\"\n", "sensor.toml:2: key `state_dir`: must be an absolute path"),
        ] {
            let error = with(text, &["check"]).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_absent_says_so_in_one_line() {
        for command in [&["ring"][..], &["identity"]] {
            let error = with("interface = \"eth1\"\n", command).unwrap_err();
            assert!(error.contains("not in this build") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn example_configuration_is_good() {
        assert!(with(config::EXAMPLE, &["check"]).is_ok());
    }
}
