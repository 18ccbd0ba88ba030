//! The admin socket: one JSON line asks, a stream of JSON lines answers. Mode 0600; who asks is the
//! peer's user id as the kernel gives it, never what a line claims.

use crate::ask::{Answer, MAX_REQUEST, Request};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::query::{self, Context};
use futures_util::{SinkExt as _, StreamExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Questions answered at once.
const MAX_ASKERS: usize = 64;
/// A question must arrive within this.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// A bound socket; its file goes when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket; the caller holds the store's lock, so an old file is a leftover.
pub fn bind(path: &Path) -> Result<Socket, Failure> {
    let fail = |error: std::io::Error| {
        Failure::failed(format!("{}: the admin socket cannot be made: {error}: set socket in controller.toml, or --socket", path.display()))
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    // Bound under another name, closed to others, then renamed: there is no moment at which others could connect.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).map_err(fail)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    std::fs::rename(&beside, path).map_err(fail)?;
    Ok(Socket { listener, path: path.to_owned() })
}

/// Serves until told to stop; open answers are cut then.
pub async fn serve(socket: Socket, cx: Context, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_ASKERS));
    let tasks = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = Arc::clone(&slots).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (cx, stop) = (cx.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = Box::pin(one(stream, cx)) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    tasks.close();
    tasks.wait().await;
}

async fn one(stream: UnixStream, cx: Context) {
    let by = match stream.peer_cred() {
        Ok(peer) => Operator::of(peer.uid()),
        Err(error) => {
            tracing::warn!(%error, "admin socket: the kernel does not say who asks");
            return;
        }
    };
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_REQUEST));
    let asked = match tokio::time::timeout(ASK_WITHIN, lines.next()).await {
        Ok(Some(Ok(line))) => serde_json::from_str::<Request>(&line).map_err(|error| Failure::usage(format!("not a request: {error}"))),
        Ok(Some(Err(error))) => Err(Failure::usage(format!("not a request: {error}"))),
        Ok(None) => return,
        Err(_) => Err(Failure::usage("no request came within 10 s")),
    };
    let request = match asked {
        Ok(request) => request,
        Err(failure) => {
            let _ = send(&mut lines, &Answer::Error(failure)).await;
            return;
        }
    };
    let mut answers = query::start(cx, by, request);
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            // The reader says nothing more; when it hangs up, a follow ends.
            more = lines.next() => match more {
                Some(Ok(_)) => continue,
                _ => break,
            },
        };
        let Some(answer) = answer else { break };
        if send(&mut lines, &answer).await.is_err() {
            break;
        }
    }
}

async fn send(lines: &mut Framed<UnixStream, LinesCodec>, answer: &Answer) -> Result<(), ()> {
    let line = serde_json::to_string(answer).map_err(|_| ())?;
    lines.send(line).await.map_err(|_| ())
}
