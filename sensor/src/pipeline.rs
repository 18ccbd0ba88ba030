//! From packets to flows, observations and findings: the same for a live interface and for files.
//!
//! It has no clock but the packets', opens nothing, and its memory is bounded whatever comes.

use glasshive_detect::{DetectorDef, Finding, Segment};
use glasshive_event::Timestamp;
use glasshive_event::flow::{Flow, FlowEnd};
use glasshive_event::observation::Observation;
use std::sync::Arc;

/// One captured packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When it was captured.
    pub at: Timestamp,
    /// Link type (pcap's LINKTYPE registry).
    pub link_type: u16,
    /// The bytes captured.
    pub data: &'a [u8],
    /// How long it was on the wire.
    pub original_length: u32,
}

/// What the pipeline says.
#[derive(Debug, Clone)]
pub enum Output {
    /// A flow's record.
    Flow(Box<Flow>),
    /// A fact, malformed ones included.
    Observation(Box<Observation>),
    /// A judgement, with the detector that made it.
    Finding(&'static DetectorDef, Box<Finding>),
}

/// What it needs to know.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Name of the net, part of every join key (`conn`); empty = no join keys.
    pub net: String,
    /// What is open on the segment.
    pub segment: Arc<Segment>,
    /// `[detect]`: a table of settings per detector.
    pub detect: toml::Table,
    /// Most flows held at once; 0 = the default.
    pub max_flows: usize,
}

/// What it has seen and what it had to let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Packets taken.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Flows begun.
    pub flows: u64,
    /// Findings made.
    pub findings: u64,
    /// Packets that could not be taken apart down to their end.
    pub malformed: u64,
    /// Flows forgotten for want of room.
    pub flows_evicted: u64,
    /// Fragments or segments forgotten for want of room.
    pub reassembly_evicted: u64,
    /// Keys detectors had to forget.
    pub detector_evicted: u64,
}

/// Decoder, flow table, parsers and wire detectors in one.
#[derive(Debug)]
pub struct Pipeline {
    counts: Counts,
}

impl Pipeline {
    /// An empty one.
    ///
    /// # Errors
    /// Settings a detector refuses: one line naming the key.
    pub fn new(settings: Settings) -> Result<Self, glasshive_detect::BuildError> {
        let _ = settings;
        Ok(Self { counts: Counts::default() })
    }

    /// Takes the next packet.
    pub fn packet(&mut self, packet: &Packet<'_>, out: &mut dyn FnMut(Output)) {
        let _ = (packet, out);
    }

    /// Nothing came until `now`: ends what is idle and lets detectors close what is due.
    pub fn tick(&mut self, now: Timestamp, out: &mut dyn FnMut(Output)) {
        let _ = (now, out);
    }

    /// Packets were lost about `at`: open flows are marked.
    pub fn lost(&mut self, at: Timestamp, packets: u64) {
        let _ = (at, packets);
    }

    /// Ends every flow. Call once, at the end.
    pub fn finish(&mut self, end: FlowEnd, out: &mut dyn FnMut(Output)) {
        let _ = (end, out);
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
