//! The capture thread over libpcap.
//!
//! Facts it rests on (libpcap 1.10.3): without immediate mode libpcap uses TPACKET_V3; its blocks are
//! handed over when full or after the timeout, but a blocking read on a quiet link never returns, so
//! the handle is non-blocking and the waiting is ours. Drops are known only as totals of 32 bits that wrap.

use super::{CHUNK, Chunk, Counters, MAX_WAIT, Pool};
use glasshive_event::Timestamp;
use glasshive_pcapng::{Encoder, OptionList};
use pcap::{Active, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for packets, so that a stop is seen.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 120_000_000 };
/// Time between looks at the kernel's counters.
const STATISTICS: Duration = Duration::from_millis(500);
/// Bytes kept of a packet: libpcap's maximum, so that frames merged by the card stay whole.
pub(crate) const SNAP_LENGTH: u32 = 262_144;

/// What to capture and with which memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Interface.
    pub interface: String,
    /// Kernel ring, bytes: 16 MiB to 1 GiB. Too small loses packets, and so does far too large.
    pub ring_bytes: u32,
    /// Bytes kept of a packet.
    pub snap_length: u32,
    /// pcap filter; packets it does not pass are not captured and not counted.
    pub filter: Option<String>,
    /// All chunks together, bytes.
    pub pool_bytes: usize,
    /// See traffic that is not for this host.
    pub promiscuous: bool,
}

impl Settings {
    /// The defaults for an interface.
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            ring_bytes: 128 << 20,
            snap_length: SNAP_LENGTH,
            filter: None,
            pool_bytes: 128 << 20,
            promiscuous: true,
        }
    }
}

/// Why an interface cannot be captured from.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("interface {interface}: {why}: `ip link` lists them; capturing needs root or CAP_NET_RAW")]
    Open {
        /// The interface.
        interface: String,
        /// libpcap's words.
        why: String,
    },
    /// The filter does not compile.
    #[error("key capture.filter: {filter:?}: {why}")]
    Filter {
        /// The filter.
        filter: String,
        /// libpcap's words.
        why: String,
    },
    /// No thread.
    #[error("the capture thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// An opened interface, not yet read. Opening needs the right to capture, reading does not.
pub struct Live {
    handle: pcap::Capture<Active>,
    settings: Settings,
    /// pcap's LINKTYPE number.
    pub link_type: u16,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("settings", &self.settings).field("link_type", &self.link_type).finish_non_exhaustive()
    }
}

impl Live {
    /// Opens the interface. Packets are gathered in the kernel's ring from here on.
    ///
    /// # Errors
    /// [`CaptureError`], one line.
    pub fn open(settings: &Settings) -> Result<Self, CaptureError> {
        let fault = |error: pcap::Error| CaptureError::Open { interface: settings.interface.clone(), why: one_line(&error.to_string()) };
        let mut handle = pcap::Capture::from_device(settings.interface.as_str())
            .map_err(fault)?
            .promisc(settings.promiscuous)
            .snaplen(settings.snap_length.cast_signed())
            .buffer_size(settings.ring_bytes.cast_signed())
            .timeout(100)
            .immediate_mode(false)
            .precision(Precision::Nano)
            .open()
            .map_err(fault)?;
        if let Some(filter) = &settings.filter {
            handle
                .filter(filter, true)
                .map_err(|error| CaptureError::Filter { filter: filter.clone(), why: one_line(&error.to_string()) })?;
        }
        let handle = handle.setnonblock().map_err(fault)?;
        let link_type = link_type(handle.get_datalink().0);
        Ok(Self { handle, settings: settings.clone(), link_type })
    }

    /// Starts reading, on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(self, outlets: Outlets, counters: Arc<Counters>) -> Result<Capture, CaptureError> {
        let stop = Arc::new(AtomicBool::new(false));
        let pool = Pool::new(self.settings.pool_bytes / CHUNK, CHUNK);
        let sink = Sink {
            encoder: None,
            packets: 0,
            first: Timestamp(i64::MAX),
            last: Timestamp(i64::MIN),
            begun: None,
            options: OptionList::new(),
            skipped: 0,
            pool,
            outlets,
            counters,
            stop: Arc::clone(&stop),
        };
        let thread =
            std::thread::Builder::new().name("capture".into()).spawn(move || run(self.handle, sink)).map_err(CaptureError::Thread)?;
        Ok(Capture { stop, thread: Some(thread) })
    }
}

