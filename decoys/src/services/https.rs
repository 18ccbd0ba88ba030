//! HTTPS: the site of [`super::http`] behind TLS. What comes in clear gets nginx's own answer to that.

use super::http::{Server, Settings};
use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::Session;
use crate::tls::Profile;
use glasshive_event::Transport;
use std::sync::Arc;
use std::time::Duration;

pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "https",
    transports: &[Transport::Tcp],
    default_ports: &[443],
    passive: false,
    protocol: "tls",
    summary: "web server (nginx of the claimed distribution) behind TLS; records hellos, secrets and every request",
    build,
};

/// `client_header_timeout` of a default nginx, which also bounds the handshake.
const FIRST_BYTE: Duration = Duration::from_secs(60);

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    let server = Arc::new(Server::new(build, &settings)?);
    let profile = Profile::new(build.decoy, "https")?;
    Ok(Arc::new(Https { server, profile }))
}

struct Https {
    server: Arc<Server>,
    profile: Profile,
}

impl Service for Https {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let (server, profile) = (Arc::clone(&self.server), self.profile.clone());
        Box::pin(async move {
            match serve(conn, session, &server, &profile).await {
                Ok(outcome) | Err(outcome) => outcome,
            }
        })
    }
}

async fn serve(mut conn: Conn, session: Session, server: &Server, profile: &Profile) -> Result<Outcome, Outcome> {
    conn.set_idle(FIRST_BYTE);
    let first = conn.peek(1).await?;
    // nginx takes a high first bit for an SSL 2 hello.
    if first.first().is_some_and(|byte| *byte == 0x16 || byte & 0x80 != 0) {
        let inner = Box::pin(conn.upgrade_tls(&session, profile)).await?;
        return Ok(Box::pin(server.serve(inner, session, true)).await);
    }
    Ok(Box::pin(server.serve_plain(conn, session)).await)
}

#[cfg(test)]
mod tests;
