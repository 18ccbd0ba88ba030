//! Sockets the daemons bind: before the lockdown, before the runtime, each fault named in one line.
//!
//! Everything returned is a non-blocking `std` socket; inside the runtime turn it into tokio's with
//! `from_std` (TCP) or [`Datagrams::from_std`] (UDP).

mod holder;
mod syn;
mod tcp;
mod udp;

pub use holder::{Holder, holder};
pub use syn::syn_isn;
pub use tcp::{BoundTcp, TcpOptions, accepted_syn, arm_reset, bind_tcp, client_isn, listen_tcp, reset};
pub use udp::{Datagram, Datagrams, ReplyFrom, UdpOptions, bind_udp};

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The two transports decoys serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A socket that cannot be had: which, why, and who has it. `Display` is one line.
#[derive(Debug)]
pub struct BindError {
    /// Transport asked for.
    pub transport: Transport,
    /// Address asked for.
    pub address: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
    /// Who has it, when it is in use and can be seen.
    pub holder: Option<Holder>,
}

impl BindError {
    fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        let taken = source.kind() == io::ErrorKind::AddrInUse;
        Self { transport, address, holder: if taken { holder(transport, address) } else { None }, source }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} {}: ", self.transport, self.address)?;
        match (self.source.kind(), &self.holder) {
            (io::ErrorKind::AddrInUse, Some(holder)) => write!(f, "in use by {holder}: stop it or choose another address or port"),
            (io::ErrorKind::AddrInUse, None) => {
                f.write_str("in use by another process: find it as root with `ss -lnp`, stop it or choose another")
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                f.write_str("this host does not have the address: add it, or route it here (local route)")
            }
            (io::ErrorKind::PermissionDenied, _) if self.source.raw_os_error() == Some(libc::EPERM) => {
                f.write_str("not permitted: transparent sockets need CAP_NET_ADMIN or CAP_NET_RAW")
            }
            (io::ErrorKind::PermissionDenied, _) => f.write_str("not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE"),
            _ => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindError {}
