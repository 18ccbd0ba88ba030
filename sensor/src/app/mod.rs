//! What a flow says: protocols by content, one file each, as facts for the detectors.
//!
//! A [`Conversation`] gets one flow's bytes in order (TCP) or datagram by datagram and turns them into
//! [`Fact`]s. It must never keep more than its bound, judge, or believe a length; bytes that break a
//! protocol become a `malformed` fact, once, and the conversation is left alone from there on.

use glasshive_event::Timestamp;
use glasshive_event::flow::Application;
use glasshive_event::observation::Fact;

/// Which side of a flow bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The one who began it.
    Source,
    /// The one who was asked.
    Destination,
}

/// The parsers' state of one flow.
#[derive(Debug, Default)]
pub struct Conversation {
    application: Application,
}

impl Conversation {
    /// For a flow of that IP protocol to that port (the port only breaks ties, it never decides).
    pub fn new(protocol: u8, port: u16) -> Self {
        let _ = (protocol, port);
        Self::default()
    }

    /// The next bytes of one side of a TCP stream, `offset` bytes into that side's stream.
    pub fn bytes(&mut self, at: Timestamp, from: Speaker, offset: u64, bytes: &[u8], out: &mut Vec<Fact>) {
        let _ = (at, from, offset, bytes, out);
    }

    /// `missing` bytes of one side were not seen; the next [`Self::bytes`] comes after them.
    pub fn gap(&mut self, at: Timestamp, from: Speaker, missing: u64, out: &mut Vec<Fact>) {
        let _ = (at, from, missing, out);
    }

    /// One datagram's payload.
    pub fn datagram(&mut self, at: Timestamp, from: Speaker, bytes: &[u8], out: &mut Vec<Fact>) {
        let _ = (at, from, bytes, out);
    }

    /// The flow ended: say what was kept back.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<Fact>) {
        let _ = (at, out);
    }

    /// What is known of the application; `None` until its protocol is known.
    pub fn application(&self) -> Option<&Application> {
        (!self.application.protocol.is_empty()).then_some(&self.application)
    }
}
