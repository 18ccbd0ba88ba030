//! The command line. One file a command, one line in the table below; nothing else names commands.

use crate::client::Client;
use crate::config::{Config, Overrides};
use crate::fail::Failure;
use crate::screen::Out;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

mod filters;
mod narrate;

mod backup;
mod check;
mod completions;
mod coverage;
mod credentials;
mod doctor;
mod enroll;
mod events;
mod export;
mod files;
mod finding;
mod findings;
mod man;
mod nodes;
mod notify;
mod replay;
mod restore;
mod revoke;
mod rotate;
mod serve;
mod session;
mod sessions;
mod stats;
mod status;
mod tail;

macro_rules! commands {
    ($($variant:ident $module:ident;)*) => {
        /// What to do.
        #[derive(Subcommand)]
        enum Command { $($variant($module::Args)),* }

        impl Command {
            async fn run(self, shell: &mut Shell) -> Result<(), Failure> {
                match self { $(Self::$variant(args) => Box::pin($module::run(args, shell)).await),* }
            }
        }
    };
}

commands! {
    Serve serve;
    Enroll enroll;
    Revoke revoke;
    Rotate rotate;
    Nodes nodes;
    Doctor doctor;
    Sessions sessions;
    Session session;
    Replay replay;
    Findings findings;
    Finding finding;
    Coverage coverage;
    Credentials credentials;
    Files files;
    Stats stats;
    Tail tail;
    Export export;
    Events events;
    Notify notify;
    Backup backup;
    Restore restore;
    Check check;
    Completions completions;
    Man man;
}

/// Glasshive: decoy networks, and everything their visitors did.
///
/// Without a command: one screen with nodes, today's visits, losses and what to type next.
#[derive(Parser)]
#[command(name = "glasshive", version = glasshive_journal::build::long_version(), after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "Examples:
  glasshive serve                                   run the controller
  glasshive enroll edge-1 --net dmz --role decoys   let a node in
  glasshive sessions --since 24h --source 192.0.2.7 who came
  glasshive session 3f9a01bc                        what they did, in order
  glasshive replay 3f9a01bc                         see it as they saw it
  glasshive findings --min-severity medium          what the detectors say
  glasshive tail -f                                 watch live
  glasshive export session 3f9a01bc --format jsonl -o case-7

Ids: give a whole session or finding id, or at least 4 digits of its start or end.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 verification failed,
6 daemon or node not reachable, 7 the state is of a newer version.";

/// Flags every command takes.
#[derive(clap::Args, Clone, Default)]
struct Globals {
    /// Configuration file [default: /etc/glasshive/controller.toml]
    #[arg(long, global = true, env = "GLASSHIVE_CONFIG", value_name = "FILE", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// State directory [default: /var/lib/glasshive/controller]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    state_dir: Option<PathBuf>,
    /// Admin socket [default: /run/glasshive/controller.sock]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    socket: Option<PathBuf>,
    /// One JSON object a line instead of tables
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
}

/// What a command works with.
pub(crate) struct Shell {
    /// Where it writes.
    pub(crate) out: Out,
    overrides: Overrides,
    client: Option<Client>,
    /// The command line as typed, for the way to the next page.
    typed: Vec<String>,
}

impl Shell {
    /// The configuration.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.overrides).map_err(Failure::usage)
    }

    /// Where the configuration is read from.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.overrides.config.clone().unwrap_or_else(|| crate::config::DEFAULT_PATH.into())
    }

    /// The daemon, or the store.
    pub(crate) async fn client(&mut self) -> Result<&Client, Failure> {
        if self.client.is_none() {
            self.client = Some(Client::open(self.config()?).await?);
        }
        self.client.as_ref().ok_or_else(|| Failure::failed("nobody to ask"))
    }

    /// Asks and waits for the whole answer.
    pub(crate) async fn all(&mut self, request: crate::ask::Request) -> Result<(Vec<serde_json::Value>, crate::ask::End), Failure> {
        self.client().await?.all(request).await
    }

    /// Says how to get the next page, beside the result.
    pub(crate) fn next_page(&mut self, end: &crate::ask::End) -> Result<(), Failure> {
        let Some(cursor) = &end.next else { return Ok(()) };
        let mut words: Vec<String> = Vec::new();
        let mut skip = false;
        for word in &self.typed {
            if skip {
                skip = false;
            } else if word == "--cursor" {
                skip = true;
            } else if !word.starts_with("--cursor=") {
                words.push(quoted(word));
            }
        }
        self.out.note(&format!("more: {} --cursor {}", words.join(" "), quoted(cursor)))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=+@%,".contains(&byte));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The process: parses, runs, prints the failure, exits.
pub fn main() -> std::process::ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("glasshive: cannot start: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(std::env::args_os(), None));
    // A reader that was blocked on a terminal must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    std::process::ExitCode::from(code)
}

/// Runs one command line; returns its exit code. Output goes to `out`, or to the process's own.
pub async fn run(args: impl IntoIterator<Item = impl Into<OsString>>, out: Option<Out>) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let typed =
        args.iter().enumerate().map(|(index, word)| if index == 0 { "glasshive".into() } else { word.to_string_lossy().into_owned() });
    let typed = typed.collect();
    let mut out = out;
    let parsed = command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            match &mut out {
                Some(out) => {
                    let text = error.render().to_string();
                    let _ = text.lines().try_for_each(|line| if code == 0 { out.line(line) } else { out.note(line) });
                }
                None => {
                    let _ = error.print();
                }
            }
            return code;
        }
    };
    let globals = cli.globals;
    let mut out = out.unwrap_or_else(|| Out::process(globals.json));
    out.json |= globals.json;
    let overrides = Overrides { config: globals.config, state_dir: globals.state_dir, socket: globals.socket };
    let mut shell = Shell { out, overrides, client: None, typed };
    let result = match cli.command {
        Some(command) => Box::pin(command.run(&mut shell)).await,
        None => Box::pin(status::run(&mut shell)).await,
    };
    let closed = match shell.client.take() {
        Some(client) => client.close().await,
        None => Ok(()),
    };
    match result.and(closed) {
        Ok(()) => 0,
        Err(failure) => {
            // An empty message: the reader of a pipe went away, and there is nobody to tell.
            if !failure.message.is_empty() {
                let _ = shell.out.note(&format!("glasshive: {failure}"));
            }
            failure.code.exit()
        }
    }
}

/// The whole command tree, for help, completions and manual pages.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_teaches() {
        let mut root = command();
        root.build();
        root.clone().debug_assert();
        for sub in root.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{} has no summary", sub.get_name());
            let help = sub.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{} shows no example", sub.get_name());
        }
    }

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("--net=dmz"), "--net=dmz");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
