//! What only the running daemon can do: know who is connected, open seals, fetch files from nodes. With the daemon down the command line has none of it and says so.

use crate::fail::Failure;
use futures_util::future::BoxFuture;
use glasshive_link::CarveQuery;
use glasshive_link::server::CarveStream;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The running daemon, as questions see it.
pub trait Live: Send + Sync + 'static {
    /// Facts of the link by node: connected, remote, version, clock offset.
    fn links(&self) -> BTreeMap<String, Map<String, Value>>;

    /// Opens what a node sealed (age, base64).
    fn unseal(&self, sealed: &str) -> Result<Vec<u8>, Failure>;

    /// Opens a sealed blob's bytes.
    fn unseal_bytes(&self, sealed: &[u8]) -> Result<Vec<u8>, Failure>;

    /// The sealed blob as a file of ours, fetched from the node when it is not here yet.
    fn blob<'a>(&'a self, node: &'a str, name: &'a str) -> BoxFuture<'a, Result<PathBuf, Failure>>;

    /// Asks a sensor for packets of its ring.
    fn carve<'a>(&'a self, node: &'a str, query: CarveQuery) -> BoxFuture<'a, Result<CarveStream, Failure>>;
}
