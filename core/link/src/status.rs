//! What a node can say about its link, in words an operator can act on.

use serde::{Deserialize, Serialize};

/// Where a node's link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkPhase {
    /// No identity yet: the node journals and sends nothing.
    #[default]
    Standalone,
    /// Trying, or waiting to be dialled.
    Waiting,
    /// Proven on both sides and sending.
    Connected,
    /// Ended by shutdown.
    Stopped,
}

/// What went wrong last, for programs; the text beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The identity directory cannot be used.
    Identity,
    /// Nothing answers at the controller's address.
    Unreachable,
    /// The other side's certificate is not of our CA, or not the CA of the token.
    WrongAuthority,
    /// The controller took our certificate off its list.
    Revoked,
    /// Our certificate has expired.
    Expired,
    /// A certificate is outside its validity by one of the two clocks.
    Clock,
    /// The one-time token was refused.
    TokenRefused,
    /// The controller refused for a reason it gave.
    Refused,
    /// The controller's store is full or busy; it said when to come back.
    Busy,
    /// The controller holds other records than this journal under the same log.
    Diverged,
    /// The other side broke the protocol, or the connection broke.
    Broken,
}

/// Status of a node's link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Where it stands.
    pub phase: LinkPhase,
    /// The node's name, once it has an identity.
    pub node: Option<String>,
    /// Address of the controller being tried, connected to, or that dialled.
    pub controller: Option<String>,
    /// Highest record the controller holds durably.
    pub durable: u64,
    /// One more than the last record durable here.
    pub next: u64,
    /// Bytes sent and not yet acknowledged.
    pub in_flight: u64,
    /// Our clock minus the controller's, nanoseconds.
    pub offset_ns: Option<i64>,
    /// Days until our certificate expires.
    pub certificate_days: Option<i64>,
    /// Serial of our certificate: changes with renewal.
    pub serial: Option<String>,
    /// Connections made since start.
    pub connections: u64,
    /// What went wrong last.
    pub problem: Option<Problem>,
    /// The same in one line for people.
    pub last_error: Option<String>,
}
