//! A daemon as a node: its journal on one side, the link in a process of its own on the other.
//!
//! The daemon that speaks to visitors or parses their packets may not connect. So it starts, before
//! its lockdown, a keeper ([`Host::start_keeper`]); the keeper starts the link's process
//! ([`Host::child_main`]) and starts it again whenever it ends; records, files and packets go to it
//! over a socketpair ([`serve_pipe`]). The link's process alone holds the identity's private key.
//!
//! Decoys and sensor use the same. This module must never know what either of them records, and
//! never read the identity's key outside the link's process.

mod child;
mod identity;
mod keeper;
mod source;

pub use identity::IdentityCommand;
pub use keeper::{Linked, serve_pipe};
pub use source::JournalSource;

use crate::error::LinkError;
use crate::identity::IdentityError;
use glasshive_daemon::config::{HostPort, Listen};
use glasshive_daemon::lockdown::{LockdownError, User};
use glasshive_daemon::net::BindError;
use serde::Deserialize;
use std::path::PathBuf;

/// Hidden subcommand of the daemon's binary that comes to [`Host::keeper_main`].
pub const KEEPER: &str = "link-keeper";
/// Hidden subcommand of the daemon's binary that comes to [`Host::child_main`].
pub const CHILD: &str = "link-helper";

/// `[link]` of a node's configuration: the link to the controller.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// The controller this node dials.
    pub controller: Option<HostPort>,
    /// Where this node listens when the controller dials it.
    pub listen: Option<Listen>,
}

impl LinkSettings {
    /// Whether a link is wanted at all.
    pub fn is_wanted(&self) -> bool {
        self.controller.is_some() || self.listen.is_some()
    }
}

/// `[isolation]` of a node's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IsolationSettings {
    /// User the daemon becomes when started as root.
    pub user: Option<String>,
    /// System calls and files are restricted after start.
    pub lockdown: bool,
}

impl Default for IsolationSettings {
    fn default() -> Self {
        Self { user: None, lockdown: true }
    }
}

impl IsolationSettings {
    /// The user to become.
    ///
    /// # Errors
    /// One line naming the key.
    pub fn user(&self) -> Result<Option<User>, HostError> {
        let parsed = self.user.as_ref().map(|name| name.parse()).transpose();
        parsed.map_err(|error: std::convert::Infallible| HostError::Key { key: "isolation.user", why: error.to_string() })
    }
}

/// What the link's processes need of a daemon's configuration.
#[derive(Clone, Debug)]
pub struct Host {
    /// The configuration file: keeper and link's process are this binary with the same one.
    pub config_path: PathBuf,
    /// State directory; the identity is in `identity` below it.
    pub state_dir: PathBuf,
    /// How the controller is reached.
    pub link: LinkSettings,
    /// What the link's process gives up.
    pub isolation: IsolationSettings,
    /// Version of the daemon, told to the controller.
    pub product: String,
}

/// Why a daemon's link, or a command on its identity, failed. One line with its sources.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A step of the operating system.
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
    /// A key of the configuration.
    #[error("key {key}: {why}")]
    Key {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Wrong use of the command line.
    #[error("{0}")]
    Usage(String),
    /// The link's process could not lock itself down.
    #[error(transparent)]
    Lockdown(#[from] LockdownError),
    /// The listener of a node that is dialled.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The identity's files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The controller's answer.
    #[error(transparent)]
    Link(#[from] LinkError),
}
