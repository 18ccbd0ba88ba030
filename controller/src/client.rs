//! How the command line asks: the running daemon through its admin socket, or, with the daemon
//! down, the store itself, opened as the daemon would, under the same lock.

use crate::ask::{Answer, End, MAX_ANSWER, Request};
use crate::config::Config;
use crate::desk::{Desk, Operator};
use crate::fail::Failure;
use crate::query::{self, Context};
use futures_util::{SinkExt as _, StreamExt as _};
use glasshive_journal::store::{Store, StoreError, StoreHandle};
use glasshive_link::identity::ControllerIdentity;
use serde_json::Value;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LinesCodec};

/// Someone to ask.
pub enum Client {
    /// The daemon's socket.
    Daemon(std::path::PathBuf),
    /// The store, opened here.
    Direct(Box<Direct>),
}

/// The store opened by this process.
pub struct Direct {
    context: Context,
    store: Store,
}

impl Client {
    /// The daemon when it answers, the store itself when nobody holds it.
    pub async fn open(config: Config) -> Result<Self, Failure> {
        let socket = config.socket.clone();
        match UnixStream::connect(&socket).await {
            Ok(_) => return Ok(Self::Daemon(socket)),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Failure::refused(format!(
                    "{}: not allowed: the socket belongs to the daemon's user; use sudo",
                    socket.display()
                )));
            }
            Err(_) => {}
        }
        if !config.state_dir.join("log").exists() {
            return Err(Failure::unreachable(format!(
                "no daemon answers at {} and there is no log in {}: start glasshive serve, or name another with --config, --state-dir or --socket",
                socket.display(),
                config.state_dir.display()
            )));
        }
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || open_store(&opening)).await.map_err(Failure::failed)?;
        let (store, handle) = opened.map_err(|error| match error {
            StoreError::Locked { .. } => Failure::unreachable(format!("nothing answers at {}, but {error}", socket.display())),
            other => Failure::from(other),
        })?;
        let dir = config.identity_dir();
        let identity = if ControllerIdentity::exists(&dir) {
            let identity = ControllerIdentity::load(&dir, Arc::new(glasshive_link::SystemClock)).map_err(Failure::failed)?;
            Some(Arc::new(identity.with_addresses(config.controllers())))
        } else {
            None
        };
        let desk = Arc::new(Desk::open(handle.clone(), &config.state_dir).await?);
        let context = Context { store: handle, config: Arc::new(config), desk, identity, live: None };
        Ok(Self::Direct(Box::new(Direct { context, store })))
    }

    /// Asks; the answer ends with [`Answer::End`] or [`Answer::Error`].
    pub async fn ask(&self, request: Request) -> Result<mpsc::Receiver<Answer>, Failure> {
        match self {
            Self::Direct(direct) => Ok(query::start(direct.context.clone(), Operator::this_process(), request)),
            Self::Daemon(socket) => {
                let unreachable = |why: String| Failure::unreachable(format!("{}: {why}", socket.display()));
                let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(error.to_string()))?;
                let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_ANSWER));
                let line = serde_json::to_string(&request).map_err(Failure::failed)?;
                lines.send(line).await.map_err(|error| unreachable(error.to_string()))?;
                let (to, from) = mpsc::channel(64);
                tokio::spawn(async move {
                    loop {
                        let line = tokio::select! {
                            line = lines.next() => line,
                            () = to.closed() => break,
                        };
                        let broken = |why: String| Answer::Error(Failure::unreachable(format!("the daemon's answer broke off: {why}")));
                        let answer = match line {
                            Some(Ok(line)) => serde_json::from_str(&line).unwrap_or_else(|error| broken(error.to_string())),
                            Some(Err(error)) => broken(error.to_string()),
                            None => broken("the daemon stopped".to_owned()),
                        };
                        let last = !matches!(answer, Answer::Item(_));
                        if to.send(answer).await.is_err() || last {
                            break;
                        }
                    }
                });
                Ok(from)
            }
        }
    }

    /// Asks and waits for the whole answer.
    pub async fn all(&self, request: Request) -> Result<(Vec<Value>, End), Failure> {
        let mut answers = self.ask(request).await?;
        let mut items = Vec::new();
        loop {
            match answers.recv().await {
                Some(Answer::Item(item)) => items.push(item),
                Some(Answer::End(end)) => return Ok((items, end)),
                Some(Answer::Error(failure)) => return Err(failure),
                None => return Err(Failure::failed("the answer broke off")),
            }
        }
    }

    /// Writes down what is about to be done with the store opened here; the daemon does that itself.
    pub async fn audit(&self, by: &Operator, action: &str, object: &str) -> Result<(), Failure> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Direct(direct) => direct.context.desk.audit(by, action, object, "").await,
        }
    }

    /// Closes the store if it was opened here.
    pub async fn close(self) -> Result<(), Failure> {
        if let Self::Direct(direct) = self {
            let Direct { context, store } = *direct;
            drop(context);
            close_store(store).await?;
        }
        Ok(())
    }
}

/// Opens the store of a configuration. Blocks.
pub fn open_store(config: &Config) -> Result<(Store, StoreHandle), StoreError> {
    // What visitors sent is nobody else's to read.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
    made.map_err(|source| StoreError::Io { path: config.state_dir.clone(), source })?;
    let (store, handle, report) = glasshive_journal::store::open(config.store())?;
    for what in &report.quarantined {
        tracing::warn!(what, "moved aside because it could not be read");
    }
    Ok((store, handle))
}

/// Closes a store off the async threads.
pub async fn close_store(store: Store) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(move || store.close()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed(format!("closing the store: {error}"))),
    }
}
