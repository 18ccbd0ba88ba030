//! From packets to flows, observations and findings: the same for a live interface and for files.
//!
//! It has no clock but the packets', opens nothing, and its memory is bounded whatever comes.

use crate::decode::{Decoder, Fault, Sink, Unit};
use crate::flow::{Said, Table};
use glasshive_detect::{BuildError, DETECTORS, Detector, DetectorDef, Finding, Findings, Segment, Site};
use glasshive_event::flow::{Flow, FlowEnd};
use glasshive_event::observation::{Arp, Fact, Malformed, Observation};
use glasshive_event::{Endpoint, Timestamp, Tuple, text};
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
    /// Packets of link types this build does not know.
    pub unknown_link: u64,
    /// Frames that carry neither IP nor ARP.
    pub not_ip: u64,
    /// Flows forgotten for want of room.
    pub flows_evicted: u64,
    /// Fragments or segments forgotten for want of room.
    pub reassembly_evicted: u64,
    /// Keys detectors had to forget, and findings there was no room for.
    pub detector_evicted: u64,
}

/// Findings one observation may make.
const FINDINGS_ROOM: usize = 1024;
/// Whole seconds gone through one by one when nothing came for long; the rest is jumped over.
const MAX_STEPS: i64 = 2 * 3600;
/// A packet so much earlier than the one before it sets the clock back: another file, or a clock that was wrong.
const SET_BACK_NS: i64 = 60_000_000_000;
const SECOND: i64 = 1_000_000_000;

type Out<'o> = &'o mut dyn FnMut(Output);

/// Decoder, flow table, parsers and wire detectors in one.
pub struct Pipeline {
    decoder: Decoder,
    table: Table,
    detectors: Vec<(&'static DetectorDef, Box<dyn Detector>)>,
    findings: Findings,
    said: Vec<Said>,
    /// Latest packet time.
    clock: Option<i64>,
    counts: Counts,
}

impl Pipeline {
    /// An empty one.
    ///
    /// # Errors
    /// Settings a detector refuses: one line naming the key.
    pub fn new(settings: Settings) -> Result<Self, BuildError> {
        Self::with_detectors(settings, DETECTORS)
    }

    /// With other detectors than this build's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_detectors(settings: Settings, table: &'static [DetectorDef]) -> Result<Self, BuildError> {
        if let Some(name) = settings.detect.keys().find(|name| !table.iter().any(|def| def.name == **name)) {
            return Err(BuildError { detector: "*", why: format!("there is no detector named {name:?}") });
        }
        let mut detectors = Vec::new();
        for def in table.iter().filter(|def| def.site == Site::Wire) {
            let own = match settings.detect.get(def.name) {
                None => toml::Table::new(),
                Some(toml::Value::Table(own)) => own.clone(),
                Some(_) => return Err(BuildError { detector: def.name, why: "must be a table of settings".to_owned() }),
            };
            detectors.push((def, (def.build)(&own, &settings.segment)?));
        }
        Ok(Self {
            decoder: Decoder::default(),
            table: Table::new(&settings.net, settings.max_flows),
            detectors,
            findings: Findings::new(FINDINGS_ROOM),
            said: Vec::new(),
            clock: None,
            counts: Counts::default(),
        })
    }

    /// Takes the next packet.
    pub fn packet(&mut self, packet: &Packet<'_>, out: &mut dyn FnMut(Output)) {
        self.advance(packet.at, out);
        self.counts.packets = self.counts.packets.saturating_add(1);
        self.counts.bytes = self.counts.bytes.saturating_add(packet.original_length.into());
        let Self { decoder, table, said, .. } = self;
        decoder.packet(packet, &mut Taken { at: packet.at, table, said });
        self.say(out);
    }

    /// Nothing came until `now`: ends what is idle and lets detectors close what is due. Packets yet to come
    /// must not be earlier by more than a second, or live and file differ.
    pub fn tick(&mut self, now: Timestamp, out: &mut dyn FnMut(Output)) {
        self.advance(now, out);
    }

    /// Packets were lost about `at`: open flows are marked.
    pub fn lost(&mut self, at: Timestamp, packets: u64) {
        let _ = at;
        if packets > 0 {
            self.table.lost();
        }
    }

