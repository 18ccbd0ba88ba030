//! The stored record: what every part of Glasshive writes, sends, keeps and shows.
//!
//! A [`record::RecordView`] is a fixed header, a postcard [`Envelope`] (who, where, when) and a
//! self-describing JSON detail whose shape is fixed by the record's [`kind::Kind`]. The same bytes
//! are hashed, stored, sent and exported; nothing re-encodes them.
//!
//! This crate must never open a socket, a file or a clock.

pub mod attack;
pub mod detail;
pub mod envelope;
pub mod finding;
pub mod flow;
pub mod id;
pub mod kind;
pub mod observation;
pub mod record;
pub mod scope;
pub mod text;
pub mod time;

pub use envelope::{Endpoint, Envelope, Transport, Tuple};
pub use finding::{Severity, StoredFinding};
pub use flow::Flow;
pub use id::{ConnId, EventId, FindingId, FlowId, LogId, SessionId};
pub use kind::Kind;
pub use record::{Body, Header, RecordView};
pub use scope::{PacketMatch, PacketScope};
pub use text::WireText;
pub use time::Timestamp;
