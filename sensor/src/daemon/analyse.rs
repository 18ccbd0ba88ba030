//! The analyser's thread: chunks through the pipeline, what it says into the journal.
//!
//! It may be slow: the capture thread then skips it, and what it skipped it is told. It waits for the
//! journal, never drops what it found while it can wait, and has no clock but for an idle link.

use crate::capture::{Counters, To};
use crate::pipeline::{Counts, Output, Packet, Pipeline};
use crate::ring::walk;
use glasshive_daemon::clock::{mono_ns, wall_ns};
use glasshive_event::flow::FlowEnd;
use glasshive_event::{Body, Envelope, Kind, Timestamp};
use glasshive_journal::{JournalHandle, Pending};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Packets newer than this may still be on their way when the link is idle.
const LATENCY_NS: i64 = 2_000_000_000;

/// What the analyser has seen, for whoever reports it.
pub(super) type Seen = Arc<Mutex<Counts>>;

pub(super) struct Analyser {
    pipeline: Pipeline,
    link_type: u16,
    journal: JournalHandle,
    counters: Arc<Counters>,
    runtime: tokio::runtime::Handle,
    give_up: CancellationToken,
    seen: Seen,
    out: Vec<Output>,
}

impl Analyser {
    /// Within the runtime. It waits for the journal until `give_up`.
    pub(super) fn new(
        pipeline: Pipeline,
        link_type: u16,
        journal: JournalHandle,
        counters: Arc<Counters>,
        give_up: CancellationToken,
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { pipeline, link_type, journal, counters, runtime, give_up, seen: Seen::default(), out: Vec::new() }
    }

    pub(super) fn seen(&self) -> Seen {
        Arc::clone(&self.seen)
    }

    pub(super) fn run(mut self, chunks: &Receiver<To>) {
        crate::ring::niceness(5);
        let mut last = Timestamp(0);
        loop {
            match chunks.recv_timeout(Duration::from_secs(1)) {
                Ok(To::Chunk(chunk)) => {
                    for packet in walk::packets(chunk.bytes()) {
                        let packet =
                            Packet { at: packet.at, link_type: self.link_type, data: packet.data, original_length: packet.original_length };
                        let out = &mut self.out;
                        self.pipeline.packet(&packet, &mut |output| keep(out, output));
                        if self.out.len() >= 64 {
                            self.tell();
                        }
                    }
                    last = chunk.last;
                    Counters::add(&self.counters.analysed, u64::from(chunk.packets));
                }
                Ok(To::Skipped(packets)) => self.pipeline.lost(last, packets),
                Err(RecvTimeoutError::Timeout) => {
                    let now = Timestamp(wall_ns().saturating_sub(LATENCY_NS));
                    let out = &mut self.out;
                    self.pipeline.tick(now, &mut |output| keep(out, output));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tell();
        }
        let out = &mut self.out;
        self.pipeline.finish(FlowEnd::Shutdown, &mut |output| keep(out, output));
        self.tell();
    }

    /// Journals what was found; waits for room.
    fn tell(&mut self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.pipeline.counts();
        for output in self.out.drain(..) {
            let Some(body) = body(output) else {
                Counters::add(&self.counters.journal_dropped, 1);
                continue;
            };
            let pending = Pending { wall_ns: wall_ns(), mono_ns: mono_ns(), body };
            let kept = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    kept = self.journal.append(pending) => kept.is_ok(),
                    () = self.give_up.cancelled() => false,
                }
            });
            if !kept {
                Counters::add(&self.counters.journal_dropped, 1);
            }
        }
    }
}

/// Observations are the detectors' food; they are not journalled.
fn keep(out: &mut Vec<Output>, output: Output) {
    if !matches!(output, Output::Observation(_)) {
        out.push(output);
    }
}

fn body(output: Output) -> Option<Body> {
    let encoded = match output {
        Output::Flow(flow) => Body::encode(&flow.envelope(), &*flow),
        Output::Finding(detector, finding) => {
            let envelope = Envelope { kind: Kind::Finding.number(), ..Envelope::default() };
            Body::encode(&envelope, &finding.stored(detector))
        }
        Output::Observation(_) => return None,
    };
    encoded.inspect_err(|error| tracing::error!(%error, "a record could not be encoded")).ok()
}
