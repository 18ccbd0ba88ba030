//! What went through and what was lost on the way: counted where it happens, sampled every second.

use crate::ring::LossSpan;
use glasshive_event::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Totals since the start. Every field only grows.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64),* }

        /// The same at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// All of them now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Packets the kernel took for us (libpcap's `ps_recv`: those it then dropped are in it).
    received,
    /// Packets read from the kernel.
    captured,
    /// Their bytes on the wire.
    wire_bytes,
    /// Packets longer than the snapshot length.
    truncated,
    /// Packets the kernel had no room for.
    kernel_dropped,
    /// Packets the interface dropped.
    interface_dropped,
    /// Packets written to the ring.
    written,
    /// Bytes of their blocks.
    written_bytes,
    /// Packets the ring had no room for, or could not write.
    ring_dropped,
    /// Bytes of their blocks.
    ring_dropped_bytes,
    /// Bytes cut off a segment found unfinished.
    cut_bytes,
    /// Packets the analyser was given.
    analysed,
    /// Packets the analyser skipped; they are in the ring.
    analysis_skipped,
    /// Records the journal had no room for.
    journal_dropped,
    /// Segments the quota took.
    purged_segments,
    /// Errors of the interface or of libpcap.
    capture_errors,
    /// Errors of the ring's files.
    write_errors,
}

impl Counters {
    /// Adds to one of them.
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }
}

/// Why something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The kernel's ring was full.
    Kernel,
    /// The interface dropped packets.
    Interface,
    /// The ring had no room or could not be written.
    Ring,
    /// A segment was cut where it was not whole.
    Cut,
    /// The analyser was behind; the packets are in the ring.
    Analysis,
    /// The journal had no room for what the analyser found.
    Journal,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Kernel, Self::Interface, Self::Ring, Self::Cut, Self::Analysis, Self::Journal];

    /// Name in `loss` events and statements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "capture_kernel",
            Self::Interface => "capture_interface",
            Self::Ring => "ring",
            Self::Cut => "ring_cut",
            Self::Analysis => "analysis",
            Self::Journal => "analysis_journal",
        }
    }

    /// Whether packets are missing in the ring for it.
    pub fn is_packets(self) -> bool {
        matches!(self, Self::Kernel | Self::Interface | Self::Ring | Self::Cut)
    }

    /// Why, and what would help.
    pub fn why(self) -> &'static str {
        match self {
            Self::Kernel => "the kernel's packet ring was full: raise capture.ring, or give the sensor more processor time",
            Self::Interface => "the interface dropped packets before the kernel saw them",
            Self::Ring => "the packet ring could not be written: its disk is full or failed",
            Self::Cut => "a segment was not whole after an unclean stop; bytes behind its last whole packet were cut",
            Self::Analysis => "the analyser was behind and skipped packets; they are in the ring and can be read with `read`",
            Self::Journal => "the journal had no room for what was found",
        }
    }

    /// How much later than it happened a loss may be counted: the kernel's totals are looked at twice a second.
    fn delay_ns(self) -> i64 {
        if matches!(self, Self::Kernel | Self::Interface) { 1_000_000_000 } else { 0 }
    }

    /// Packets (for [`Self::Cut`] and [`Self::Journal`] pieces) and bytes.
    fn totals(self, now: &Snapshot) -> (u64, u64) {
        match self {
            Self::Kernel => (now.kernel_dropped, 0),
            Self::Interface => (now.interface_dropped, 0),
            Self::Ring => (now.ring_dropped, now.ring_dropped_bytes),
            Self::Cut => (u64::from(now.cut_bytes > 0), now.cut_bytes),
            Self::Analysis => (now.analysis_skipped, 0),
            Self::Journal => (now.journal_dropped, 0),
        }
    }
}

/// Turns grown counters into losses with their interval.
#[derive(Debug)]
pub struct Sampler {
    before: Snapshot,
    since: Timestamp,
}

impl Sampler {
    /// From now on.
    pub fn new(now: Timestamp) -> Self {
        Self { before: Snapshot::default(), since: now }
    }

    /// What was lost since the last sample.
    pub fn sample(&mut self, now: Timestamp, counts: &Snapshot) -> Vec<(Cause, LossSpan)> {
        let mut lost = Vec::new();
        for cause in Cause::ALL {
            let ((count, bytes), (count_before, bytes_before)) = (cause.totals(counts), cause.totals(&self.before));
            let (count, bytes) = (count.saturating_sub(count_before), bytes.saturating_sub(bytes_before));
            if count > 0 || bytes > 0 {
                // A clock that was set back must not turn the interval around.
                let from = Timestamp(self.since.min(now).0.saturating_sub(cause.delay_ns()));
                lost.push((cause, LossSpan { from, to: now, cause: cause.name().to_owned(), count, bytes }));
            }
        }
        self.before = *counts;
        self.since = now;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_interval_cause_and_count() {
        let counters = Counters::default();
        let mut sampler = Sampler::new(Timestamp(10));
        assert!(sampler.sample(Timestamp(20), &counters.snapshot()).is_empty());
        Counters::add(&counters.kernel_dropped, 5);
        Counters::add(&counters.ring_dropped, 1);
        Counters::add(&counters.ring_dropped_bytes, 100);
        let lost = sampler.sample(Timestamp(30), &counters.snapshot());
        let short: Vec<_> = lost.iter().map(|(_, span)| (span.cause.as_str(), span.count, span.bytes, span.from.0, span.to.0)).collect();
        assert_eq!(short, [("capture_kernel", 5, 0, 20 - 1_000_000_000, 30), ("ring", 1, 100, 20, 30)]);
        Counters::add(&counters.kernel_dropped, 2);
        let lost = sampler.sample(Timestamp(25), &counters.snapshot());
        assert_eq!(lost.iter().map(|(_, span)| (span.count, span.from.0, span.to.0)).collect::<Vec<_>>(), [(2, 25 - 1_000_000_000, 25)]);
        let mut names: Vec<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        names.dedup();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
