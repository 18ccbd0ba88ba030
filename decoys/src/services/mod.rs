//! The services table. Adding a service is one new file and one line in [`SERVICES`].
//!
//! A service never touches a socket, clock, file or the journal: [`Conn`] gives bytes, [`Session`]
//! records and knows the time.

mod dns;
mod ftp;
mod generic_tcp;
mod http;
mod https;
mod ssh;
mod telnet;

use crate::conn::Conn;
use crate::persona::Decoy;
use crate::recorder::BoxFuture;
use crate::session::Session;
use glasshive_event::Transport;
use std::sync::{Arc, OnceLock};

/// How a service ended a session, as its `close` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The visitor closed.
    Client,
    /// The service closed, as the real one would.
    Server,
    /// A deadline passed.
    Timeout,
    /// A cap was reached.
    Limit,
    /// Our own fault, in words.
    Error(String),
}

impl Outcome {
    /// The outcome an I/O error stands for.
    pub fn from_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Client,
        }
    }

    /// The word of `session.close`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Error(_) => "error",
        }
    }
}

impl From<std::io::Error> for Outcome {
    fn from(error: std::io::Error) -> Self {
        Self::from_io(&error)
    }
}

/// One service of one decoy.
pub trait Service: Send + Sync {
    /// Serves one connection to its end.
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome>;
}

/// What a service is built from.
pub struct Build<'a> {
    /// The decoy it belongs to.
    pub decoy: &'a Arc<Decoy>,
    /// Its own table of the persona file, without `ports`.
    pub settings: toml::Table,
}

impl Build<'_> {
    /// Reads the settings into the service's own type; the error names the key.
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(self.settings.clone()).map_err(|error| error.message().to_owned())
    }
}

/// One row of the table.
pub struct ServiceDef {
    /// Name in persona files and records.
    pub name: &'static str,
    /// Transports it speaks.
    pub transports: &'static [Transport],
    /// Ports it listens on when the persona names none.
    pub default_ports: &'static [u16],
    /// Whether it opens passive data ports.
    pub passive: bool,
    /// What it speaks, as the first-bytes probe names it; `unknown` when that is left open.
    pub protocol: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Builds it; the error is one line naming the key and the remedy.
    pub build: fn(&Build<'_>) -> Result<Arc<dyn Service>, String>,
}

/// All services.
pub static SERVICES: &[&ServiceDef] =
    &[&dns::SERVICE, &ftp::SERVICE, &generic_tcp::SERVICE, &http::SERVICE, &https::SERVICE, &ssh::SERVICE, &telnet::SERVICE];

static BESIDE: OnceLock<&'static ServiceDef> = OnceLock::new();

/// Lets this process's personas offer one service that is not in the table: how a test puts a hostile one behind
/// the daemon's walls. Before any persona is loaded; only the first call counts.
pub fn beside(def: &'static ServiceDef) {
    let _ = BESIDE.set(def);
}

/// The service of that name.
pub fn find(name: &str) -> Option<&'static ServiceDef> {
    SERVICES.iter().chain(BESIDE.get()).copied().find(|def| def.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Kit;

    /// A visitor who says nothing holds this much beside his socket and session, thousands of times over.
    #[tokio::test]
    async fn silent_visitors_hold_little_room() {
        for def in SERVICES.iter().copied() {
            let (task, service) = Kit::new(def, "").unwrap().visit_bytes();
            println!("{}: task {task} B, service {service} B", def.name);
            assert!(task <= 512 && service <= 1664, "{}: box apart what only a talking visitor needs: {task} {service}", def.name);
        }
    }
}
