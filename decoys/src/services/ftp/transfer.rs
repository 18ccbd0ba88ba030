//! Transfers over passive data connections.

use super::tree::resolve;
use super::{Account, Reply, Visit, list, say};
use crate::conn::Conn;
use crate::services::Outcome;
use crate::session::{DataConn, clip};
use glasshive_event::Kind;
use glasshive_event::detail::File;
use glasshive_event::text::hex;
use sha2::{Digest as _, Sha256};
use std::io;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// `accept_timeout`.
const ACCEPT: Duration = Duration::from_secs(60);
/// `data_connection_timeout`.
const DATA: Duration = Duration::from_secs(300);

impl Visit<'_> {
    /// Waits for the data connection, as vsftpd does before it says anything.
    async fn data(&mut self) -> Option<DataConn> {
        let passive = self.passive.take()?;
        let cancelled = self.session.cancelled();
        let mut data = tokio::select! {
            data = passive.accept(ACCEPT) => data?,
            () = cancelled.cancelled() => return None,
        };
        data.conn.set_idle(DATA);
        Some(data)
    }

    pub(super) async fn send_list(&mut self, conn: &mut Conn, account: &Account, argument: &[u8], long: bool) -> io::Result<Reply> {
        if self.passive.is_none() {
            return Ok(say("425 Use PORT or PASV first."));
        }
        let Some(mut data) = self.data().await else { return Ok(say("425 Failed to establish connection.")) };
        conn.write_all(b"150 Here comes the directory listing.\r\n").await?;
        let listing = {
            let tree = account.tree.lock().unwrap_or_else(PoisonError::into_inner);
            list::list(&tree, &account.cwd, argument, long, self.session.now_ns())
        };
        let sent = send(&mut data, listing.as_deref().unwrap_or_default()).await;
        data.finish(Outcome::Server);
        Ok(say(match (sent, listing) {
            (Err(_), _) => "426 Failure writing network stream.",
            (Ok(()), None) => "226 Transfer done (but failed to open directory).",
            (Ok(()), Some(_)) => "226 Directory send OK.",
        }))
    }

    pub(super) async fn retrieve(&mut self, conn: &mut Conn, account: &Account, argument: &[u8]) -> io::Result<Reply> {
        let restart = usize::try_from(std::mem::take(&mut self.restart)).unwrap_or(usize::MAX);
        if self.passive.is_none() {
            return Ok(say("425 Use PORT or PASV first."));
        }
        if restart > 0 && !self.binary {
            return Ok(say("550 No support for resume of ASCII transfer."));
        }
        let path = resolve(&account.cwd, argument);
        let found = account.tree.lock().unwrap_or_else(PoisonError::into_inner).file(&path);
        let Some((content, _)) = found.filter(|_| !argument.is_empty()) else { return Ok(say("550 Failed to open file.")) };
        let Some(mut data) = self.data().await else { return Ok(say("425 Failed to establish connection.")) };
        // vsftpd says BINARY for ASCII too, and sends the bytes as they are.
        let mut opening = b"150 Opening BINARY mode data connection for ".to_vec();
        opening.extend_from_slice(argument);
        opening.extend_from_slice(format!(" ({} bytes).\r\n", content.len()).as_bytes());
        conn.write_all(&opening).await?;
        let part = content.get(restart..).unwrap_or_default();
        let sent = send(&mut data, part).await;
        data.finish(Outcome::Server);
        let detail = File {
            name: clip(&path),
            size: part.len() as u64,
            sha256: hex(&Sha256::digest(part)),
            direction: "download".into(),
            magic: glasshive_proto::magic::magic(part).to_owned(),
            ..File::default()
        };
        self.session.emit(Kind::File, &detail).await;
        Ok(say(if sent.is_ok() { "226 Transfer complete." } else { "426 Failure writing network stream." }))
    }

    pub(super) async fn store(&mut self, conn: &mut Conn, account: &Account, verb: &[u8], argument: &[u8]) -> io::Result<Reply> {
        let restart = usize::try_from(std::mem::take(&mut self.restart)).unwrap_or(usize::MAX);
        if self.passive.is_none() {
            return Ok(say("425 Use PORT or PASV first."));
        }
        let mut name = argument.to_vec();
        let mut path = resolve(&account.cwd, argument);
        let (held, room) = {
            let mut tree = account.tree.lock().unwrap_or_else(PoisonError::into_inner);
            if verb == b"STOU" {
                if name.is_empty() {
                    name = b"STOU".to_vec();
                }
                let wish = name.clone();
                let mut number = u32::from(argument.is_empty());
                loop {
                    if number > 0 {
                        name = [wish.as_slice(), format!(".{number}").as_bytes()].concat();
                    }
                    path = resolve(&account.cwd, &name);
                    if tree.get(&path).is_none() || number > 1000 {
                        break;
                    }
                    number += 1;
                }
            }
            let old = tree.file(&path).map(|(content, _)| content);
            let mut held = match (&old, verb) {
                (Some(old), b"APPE") => old.to_vec(),
                (Some(old), _) if restart > 0 => old.to_vec(),
                _ => Vec::new(),
            };
            if name.is_empty() || tree.write(&path, std::mem::take(&mut held), self.session.now_ns()).is_err() {
                return Ok(say("553 Could not create file."));
            }
            let held = tree.file(&path).map(|(content, _)| content.to_vec()).unwrap_or_default();
            let room = tree.room();
            (held, room)
        };
        let Some(mut data) = self.data().await else { return Ok(say("425 Failed to establish connection.")) };
        if verb == b"STOU" {
            conn.write_all(&[b"150 FILE: ", name.as_slice(), b"\r\n"].concat()).await?;
        } else {
            conn.write_all(b"150 Ok to send data.\r\n").await?;
        }
        let mut upload = self.session.upload(&path);
        let mut at = if verb == b"APPE" { held.len() } else { restart };
        // A hole before a restart costs memory that was never sent.
        let mut full = at > held.len().saturating_add(room);
        let limit = held.len().saturating_add(room);
        let mut content = held;
        let ended = loop {
            match data.conn.read_some(16 * 1024).await {
                Ok(part) if part.is_empty() => break Ok(()),
                Ok(part) => {
                    upload.write(&part).await;
                    let end = at.saturating_add(part.len());
                    if full || end > limit {
                        full = true;
                        continue;
                    }
                    if content.len() < end {
                        content.resize(end, 0);
                    }
                    if let Some(place) = content.get_mut(at..end) {
                        place.copy_from_slice(&part);
                    }
                    at = end;
                }
                Err(error) => break Err(error),
            }
        };
        let _ = upload.finish().await;
        data.finish(match &ended {
            Ok(()) => Outcome::Client,
            Err(error) => Outcome::from_io(error),
        });
        let now = self.session.now_ns();
        let kept = account.tree.lock().unwrap_or_else(PoisonError::into_inner).write(&path, content, now);
        Ok(match ended {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Reply::Last(b"421 Data timeout. Reconnect. Sorry.\r\n".to_vec()),
            Err(_) => say("426 Failure reading network stream."),
            Ok(()) if full || kept.is_err() => say("451 Failure writing to local file."),
            Ok(()) => say("226 Transfer complete."),
        })
    }
}

/// Sends all and closes our side.
async fn send(data: &mut DataConn, content: &[u8]) -> io::Result<()> {
    let work = async {
        for part in content.chunks(64 * 1024) {
            tokio::time::timeout(DATA, data.conn.write_all(part)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        data.conn.shutdown().await
    };
    work.await
}
