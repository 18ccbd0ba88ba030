//! CARVE: packets of a sensor's ring, asked for by the controller over the bulk connection.
//!
//! ```text
//! controller                               node
//! CARVE    request ‖ query (JSON)       →
//! CREDIT   request, bytes               →   nothing is sent before credit came
//!                                       ←  CARVE_DATA request, offset ‖ pcapng bytes
//! CREDIT, or CANCEL                     →
//!                                       ←  CARVE_END request ‖ statement (JSON), or REFUSED
//! ```
//!
//! Query and statement are JSON so that they may grow: a node that does not know a field of a query
//! refuses it (a filter it ignored would select other packets than asked for), a controller ignores
//! fields of a statement it does not know. This module must never look into packets.

use crate::common::CHUNK;
use crate::frame::RefusedWhy;
use bytes::Bytes;
use glasshive_event::{PacketScope, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Carves one node works on at once; more are refused as busy.
pub const CARVES: usize = 2;
/// Longest query.
pub(crate) const MAX_QUERY: usize = 64 * 1024;
/// Longest statement.
pub(crate) const MAX_STATEMENT: usize = 1024 * 1024;
/// Longest reason for a failure.
const MAX_WHY: usize = 400;
/// Parts made and not yet taken.
const PARTS: usize = 4;

/// Which packets, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarveQuery {
    /// Packets that pass any of these.
    pub scope: PacketScope,
    /// And this pcap filter, when given; it is matched exactly, on every candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf: Option<String>,
    /// Most bytes of the answer, its headers among them.
    pub max_bytes: u64,
}

impl CarveQuery {
    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|json| json.len() <= MAX_QUERY)
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        if json.len() > MAX_QUERY { None } else { serde_json::from_slice(json).ok() }
    }
}

/// What an answer holds and what it cannot hold. Absent fields take their default; unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarveStatement {
    /// Why the carve failed; all that came before is void then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Packets in the ring that pass.
    pub matched: u64,
    /// Packets in the answer.
    pub exported: u64,
    /// Bytes of the answer.
    pub bytes: u64,
    /// Whether the byte limit kept packets out; `matched` then counts what was looked at only.
    pub limited: bool,
    /// Parts of the asked time the ring does not hold any more.
    pub purged: Vec<Missing>,
    /// Parts of the asked time in which packets were lost on the way into the ring.
    pub lost: Vec<Missing>,
    /// Segments of the ring that were read.
    pub segments: Vec<SegmentDigest>,
    /// Anything else the reader must know.
    pub notes: Vec<String>,
}

/// A time for which packets are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// First moment; `None` = from the beginning of what was asked.
    pub since: Option<Timestamp>,
    /// Last moment.
    pub until: Option<Timestamp>,
    /// How many packets, when counted.
    pub packets: Option<u64>,
    /// Why.
    pub why: String,
}

/// One segment of the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentDigest {
    /// Name of the file in the ring.
    pub name: String,
    /// SHA-256 of the whole file, hexadecimal; for the segment still being written, of its first `bytes`.
    pub sha256: String,
    /// Bytes hashed.
    pub bytes: u64,
    /// Whether the segment is complete.
    pub complete: bool,
    /// Packets of it in the answer.
    pub exported: u64,
}

impl CarveStatement {
    /// At most [`MAX_STATEMENT`] bytes; what does not fit is said.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        if json.len() <= MAX_STATEMENT {
            return json;
        }
        let mut short = self.clone();
        for list in [&mut short.purged, &mut short.lost] {
            list.truncate(1_000);
            list.iter_mut().for_each(|missing| missing.why = clip(&missing.why));
        }
        short.segments.truncate(1_000);
        short.segments.iter_mut().for_each(|segment| (segment.name, segment.sha256) = (clip(&segment.name), clip(&segment.sha256)));
        let (segments, lists) = (self.segments.len(), self.purged.len().saturating_add(self.lost.len()));
        short.notes = vec![format!("the statement was too long: it names 1000 of {segments} segments, and of {lists} missing parts")];
        serde_json::to_vec(&short).unwrap_or_default()
    }

    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        if json.len() > MAX_STATEMENT { None } else { serde_json::from_slice(json).ok() }
    }
}

/// Why a carve is not answered (further).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarveError {
    /// This node has no packets.
    #[error("this node captures no packets")]
    NotSupported,
    /// The question makes no sense to this node, and why: a pcap filter that does not compile.
    #[error("{0}")]
    Query(String),
    /// The ring could not be read.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for CarveError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A node's packets as the link asks for them; the sensor implements it over its ring.
pub trait CarveSource: Send + Sync + 'static {
    /// Writes the packets `query` means to `out` as one pcapng file, in order of time: frames as they
    /// stand in the ring, nothing added. Runs on a thread of its own and may block.
    ///
    /// Write as you go: whoever asked may read slowly or go away, and then a write fails with
    /// `BrokenPipe`; between writes ask [`CarveOut::is_cancelled`]. Never write more than
    /// `query.max_bytes`: stop before the packet that does not fit and say `limited`.
    ///
    /// # Errors
    /// [`CarveError`]; what was written until then is void.
    fn carve(&self, query: &CarveQuery, out: &mut CarveOut) -> Result<CarveStatement, CarveError>;
}

