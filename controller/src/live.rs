//! What only the running daemon can do: know who is connected, open seals, fetch files from nodes. With the daemon down the command line has none of it and says so.

use crate::fail::Failure;
use futures_util::future::BoxFuture;
use glasshive_event::Kind;
use glasshive_event::detail::{Health, Loss};
use glasshive_journal::store::{EventQuery, StoreError, StoreHandle, StoredEvent};
use glasshive_link::CarveQuery;
use glasshive_link::server::CarveStream;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The running daemon, as questions see it.
pub trait Live: Send + Sync + 'static {
    /// Facts of the link by node: connected, remote, version, clock offset.
    fn links(&self) -> BTreeMap<String, Map<String, Value>>;

    /// Where fusion stands.
    fn fusion(&self) -> crate::fusion::Status;

    /// What each node said of itself last: the fields of its last heartbeat, with what changed since.
    fn words(&self) -> BTreeMap<String, Map<String, Value>>;

    /// How the channels of notifications do.
    fn channels(&self) -> Vec<crate::notify::ChannelStatus>;

    /// Opens what a node sealed (age, base64).
    fn unseal(&self, sealed: &str) -> Result<Vec<u8>, Failure>;

    /// Opens a sealed blob's bytes.
    fn unseal_bytes(&self, sealed: &[u8]) -> Result<Vec<u8>, Failure>;

    /// The sealed blob as a file of ours, fetched from the node when it is not here yet.
    fn blob<'a>(&'a self, node: &'a str, name: &'a str) -> BoxFuture<'a, Result<PathBuf, Failure>>;

    /// Asks a sensor for packets of its ring.
    fn carve<'a>(&'a self, node: &'a str, query: CarveQuery) -> BoxFuture<'a, Result<CarveStream, Failure>>;
}

/// Takes a node's word about itself, if the record is one.
pub(crate) fn take_word(words: &mut BTreeMap<String, Map<String, Value>>, stored: &StoredEvent) {
    let Some((envelope, json)) = stored.view().and_then(|view| view.split().ok()) else { return };
    if stored.node == crate::desk::NODE {
        return;
    }
    if envelope.kind == Kind::Loss.number() {
        // The journal's word that a pause is over.
        if let (Ok(Loss { place, .. }), Some(word)) = (serde_json::from_str(json), words.get_mut(&stored.node))
            && place == "accept_paused"
        {
            word.remove("paused");
        }
        return;
    }
    if envelope.kind != Kind::Health.number() {
        return;
    }
    let Ok(Health { what, fields, .. }) = serde_json::from_str(json) else { return };
    match what.as_str() {
        // What is wrong is in the first heartbeat, and in the wall's own word before it.
        "start" => drop(words.insert(stored.node.clone(), Map::new())),
        "heartbeat" => drop(words.insert(stored.node.clone(), fields)),
        "paused" => words.entry(stored.node.clone()).or_default().extend(fields),
        "wall" => drop(words.entry(stored.node.clone()).or_default().insert("wall".to_owned(), Value::Object(fields))),
        _ => {}
    }
}

/// What nodes said of themselves since then.
pub(crate) async fn read_words(store: &StoreHandle, since_ns: i64) -> Result<BTreeMap<String, Map<String, Value>>, StoreError> {
    let query = EventQuery { since: Some(since_ns), kinds: vec![Kind::Health.number(), Kind::Loss.number()], ..EventQuery::default() };
    let (to, mut from) = tokio::sync::mpsc::channel(64);
    let mut words = BTreeMap::new();
    let taking = async {
        while let Some(stored) = from.recv().await {
            take_word(&mut words, &stored);
        }
    };
    let (read, ()) = tokio::join!(store.events(query, to), taking);
    read.map(|_| words)
}
