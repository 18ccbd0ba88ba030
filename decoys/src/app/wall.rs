//! The daemon's side of the wall: takes the reader's lines, stores what was dropped, and closes the
//! gate while the wall does not stand.
//!
//! Who may speak is decided by the kernel's word on the peer's user. One reader at a time; a line that
//! is no message ends the connection.

use super::health::Health;
use crate::config::WallConfig;
use crate::listener::Gate;
use crate::persona::file::Host;
use crate::wall::blocked::Attempts;
use crate::wall::{MAX_LINE, Message, Packet, State};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use glasshive_daemon::activation::Passed;
use glasshive_daemon::lockdown::User;
use glasshive_daemon::telemetry::Throttle;
use glasshive_event::detail::{Blocked, Loss};
use glasshive_event::{Envelope, Kind};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// A reader says how the wall stands once a second; one that was silent for this long is gone.
const SILENT: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);
/// At the start, before a reader can have come: nothing is wrong yet.
const NOTHING_YET: &str = "its reader has said nothing yet";

/// How the wall stands, for heartbeats; filled by [`Wall::serve`].
pub(super) type Standing = Arc<Mutex<Map<String, Value>>>;

/// The bound socket with what is needed to judge who connects.
pub(super) struct Wall {
    listener: UnixListener,
    settings: WallConfig,
    allowed: Vec<u32>,
    decoys: HashMap<IpAddr, String>,
    standing: Standing,
}

/// Binds the socket, before the lockdown.
///
/// # Errors
/// One line naming the socket or the key.
pub(super) fn bind(settings: &WallConfig, daemon: u32, hosts: &[Host], passed: &mut Passed) -> anyhow::Result<Wall> {
    let path = &settings.socket;
    let listener = match passed.unix(path) {
        Some(listener) => listener,
        None => make(path)?,
    };
    let mut allowed = vec![0, daemon];
    for name in &settings.readers {
        let user: User = name.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        allowed.push(user.ids().context("key wall.readers")?.0);
    }
    let named = hosts.iter().flat_map(|host| host.decoy.addresses.iter().map(|address| (*address, host.decoy.name.clone())));
    Ok(Wall { listener, settings: settings.clone(), allowed, decoys: named.collect(), standing: Standing::default() })
}

fn make(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = || format!("{}: the socket for the wall's reader cannot be made: set wall.socket in the configuration", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(shown)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(shown),
        _ => {}
    }
    // The state directory's lock is held, so an old file is a leftover. Who speaks is judged on connecting.
    let listener = UnixListener::bind(path).with_context(shown)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(shown)?;
    Ok(listener)
}

impl Wall {
    /// Where heartbeats read how the wall stands.
    pub(super) fn standing(&self) -> Standing {
        Arc::clone(&self.standing)
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, health: Health, gate: Gate, transparent: bool, stop: CancellationToken) {
        let Self { listener, settings, allowed, decoys, standing } = self;
        let _ = listener.set_nonblocking(true);
        let listener = match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the wall's socket cannot be used"),
        };
        let mut books = Books {
            health,
            gate,
            required: settings.required,
            transparent,
            decoys,
            standing,
            attempts: Attempts::default(),
            last: None,
            told: None,
        };
        books.stands(None, NOTHING_YET).await;
        let mut reader: Option<FramedRead<UnixStream, LinesCodec>> = None;
        let mut heard = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(SECOND);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if reader.is_none() && admitted(&stream, &allowed) => {
                        reader = Some(FramedRead::new(stream, LinesCodec::new_with_max_length(MAX_LINE)));
                        heard = tokio::time::Instant::now();
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                line = line(reader.as_mut()) => match line.as_deref().map(serde_json::from_str::<Message>) {
                    Some(Ok(Message::State(state))) => {
                        heard = tokio::time::Instant::now();
                        books.state(state).await;
                    }
                    Some(Ok(Message::Blocked(packet))) => books.packet(packet).await,
                    _ => {
                        reader = None;
                        books.stands(None, "its reader has gone").await;
                    }
                },
                _ = ticks.tick() => {
                    if reader.is_some() && heard.elapsed() > SILENT {
                        reader = None;
                        books.stands(None, "its reader says nothing").await;
                    } else if books.last.is_none() && heard.elapsed() > SILENT {
                        books.stands(None, "no reader has come: is glasshive-wall.service there?").await;
                    }
                    books.tick().await;
                }
            }
        }
        for (envelope, detail) in books.attempts.finish() {
            books.write(envelope, &detail).await;
        }
    }
}

