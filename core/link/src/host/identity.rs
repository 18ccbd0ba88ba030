//! What a daemon's `identity` subcommands do; the command line's form is the daemon's.

use super::{Host, HostError};
use crate::client;
use crate::clock::SystemClock;
use crate::identity::{IdentityDir, Token};
use crate::name::NodeName;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest bundle read.
const BUNDLE: u64 = 1 << 20;
/// Longest line a token is looked for in.
const TOKEN: u64 = 1024;

/// One of the `identity` subcommands.
#[derive(Debug)]
pub enum IdentityCommand {
    /// Join online with the one-time token that `glasshive enroll NODE` printed.
    Join {
        /// File whose first line is the token; `-` is standard input. Never the token itself: every user of a host
        /// sees the arguments of every process.
        from: PathBuf,
        /// Address and port of the controller, instead of the configuration's.
        controller: Option<String>,
    },
    /// Make a key and print a certificate request for `glasshive enroll --sign FILE`.
    Request {
        /// The name asked for: the configuration's key `node`.
        node: String,
    },
    /// Install the bundle of `glasshive enroll --sign` from standard input.
    Install,
    /// Say who this node is.
    Show,
}

impl Host {
    /// Carries out `command`, with its answer on standard output. Before any runtime.
    ///
    /// # Errors
    /// One line.
    pub fn identity(&self, command: IdentityCommand) -> Result<(), HostError> {
        let dir = IdentityDir::new(self.state_dir.join("identity"));
        if !matches!(command, IdentityCommand::Show) {
            let user = self.isolation.user()?;
            glasshive_daemon::state::refuse_for_another(&self.state_dir, user.is_some()).map_err(HostError::Usage)?;
        }
        match command {
            IdentityCommand::Join { from, controller } => self.join(&dir, &from, controller.as_deref()),
            IdentityCommand::Request { node } => {
                let node: NodeName = node.parse().map_err(|error| HostError::Key { key: "node", why: format!("{error}") })?;
                let request = dir.request(&node)?;
                std::io::stdout().write_all(request.as_bytes()).map_err(|error| HostError::Io("writing the request", error))
            }
            IdentityCommand::Install => {
                let mut bundle = Vec::new();
                let read = std::io::stdin().take(BUNDLE).read_to_end(&mut bundle);
                read.map_err(|error| HostError::Io("reading the bundle from standard input", error))?;
                let identity = dir.install(&bundle)?;
                println!("installed: {} of net {}; restart the daemon to connect", identity.node, identity.net);
                Ok(())
            }
            IdentityCommand::Show if !dir.exists() => {
                println!("no identity yet: this node runs standalone (see `identity join --help`)");
                Ok(())
            }
            IdentityCommand::Show => {
                let identity = dir.load()?;
                let days = identity.days_left(glasshive_daemon::clock::wall_ns());
                println!(
                    "{} of net {}, controller pin {}, certificate valid for {days} days",
                    identity.node,
                    identity.net,
                    identity.pin()?
                );
                Ok(())
            }
        }
    }

    fn join(&self, dir: &IdentityDir, from: &Path, controller: Option<&str>) -> Result<(), HostError> {
        let address = match (controller, &self.link.controller) {
            (Some(text), _) => text.parse().map_err(|error| HostError::Usage(format!("--controller: {error}")))?,
            (None, Some(address)) => address.clone(),
            (None, None) => {
                let ask = "where is the controller? give --controller HOST:PORT or set link.controller in the configuration";
                return Err(HostError::Usage(ask.into()));
            }
        };
        let token = token(from)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| HostError::Io("starting the runtime", error))?;
        let identity = runtime.block_on(client::join(&address.to_string(), &token, dir, Arc::new(SystemClock)))?;
        println!(
            "joined as {} of net {}; certificate valid for {} days; restart the daemon to connect",
            identity.node,
            identity.net,
            identity.days_left(glasshive_daemon::clock::wall_ns())
        );
        Ok(())
    }
}

/// The token in the first line of `from`.
fn token(from: &Path) -> Result<Token, HostError> {
    if from.to_str().is_some_and(Token::looks_like) {
        let why = "a token on the command line is readable by every user of this host: pass it on standard input (identity join -) \
                   or in a file; have a new one made, glasshive enroll voids this one";
        return Err(HostError::Usage(why.to_owned()));
    }
    let line = |source: &mut dyn Read| {
        let mut line = String::new();
        BufReader::new(source.take(TOKEN)).read_line(&mut line).map(|_| line)
    };
    let read = if from == Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprint!("token: ");
        }
        line(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(from).and_then(|mut file| line(&mut file))
    };
    let name = if from == Path::new("-") { "standard input".into() } else { from.display().to_string() };
    let line = read.map_err(|error| HostError::Usage(format!("the token in {name}: {error}")))?;
    line.parse().map_err(|error| HostError::Usage(format!("{name}: {error}")))
}
