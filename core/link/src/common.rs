//! What both ends share: limits, connecting, pauses between attempts.

use crate::error::LinkError;
use crate::identity::IdentityError;
use crate::tls;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Most bytes in one batch, unless a single block is larger.
pub(crate) const BATCH: usize = 256 * 1024;
/// Most batches in flight.
pub(crate) const BATCHES: usize = 64;
/// Most requests at once.
pub(crate) const REQUESTS: usize = 16;
/// Most bytes of one answer frame.
pub(crate) const CHUNK: u32 = 64 * 1024;

/// TCP and TLS within `deadline` each; the verifier judged the other side when this returns.
pub(crate) async fn connect(
    address: &str,
    tls: Arc<rustls::ClientConfig>,
    deadline: Duration,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkError> {
    let unreachable = |source| LinkError::Unreachable { address: address.to_owned(), source };
    let late = || unreachable(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let tcp = timeout(deadline, TcpStream::connect(address)).await.map_err(|_| late())?.map_err(unreachable)?;
    let _ = tcp.set_nodelay(true);
    let handshake = TlsConnector::from(tls).connect(tls::server_name()?, tcp);
    timeout(deadline, handshake).await.map_err(|_| LinkError::Silent(deadline))?.map_err(LinkError::Tls)
}

/// A pause drawn from [half a step, a step], the step doubling up to the longest: many nodes do not come back together.
pub(crate) fn pause((first, longest): (Duration, Duration), attempt: u32) -> Duration {
    let step = first.saturating_mul(1u32.checked_shl(attempt.min(16)).unwrap_or(u32::MAX)).min(longest);
    let random = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    step.mul_f64(random).max(first.min(step) / 2)
}

/// File work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static) -> Result<T, LinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(LinkError::Stopping),
    }
}

/// Our time when the other side answered, if both ways took equally long.
pub(crate) fn middle(sent_ns: i64, received_ns: i64) -> i64 {
    sent_ns.saturating_add(received_ns.saturating_sub(sent_ns) / 2)
}
