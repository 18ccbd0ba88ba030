//! A pure view of an event or parser result, as detectors see it. Never a stored format.

use crate::envelope::Tuple;
use crate::id::SessionId;
use crate::time::Timestamp;

/// One fact at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation<'a> {
    /// When it happened, from the packet or the record; detectors have no other clock.
    pub at: Timestamp,
    /// Session it belongs to, when a decoy saw it.
    pub session: Option<SessionId>,
    /// Ends of the connection.
    pub wire: Option<Tuple>,
    /// The fact.
    pub fact: Fact<'a>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// A login attempt at a decoy.
    Login {
        /// Account name as sent.
        user: &'a str,
        /// Whether the decoy let it in.
        accepted: bool,
    },
    /// A session was opened.
    Opened,
}