/// DLT numbers are the platform's for raw IP; the rest are equal to LINKTYPE numbers.
fn link_type(dlt: i32) -> u16 {
    match dlt {
        12 | 14 => 101,
        other => u16::try_from(other).unwrap_or(u16::MAX),
    }
}

/// A message to writer or analyser.
#[derive(Debug, Clone)]
pub enum To {
    /// The next chunk.
    Chunk(Arc<Chunk>),
    /// So many packets before the next chunk were skipped (analyser only).
    Skipped(u64),
}

/// Where chunks go. The writer's channel must hold as many as the pool has; the analyser's about half.
#[derive(Debug)]
pub struct Outlets {
    /// Gets every chunk.
    pub writer: SyncSender<To>,
    /// Gets those it has room for.
    pub analyser: Option<SyncSender<To>>,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Whether its thread still runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Reads what the kernel has, hands it over, and ends; at most a moment on an idle link.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the capture thread panicked");
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's state: the chunk that is being filled.
struct Sink {
    encoder: Option<Encoder>,
    packets: u32,
    first: Timestamp,
    last: Timestamp,
    begun: Option<Instant>,
    options: OptionList<'static>,
    skipped: u64,
    pool: Arc<Pool>,
    outlets: Outlets,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
}

impl Sink {
    fn packet(&mut self, at: Timestamp, data: &[u8], original_length: u32) {
        if self.encoder.as_ref().is_some_and(|encoder| encoder.bytes().len() + data.len() + 64 > CHUNK) {
            self.hand_over();
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            empty => {
                let Some(buffer) = buffer(&self.pool, &self.stop) else {
                    // Told to stop while the disk stood still: what comes now is lost, and said.
                    Counters::add(&self.counters.ring_dropped, 1);
                    return;
                };
                self.begun = Some(Instant::now());
                empty.insert(Encoder::with_buffer(buffer))
            }
        };
        encoder.enhanced_packet(0, at.0.cast_unsigned(), original_length, data, &self.options);
        self.packets += 1;
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        Counters::add(&self.counters.captured, 1);
        Counters::add(&self.counters.wire_bytes, u64::from(original_length));
        if (data.len() as u64) < u64::from(original_length) {
            Counters::add(&self.counters.truncated, 1);
        }
    }

    fn hand_over(&mut self) {
        let Some(mut encoder) = self.encoder.take() else { return };
        let packets = std::mem::take(&mut self.packets);
        let chunk = Arc::new(Chunk::new(encoder.take(), packets, self.first, self.last, Arc::clone(&self.pool)));
        (self.first, self.last, self.begun) = (Timestamp(i64::MAX), Timestamp(i64::MIN), None);
        self.analyse(&chunk);
        // The channel has room for every chunk of the pool; a writer that ended is a loss.
        if self.outlets.writer.send(To::Chunk(chunk)).is_err() {
            Counters::add(&self.counters.ring_dropped, u64::from(packets));
        }
    }

    fn analyse(&mut self, chunk: &Arc<Chunk>) {
        let Some(analyser) = &self.outlets.analyser else { return };
        if self.skipped > 0 {
            match analyser.try_send(To::Skipped(self.skipped)) {
                Ok(()) => self.skipped = 0,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.skip(chunk.packets);
                    return;
                }
            }
        }
        if analyser.try_send(To::Chunk(Arc::clone(chunk))).is_err() {
            self.skip(chunk.packets);
        }
    }

    fn skip(&mut self, packets: u32) {
        self.skipped += u64::from(packets);
        Counters::add(&self.counters.analysis_skipped, u64::from(packets));
    }
}

fn buffer(pool: &Pool, stop: &AtomicBool) -> Option<Vec<u8>> {
    loop {
        // Waiting here leaves packets in the kernel's ring, which has room for them, or counts them.
        if let Some(buffer) = pool.take(Duration::from_millis(100)) {
            return Some(buffer);
        }
        if stop.load(Relaxed) {
            return None;
        }
    }
}