    /// Ends every flow. Call once, at the end.
    pub fn finish(&mut self, end: FlowEnd, out: &mut dyn FnMut(Output)) {
        let at = Timestamp(self.clock.unwrap_or(0));
        let Self { decoder, table, said, .. } = self;
        decoder.finish(&mut Taken { at, table, said });
        table.finish(at, end, said);
        self.say(out);
        self.tick_detectors(at, out);
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        let undecoded = self.decoder.counts();
        let evicted = self.detectors.iter().fold(self.findings.dropped(), |sum, (_, detector)| sum.saturating_add(detector.evicted()));
        Counts {
            flows: self.table.opened(),
            malformed: undecoded.faults,
            unknown_link: undecoded.unknown_link,
            not_ip: undecoded.not_ip,
            flows_evicted: self.table.evicted(),
            reassembly_evicted: undecoded.evicted.saturating_add(self.table.segments_evicted()),
            detector_evicted: evicted,
            ..self.counts
        }
    }

    /// Brings the clock to `now`, whole second by whole second, so that nothing depends on who called when.
    fn advance(&mut self, now: Timestamp, out: Out<'_>) {
        let Some(clock) = self.clock else {
            self.clock = Some(now.0);
            return;
        };
        if now.0 <= clock {
            if clock.saturating_sub(now.0) > SET_BACK_NS {
                self.clock = Some(now.0);
            }
            return;
        }
        let (first, last) = (clock.div_euclid(SECOND).saturating_add(1), now.0.div_euclid(SECOND));
        let stepped = last.min(first.saturating_add(MAX_STEPS));
        for second in (first..=stepped).chain((stepped < last).then_some(last)) {
            self.boundary(Timestamp(second.saturating_mul(SECOND)), out);
        }
        self.clock = Some(now.0);
    }

    fn boundary(&mut self, now: Timestamp, out: Out<'_>) {
        let Self { decoder, table, said, .. } = self;
        decoder.expire(now, &mut Taken { at: now, table, said });
        table.sweep(now, said);
        self.say(out);
        self.tick_detectors(now, out);
    }

    fn tick_detectors(&mut self, now: Timestamp, out: Out<'_>) {
        for (def, detector) in &mut self.detectors {
            detector.tick(now, &mut self.findings);
            emit(def, &mut self.findings, &mut self.counts, out);
        }
    }

    /// Hands on what was said: to the detectors, and out.
    fn say(&mut self, out: Out<'_>) {
        let mut said = std::mem::take(&mut self.said);
        for one in said.drain(..) {
            let observation = match one {
                Said::Fact { at, flow, wire, fact } => Observation { at, session: None, flow, wire, fact },
                Said::Record(at, flow) => {
                    let (id, wire) = (flow.flow, flow.wire);
                    if !self.detectors.is_empty() {
                        let fact = Fact::Flow(flow.clone());
                        let observation = Observation { at, session: None, flow: Some(id), wire: Some(wire), fact };
                        out(Output::Flow(flow));
                        self.observe(&observation, out);
                    } else {
                        out(Output::Flow(flow));
                    }
                    continue;
                }
            };
            if self.detectors.is_empty() {
                out(Output::Observation(Box::new(observation)));
                continue;
            }
            out(Output::Observation(Box::new(observation.clone())));
            self.observe(&observation, out);
        }
        // Its room is kept for the next packet.
        self.said = said;
    }

    fn observe(&mut self, observation: &Observation, out: Out<'_>) {
        for (def, detector) in &mut self.detectors {
            detector.observe(observation, &mut self.findings);
            emit(def, &mut self.findings, &mut self.counts, out);
        }
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("counts", &self.counts()).field("flows", &self.table.len()).finish_non_exhaustive()
    }
}

fn emit(def: &'static DetectorDef, findings: &mut Findings, counts: &mut Counts, out: Out<'_>) {
    for finding in findings.drain() {
        counts.findings = counts.findings.saturating_add(1);
        out(Output::Finding(def, Box::new(finding)));
    }
}

/// What the decoder found, brought to the flows.
struct Taken<'p> {
    at: Timestamp,
    table: &'p mut Table,
    said: &'p mut Vec<Said>,
}

impl Sink for Taken<'_> {
    fn unit(&mut self, unit: &Unit<'_>) {
        self.table.unit(self.at, unit, self.said);
    }

    fn arp(&mut self, arp: Arp) {
        self.said.push(Said::Fact { at: self.at, flow: None, wire: None, fact: Fact::Arp(arp) });
    }

    fn fault(&mut self, fault: &Fault<'_>) {
        let end = |ip| Endpoint { ip, port: 0 };
        let wire = fault.ends.map(|(source, destination)| Tuple { source: end(source), destination: end(destination) });
        let fact =
            Malformed { protocol: fault.layer, what: fault.what.to_owned(), offset: fault.offset as u64, bytes: text::hex(fault.bytes) };
        self.said.push(Said::Fact { at: self.at, flow: None, wire, fact: Fact::Malformed(fact) });
    }
}
