//! The envelope: what every event has in common, in postcard.
//!
//! postcard has no field tags: a published variant never changes. A new shape is a new variant at
//! the end of [`Wire`], and readers keep every old one.

use crate::id::{ConnId, SessionId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Transport of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A byte stream.
    Tcp,
    /// Datagrams of one tuple within one idle constant.
    Udp,
}

impl Transport {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// `tcp` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// An address and port. IPv4-mapped IPv6 addresses are stored as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { ip: addr.ip().to_canonical(), port: addr.port() }
    }
}
impl From<Endpoint> for SocketAddr {
    fn from(end: Endpoint) -> Self {
        Self::new(end.ip, end.port)
    }
}
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

/// The two ends of a connection as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// The visitor.
    pub source: Endpoint,
    /// The decoy.
    pub destination: Endpoint,
}

impl Default for Tuple {
    fn default() -> Self {
        let none = Endpoint { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0 };
        Self { source: none, destination: none }
    }
}

/// What every event has in common. `None` = does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Envelope {
    /// Number of a [`crate::Kind`].
    pub kind: u16,
    /// The session the event belongs to.
    pub session: Option<SessionId>,
    /// The session this one was opened inside of (tunnels, FTP data).
    pub parent: Option<SessionId>,
    /// Join key with the sensor's flows.
    pub conn: Option<ConnId>,
    /// Name of the decoy.
    pub decoy: Option<String>,
    /// Name of the service.
    pub service: Option<String>,
    /// Transport of the session.
    pub transport: Option<Transport>,
    /// Socket tuple.
    pub wire: Option<Tuple>,
    /// Source as claimed by an allow-listed PROXY-protocol peer; never mixed with `wire`.
    pub claimed: Option<Endpoint>,
}

impl Envelope {
    /// The source an analyst means: the claimed one when an allow-listed proxy gave it, else the wire's.
    pub fn source(&self) -> Option<Endpoint> {
        self.claimed.or_else(|| self.wire.map(|tuple| tuple.source))
    }
}

/// Stored form; variants are only ever added at the end.
#[derive(Serialize, Deserialize)]
pub(crate) enum Wire {
    V1(WireV1),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct WireV1 {
    kind: u16,
    session: Option<[u8; 16]>,
    parent: Option<[u8; 16]>,
    conn: Option<[u8; 16]>,
    decoy: Option<String>,
    service: Option<String>,
    transport: Option<u8>,
    wire: Option<(WireEnd, WireEnd)>,
    claimed: Option<WireEnd>,
}

#[derive(Serialize, Deserialize)]
enum WireEnd {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<Endpoint> for WireEnd {
    fn from(end: Endpoint) -> Self {
        match end.ip {
            IpAddr::V4(ip) => Self::V4(ip.octets(), end.port),
            IpAddr::V6(ip) => Self::V6(ip.octets(), end.port),
        }
    }
}
impl From<WireEnd> for Endpoint {
    fn from(end: WireEnd) -> Self {
        match end {
            WireEnd::V4(ip, port) => Self { ip: Ipv4Addr::from(ip).into(), port },
            WireEnd::V6(ip, port) => Self { ip: Ipv6Addr::from(ip).into(), port },
        }
    }
}

impl From<&Envelope> for Wire {
    fn from(e: &Envelope) -> Self {
        Self::V1(WireV1 {
            kind: e.kind,
            session: e.session.map(|id| id.0),
            parent: e.parent.map(|id| id.0),
            conn: e.conn.map(|id| id.0),
            decoy: e.decoy.clone(),
            service: e.service.clone(),
            transport: e.transport.map(Transport::number),
            wire: e.wire.map(|tuple| (tuple.source.into(), tuple.destination.into())),
            claimed: e.claimed.map(WireEnd::from),
        })
    }
}

impl From<Wire> for Envelope {
    fn from(wire: Wire) -> Self {
        let Wire::V1(e) = wire;
        Self {
            kind: e.kind,
            session: e.session.map(SessionId),
            parent: e.parent.map(SessionId),
            conn: e.conn.map(ConnId),
            decoy: e.decoy,
            service: e.service,
            transport: e.transport.and_then(|number| match number {
                6 => Some(Transport::Tcp),
                17 => Some(Transport::Udp),
                _ => None,
            }),
            wire: e.wire.map(|(source, destination)| Tuple { source: source.into(), destination: destination.into() }),
            claimed: e.claimed.map(Endpoint::from),
        }
    }
}
