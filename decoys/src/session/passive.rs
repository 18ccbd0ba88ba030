//! Data connections of a session (FTP passive mode): the port opens when asked for, takes one
//! connection, and that connection is a session of its own with this one as its parent.

use super::{Peer, Session, run};
use crate::conn::{Conn, Duplex};
use crate::recorder::{BoxFuture, Room};
use crate::services::{Outcome, Service};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Gives out passive ports; they were bound before the daemon locked itself down.
pub trait PassivePorts: Send + Sync {
    /// Opens a port on the decoy's address; `None`: all are in use.
    fn open(&self, address: IpAddr) -> Option<Box<dyn PassivePort>>;
}

/// One open passive port; dropping it closes the port.
pub trait PassivePort: Send {
    /// Where the visitor must connect.
    fn address(&self) -> SocketAddr;
    /// Next connection: the stream and what is known of it.
    fn accept(&mut self) -> BoxFuture<'_, std::io::Result<(Box<dyn Duplex>, Peer)>>;
}

/// A passive port waiting for its connection.
pub struct Passive {
    session: Session,
    port: Box<dyn PassivePort>,
}

/// A data connection. Dropping it ends its session.
pub struct DataConn {
    /// The bytes.
    pub conn: Conn,
    /// Records of the data connection; closed by the listener's rules.
    pub session: Session,
    done: Option<oneshot::Sender<Outcome>>,
}

impl Passive {
    pub(super) fn new(session: Session, port: Box<dyn PassivePort>) -> Self {
        Self { session, port }
    }

    /// Where the visitor must connect.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Waits for the data connection; `None` when none came in time. Connections from another address
    /// than the visitor's are recorded, reset and not used.
    pub async fn accept(mut self, wait: Duration) -> Option<DataConn> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (mut stream, peer) = tokio::time::timeout_at(deadline, self.port.accept()).await.ok()?.ok()?;
            let wanted = peer.wire.source.ip == self.session.0.peer.wire.source.ip;
            let session = self.session.related(peer, Some(self.port.address().to_string()));
            if !wanted {
                stream.reset_on_drop();
            }
            let conn = Conn::boxed(stream, session.counters(), session.decoy().limits.idle);
            let (give, take) = oneshot::channel();
            let (done, ended) = oneshot::channel();
            let lender: Arc<dyn Service> = Arc::new(Lend(Mutex::new(Some((give, ended)))));
            let serving = run(lender, conn, session.clone(), Room::Wait);
            self.session.spawn(async move {
                serving.await;
            });
            if wanted {
                let conn = take.await.ok()?;
                return Some(DataConn { conn, session, done: Some(done) });
            }
            let _ = done.send(Outcome::Server);
        }
    }
}

impl DataConn {
    /// Ends the data connection with an outcome of its own.
    pub fn finish(mut self, outcome: Outcome) {
        if let Some(done) = self.done.take() {
            let _ = done.send(outcome);
        }
    }
}

type Loan = (oneshot::Sender<Conn>, oneshot::Receiver<Outcome>);

/// Lends its connection to the parent's service and waits until it is done with it.
struct Lend(Mutex<Option<Loan>>);

impl Service for Lend {
    fn serve(&self, conn: Conn, _session: Session) -> BoxFuture<'static, Outcome> {
        let loan = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some((give, ended)) = loan else { return Outcome::Server };
            let _ = give.send(conn);
            // A dropped sender: the parent let go without a word.
            ended.await.unwrap_or(Outcome::Server)
        })
    }
}
