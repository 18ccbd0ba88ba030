//! Where wall time comes from. Certificates and offsets are judged by an injected clock, so that a
//! wrong clock can be tested; deadlines use tokio's monotonic one.

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A wall clock.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Nanoseconds since 1970 UTC.
    fn wall_ns(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A clock that is a fixed distance from the machine's; for tests, and for `doctor` to show what a wrong clock does.
#[derive(Debug, Default)]
pub struct OffsetClock(AtomicI64);

impl OffsetClock {
    /// A clock `offset_ns` ahead of the machine's (behind when negative).
    pub fn new(offset_ns: i64) -> Self {
        Self(AtomicI64::new(offset_ns))
    }

    /// Changes the distance.
    pub fn set(&self, offset_ns: i64) {
        self.0.store(offset_ns, Ordering::Relaxed);
    }
}

impl Clock for OffsetClock {
    fn wall_ns(&self) -> i64 {
        SystemClock.wall_ns().saturating_add(self.0.load(Ordering::Relaxed))
    }
}

/// Hands a [`Clock`] to rustls.
#[derive(Debug)]
pub(crate) struct TlsTime(pub(crate) Arc<dyn Clock>);

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.wall_ns()))
    }
}

pub(crate) fn unix_time(wall_ns: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(wall_ns).unwrap_or(0)))
}