/// The next line; never, while there is no reader. `None` when it hung up or is no line.
async fn line(reader: Option<&mut FramedRead<UnixStream, LinesCodec>>) -> Option<String> {
    match reader {
        Some(reader) => reader.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}

/// Whether the kernel says that the peer is a user that may be the reader.
fn admitted(stream: &UnixStream, allowed: &[u32]) -> bool {
    static REFUSED: Throttle = Throttle::new(1, Duration::from_secs(10));
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    let may = uid.is_some_and(|uid| allowed.contains(&uid));
    if !may && let Some(suppressed) = REFUSED.pass() {
        tracing::warn!(?uid, suppressed, "somebody else than the wall's reader spoke to its socket: see key wall.readers");
    }
    may
}

struct Books {
    health: Health,
    gate: Gate,
    required: bool,
    /// Visitors come in by the entry's rules.
    transparent: bool,
    decoys: HashMap<IpAddr, String>,
    standing: Standing,
    attempts: Attempts,
    /// The reader's last word.
    last: Option<State>,
    /// What was written of the wall last: fault, hash, entry.
    told: Option<(Option<String>, String, bool)>,
}

impl Books {
    async fn state(&mut self, state: State) {
        let before = self.last.as_ref();
        // A reader that was started anew counts from 0.
        let grown = |now: u64, before: u64| if now < before { now } else { now.saturating_sub(before) };
        let missed = [
            (grown(state.skipped, before.map_or(0, |last| last.skipped)), "came faster than wall.packets_per_second allows"),
            (grown(state.lost, before.map_or(0, |last| last.lost)), "came faster than the reader could take them from the kernel"),
            (grown(state.unreadable, before.map_or(0, |last| last.unreadable)), "could not be read"),
        ];
        for (count, why) in missed {
            if count > 0 {
                self.lose("wall_reader", count, &format!("packets the wall dropped {why}")).await;
            }
        }
        let fault = state.fault();
        self.stands(Some(state), fault.as_deref().unwrap_or_default()).await;
    }

    /// Takes how the wall stands: `why` it does not, empty when it does.
    async fn stands(&mut self, state: Option<State>, why: &str) {
        let answering = why.is_empty() || !self.required;
        let (hash, entry) = state.as_ref().map(|state| (state.hash.clone(), state.entry)).unwrap_or_default();
        let told = ((!why.is_empty()).then(|| why.to_owned()), hash, entry);
        let mut fields = Map::new();
        fields.insert("stands".to_owned(), why.is_empty().into());
        fields.insert("required".to_owned(), self.required.into());
        fields.insert("answering".to_owned(), answering.into());
        if !why.is_empty() {
            fields.insert("why".to_owned(), why.into());
        }
        if let Some(state) = &state {
            fields.insert("table".to_owned(), state.table.as_str().into());
            fields.insert("loaded".to_owned(), state.loaded.into());
            fields.insert("default_drop".to_owned(), (state.loaded && state.open.is_empty()).into());
            if self.transparent {
                fields.insert("entry".to_owned(), state.entry.into());
            }
            fields.insert("generation".to_owned(), state.generation.into());
            fields.insert("hash".to_owned(), state.hash.as_str().into());
            fields.insert("seen".to_owned(), state.seen.into());
        }
        if state.is_some() {
            self.last = state;
        }
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = fields.clone();
        // The gate first: control goes before capture.
        self.gate.set(answering);
        if self.told.as_ref() == Some(&told) {
            return;
        }
        let visitors = if answering { "visitors are answered" } else { "visitors are refused until it stands" };
        let message =
            if why.is_empty() { format!("the wall stands; {visitors}") } else { format!("the wall does not stand: {why}; {visitors}") };
        if why.is_empty() || why == NOTHING_YET {
            tracing::info!("{message}");
        } else {
            tracing::error!("{message}");
        }
        self.told = Some(told);
        self.health.health("wall", message, fields).await;
    }

    async fn packet(&mut self, packet: Packet) {
        let (wall_ns, mono_ns) = self.health.now();
        if let Some((envelope, detail)) = self.attempts.add(packet, wall_ns, mono_ns) {
            self.write(envelope, &detail).await;
        }
    }

    async fn tick(&mut self) {
        let (_, mono_ns) = self.health.now();
        for (envelope, detail) in self.attempts.tick(mono_ns) {
            self.write(envelope, &detail).await;
        }
        let unkept = self.attempts.take_unkept();
        if unkept > 0 {
            self.lose("wall_kinds", unkept, "packets the wall dropped were of more kinds than are kept apart").await;
        }
    }

    async fn write(&self, envelope: Envelope, detail: &Blocked) {
        let of = |ip: Option<IpAddr>| ip.and_then(|ip| self.decoys.get(&ip)).cloned();
        let decoy = of(envelope.wire.map(|wire| wire.source.ip)).or_else(|| of(envelope.wire.map(|wire| wire.destination.ip)));
        self.health.write(Envelope { decoy, ..envelope }, detail).await;
    }

    async fn lose(&self, place: &str, count: u64, why: &str) {
        let loss = Loss { place: place.to_owned(), count, why: why.to_owned(), ..Loss::default() };
        self.health.write(Envelope { kind: Kind::Loss.number(), ..Envelope::default() }, &loss).await;
    }
}

#[cfg(test)]
mod tests;