fn run(mut handle: pcap::Capture<Active>, mut sink: Sink) {
    crate::ring::niceness(-10);
    let mut totals = Totals::default();
    let mut looked = Instant::now();
    let mut waited = false;
    loop {
        let stopping = sink.stop.load(Relaxed);
        let got = handle.dispatch(None, |packet| {
            // With nanosecond precision the second field holds nanoseconds.
            let (seconds, nanoseconds) = (packet.header.ts.tv_sec, packet.header.ts.tv_usec);
            let at = Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
            sink.packet(at, packet.data, packet.header.len);
        });
        if sink.begun.is_some_and(|begun| begun.elapsed() >= MAX_WAIT) {
            sink.hand_over();
        }
        if looked.elapsed() >= STATISTICS {
            looked = Instant::now();
            totals.look(&mut handle, &sink.counters);
        }
        match got {
            Ok(0) if stopping && waited => break,
            Ok(0) => {
                // A block that is being filled comes at its timeout: one more wait after the stop.
                waited = stopping;
                let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&POLL));
            }
            Ok(_) => {}
            Err(error) => {
                Counters::add(&sink.counters.capture_errors, 1);
                if stopping {
                    break;
                }
                if totals.errors.is_multiple_of(600) {
                    tracing::error!(error = %one_line(&error.to_string()), "the interface gives no packets; it is tried again");
                }
                totals.errors += 1;
                let _ = poll(&mut [], Some(&POLL));
            }
        }
    }
    sink.hand_over();
    totals.look(&mut handle, &sink.counters);
}

/// The kernel's totals, unwrapped.
#[derive(Default)]
struct Totals {
    received: u32,
    dropped: u32,
    interface: u32,
    errors: u64,
}

impl Totals {
    fn look(&mut self, handle: &mut pcap::Capture<Active>, counters: &Counters) {
        let Ok(now) = handle.stats() else { return };
        for (before, now, counter) in [
            (&mut self.received, now.received, &counters.received),
            (&mut self.dropped, now.dropped, &counters.kernel_dropped),
            (&mut self.interface, now.if_dropped, &counters.interface_dropped),
        ] {
            Counters::add(counter, u64::from(now.wrapping_sub(*before)));
            *before = now;
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_opened_is_one_line() {
        let settings = Settings { filter: None, ..Settings::new("nosuch0") };
        let error = Live::open(&settings).unwrap_err().to_string();
        assert!(error.starts_with("interface nosuch0: ") && !error.contains('\n'), "{error}");
        assert_eq!((link_type(1), link_type(12), link_type(113)), (1, 101, 113));
    }

    #[test]
    fn an_analyser_that_is_behind_is_told_how_much_it_missed() {
        let (writer, written) = std::sync::mpsc::sync_channel(8);
        let (analyser, analysed) = std::sync::mpsc::sync_channel(1);
        let counters = Arc::new(Counters::default());
        let mut sink = Sink {
            encoder: None,
            packets: 0,
            first: Timestamp(i64::MAX),
            last: Timestamp(i64::MIN),
            begun: None,
            options: OptionList::new(),
            skipped: 0,
            pool: Pool::new(4, 1024),
            outlets: Outlets { writer, analyser: Some(analyser) },
            counters: Arc::clone(&counters),
            stop: Arc::default(),
        };
        for at in 0..3 {
            sink.packet(Timestamp(at), &[1; 60], 70);
            sink.packet(Timestamp(at), &[2; 60], 60);
            sink.hand_over();
        }
        let Ok(To::Chunk(first)) = analysed.recv() else { panic!() };
        assert_eq!((first.packets, crate::ring::walk::packets(first.bytes()).count()), (2, 2));
        drop(first);
        sink.packet(Timestamp(9), &[1; 60], 60);
        sink.hand_over();
        assert!(matches!(analysed.recv(), Ok(To::Skipped(4))));
        assert_eq!(written.try_iter().count(), 4);
        let counts = counters.snapshot();
        assert_eq!((counts.captured, counts.truncated, counts.analysis_skipped), (7, 3, 5));
    }
}
