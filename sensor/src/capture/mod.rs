//! Live capture: packets from an interface, encoded straight into chunks of pcapng.
//!
//! ```text
//! kernel ring ─► capture thread ─► chunk ─► writer (every chunk; see `crate::ring`)
//!                                     └───► analyser (the same chunk, or it is skipped and counted)
//! ```
//!
//! The capture thread copies and counts; it never parses, allocates in steady state, writes a file,
//! logs per packet or waits for analysis. When the writer holds all chunks it stops reading and the
//! kernel's ring is the last buffer: what that loses the kernel counts.
//!
//! Only this module and the exact filter of `crate::carve` name libpcap.

mod chunk;
mod count;
mod live;

#[cfg(test)]
pub(crate) use chunk::testing;
pub use chunk::{Chunk, Pool};
pub use count::{Cause, Counters, Sampler, Snapshot};
pub use live::{Capture, CaptureError, Live, Outlets, Settings, To};

/// How long a packet may wait in a chunk that is not full.
pub(crate) const MAX_WAIT: std::time::Duration = std::time::Duration::from_millis(250);
/// Usual size of a chunk, bytes.
pub const CHUNK: usize = 4 << 20;