/// What comes of a carve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarvePart {
    /// The next bytes, at most [`CHUNK`].
    Bytes(Bytes),
    /// All came.
    End(Box<CarveStatement>),
    /// No more comes, and all before is void.
    Refused(RefusedWhy),
}

/// A carve on its way. Dropping it cancels.
#[derive(Debug)]
pub struct CarveParts(pub(crate) mpsc::Receiver<CarvePart>);

impl CarveParts {
    /// The next part; after one that is not bytes there is none. Cancel safe.
    pub async fn next(&mut self) -> CarvePart {
        self.0.recv().await.unwrap_or(CarvePart::Refused(RefusedWhy::Failed))
    }
}

/// Where a [`CarveSource`] writes to: cuts into parts and waits while nobody takes them.
#[derive(Debug)]
pub struct CarveOut {
    parts: mpsc::Sender<CarvePart>,
    part: Vec<u8>,
    left: u64,
}

impl CarveOut {
    /// Whether nobody wants the rest any more.
    pub fn is_cancelled(&self) -> bool {
        self.parts.is_closed()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(CHUNK as usize));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody wants the rest of the carve any more");
        self.parts.blocking_send(CarvePart::Bytes(part.into())).map_err(gone)
    }
}

impl Write for CarveOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (CHUNK as usize).saturating_sub(self.part.len());
        let now = bytes.get(..bytes.len().min(room)).unwrap_or(bytes);
        let left = self.left.checked_sub(now.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("more bytes than the carve's limit"))?;
        self.part.extend_from_slice(now);
        if self.part.len() >= CHUNK as usize {
            self.send()?;
        }
        Ok(now.len())
    }

    /// Sends what is gathered.
    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Runs carves on threads of their own, a bounded number at once.
#[derive(Clone)]
pub struct Carver {
    source: Arc<dyn CarveSource>,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Carver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carver").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Carver {
    /// Carves from `source`, [`CARVES`] at once.
    pub fn new(source: Arc<dyn CarveSource>) -> Self {
        Self { source, places: Arc::new(Semaphore::new(CARVES)) }
    }

    /// Begins a carve. Needs a runtime.
    ///
    /// # Errors
    /// Busy.
    pub fn start(&self, query: CarveQuery) -> Result<CarveParts, RefusedWhy> {
        // Held by the thread, not by the asker: one that cancels and asks again does not get more threads.
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RefusedWhy::Busy)?;
        let (parts, taken) = mpsc::channel(PARTS);
        let source = Arc::clone(&self.source);
        tokio::task::spawn_blocking(move || {
            let mut out = CarveOut { parts, part: Vec::new(), left: query.max_bytes };
            let done = source.carve(&query, &mut out).and_then(|statement| {
                out.send()?;
                Ok(statement)
            });
            let last = match done {
                Ok(statement) => CarvePart::End(Box::new(statement)),
                Err(CarveError::NotSupported) => CarvePart::Refused(RefusedWhy::NotSupported),
                Err(CarveError::Query(why) | CarveError::Failed(why)) => {
                    CarvePart::End(Box::new(CarveStatement { failed: Some(clip(&why)), ..CarveStatement::default() }))
                }
            };
            drop(place);
            // Nobody may want it any more.
            let _ = out.parts.blocking_send(last);
        });
        Ok(CarveParts(taken))
    }
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_WHY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::PacketMatch;

    #[test]
    fn queries_round_trip_and_unknown_fields_are_refused() {
        let query = CarveQuery { scope: PacketScope(vec![PacketMatch::default()]), bpf: Some("tcp".into()), max_bytes: 9 };
        let json = query.to_json().unwrap();
        assert_eq!(CarveQuery::from_json(&json), Some(query));
        for bad in [&b"{}"[..], b"", br#"{"scope":[],"max_bytes":1,"only":"tcp"}"#, br#"{"scope":[],"max_bytes":-1}"#] {
            assert_eq!(CarveQuery::from_json(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        let long = format!(r#"{{"scope":[],"max_bytes":1{}}}"#, " ".repeat(MAX_QUERY));
        assert_eq!(CarveQuery::from_json(long.as_bytes()), None);
    }

    #[test]
    fn statements_are_bounded_and_tolerant() {
        let later = br#"{"exported":2,"later":true,"segments":[{"name":"a","colour":1}]}"#;
        let read = CarveStatement::from_json(later).unwrap();
        assert_eq!((read.exported, read.segments[0].name.as_str()), (2, "a"));
        let segment = SegmentDigest { name: "n".repeat(1000), ..SegmentDigest::default() };
        let long = CarveStatement { exported: 7, segments: vec![segment; 5_000], ..CarveStatement::default() };
        let json = long.to_json();
        assert!(json.len() <= MAX_STATEMENT);
        let read = CarveStatement::from_json(&json).unwrap();
        assert_eq!((read.exported, read.segments.len()), (7, 1_000));
        assert!(read.notes[0].contains("1000 of 5000 segments"), "{:?}", read.notes);
    }
}
