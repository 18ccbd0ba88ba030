//! Flows: who spoke with whom, kept in a table of fixed size, put in order and told as records.
//!
//! It has no clock but the packets' and must never keep more than its bounds: the flow quiet for longest
//! goes when there is no room, and is counted. The same packets give the same flows and ids, whether live
//! or from a file: nothing depends on how often [`Table::sweep`] is called between two whole seconds.

mod entry;
mod key;
mod side;
mod stream;
mod table;
mod tcp;

pub use table::Table;

use glasshive_event::flow::Flow;
use glasshive_event::observation::Fact;
use glasshive_event::{FlowId, Timestamp, Tuple};

/// Idle time of UDP, the same as of a decoy's datagram session.
pub const UDP_IDLE_NS: i64 = 60_000_000_000;
/// Idle time of ICMP and of what has no ports.
pub const OTHER_IDLE_NS: i64 = 60_000_000_000;
/// Idle time of an established TCP connection.
pub const TCP_IDLE_NS: i64 = 3_600_000_000_000;
/// Idle time of TCP seen from its middle.
pub const TCP_MIDDLE_IDLE_NS: i64 = 300_000_000_000;
/// Idle time of a handshake: above the longest pause between a host's SYNs (64 s).
pub const TCP_HANDSHAKE_IDLE_NS: i64 = 75_000_000_000;
/// How long stragglers are awaited after the end.
pub const TCP_LINGER_NS: i64 = 2_000_000_000;
/// A SYN within an established connection begins another only after this silence.
pub const TCP_REUSE_NS: i64 = 30_000_000_000;
/// A long flow's records come this often.
pub const RECORD_EVERY_NS: i64 = 300_000_000_000;

/// What the table says.
#[derive(Debug)]
pub enum Said {
    /// A fact about a flow.
    Fact {
        /// When.
        at: Timestamp,
        /// Which flow, when it belongs to one.
        flow: Option<FlowId>,
        /// The ends.
        wire: Option<Tuple>,
        /// The fact.
        fact: Fact,
    },
    /// A flow's record, at the time it was due.
    Record(Timestamp, Box<Flow>),
}
