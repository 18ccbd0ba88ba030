//! Any other TCP port: stores the first 4 KiB, names the protocol by its first bytes, answers only
//! what the persona says. It must never echo a visitor's bytes back.

use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::{Direction, Session};
use glasshive_event::Transport;
use glasshive_event::detail::Request;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "generic_tcp",
    transports: &[Transport::Tcp],
    default_ports: &[],
    passive: false,
    protocol: "unknown",
    summary: "any TCP port: keeps the first 4 KiB, names the protocol, answers only if configured",
    build,
};

/// Bytes stored.
const STORED: usize = 4 * 1024;
/// Longest answer.
const MAX_ANSWER: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Sent right after the connection opens; `\r\n` and `\xNN` escapes as in TOML and hexadecimal.
    banner: Option<String>,
    /// Sent after the visitor's first bytes.
    answer: Option<String>,
    /// Seconds of silence after which the connection is closed.
    #[serde(default = "minute")]
    idle_seconds: u64,
}

fn minute() -> u64 {
    60
}

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    for (key, text) in [("banner", &settings.banner), ("answer", &settings.answer)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_ANSWER) {
            return Err(format!("{key}: longer than {MAX_ANSWER} bytes; shorten it"));
        }
    }
    if settings.idle_seconds == 0 || settings.idle_seconds > 3600 {
        return Err("idle_seconds: must be 1 to 3600".into());
    }
    Ok(Arc::new(Generic(Arc::new(settings))))
}

struct Generic(Arc<Settings>);

impl Service for Generic {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let settings = Arc::clone(&self.0);
        Box::pin(async move {
            match talk(conn, &session, &settings).await {
                Ok(outcome) => outcome,
                Err(error) => error.into(),
            }
        })
    }
}

async fn talk(mut conn: Conn, session: &Session, settings: &Settings) -> std::io::Result<Outcome> {
    conn.set_idle(Duration::from_secs(settings.idle_seconds));
    if let Some(banner) = &settings.banner {
        conn.write_all(banner.as_bytes()).await?;
        session.stream(0, "tcp", Direction::Out, banner.as_bytes()).await;
    }
    let mut stored = 0usize;
    loop {
        let data = conn.read_some(16 * 1024).await?;
        if data.is_empty() {
            return Ok(Outcome::Client);
        }
        let kept = data.get(..data.len().min(STORED.saturating_sub(stored))).unwrap_or_default();
        session.count_cut((data.len() - kept.len()) as u64);
        if stored == 0 {
            let probe = glasshive_proto::probe::probe(&data);
            let mut fields = serde_json::Map::new();
            fields.insert("bytes".into(), data.len().into());
            let protocol = probe.protocol.unwrap_or("unknown").to_owned();
            session.request(&Request { protocol, verb: "first-bytes".into(), fields, ..Request::default() }).await;
        }
        session.stream(0, "tcp", Direction::In, kept).await;
        if let (0, Some(answer)) = (stored, &settings.answer) {
            conn.write_all(answer.as_bytes()).await?;
            session.stream(0, "tcp", Direction::Out, answer.as_bytes()).await;
        }
        stored = stored.saturating_add(data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Kit;
    use base64::Engine as _;
    use glasshive_event::Kind;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn stores_the_first_bytes_and_counts_the_rest() {
        let kit = Kit::new(&SERVICE, "answer = \"hm\\r\\n\"").unwrap();
        let mut client = kit.connect();
        client.write_all(&[0x41; 10_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        assert_eq!(out, b"hm\r\n");
        let seen = kit.memory.closed(1).await;
        let stored: usize = seen
            .iter()
            .filter(|s| s.kind == Kind::Stream && s.detail["direction"] == "in")
            .flat_map(|s| s.detail["chunks"].as_array().unwrap().clone())
            .map(|c| base64::engine::general_purpose::STANDARD.decode(c[1].as_str().unwrap()).unwrap().len())
            .sum();
        assert_eq!(stored, 4096);
        let close = seen.iter().find(|s| s.kind == Kind::SessionClose).unwrap();
        assert_eq!(close.detail["bytes_in"], 10_000);
        assert_eq!(close.detail["cut_bytes"], 10_000 - 4096);
        assert_eq!(close.detail["reason"], "client");
    }

    #[tokio::test]
    async fn silence_is_recorded_too() {
        let kit = Kit::new(&SERVICE, "").unwrap();
        drop(kit.connect());
        let seen = kit.memory.closed(1).await;
        assert_eq!(seen.iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::SessionOpen, Kind::SessionClose]);
    }
}
