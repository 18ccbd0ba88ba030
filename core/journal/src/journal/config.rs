//! Settings of a journal, and how they are fitted to the disk.

use crate::disk::Space;
use std::path::PathBuf;
use std::time::Duration;

/// What to do when the quota is used up by records the controller has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFull {
    /// Stop accepting until there is room again; nothing is lost.
    #[default]
    Pause,
    /// Delete the oldest segment, after a `gap` record that says what was in it.
    DropOldest,
}

/// Settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Directory of the journal; made when missing (0700).
    pub dir: PathBuf,
    /// A segment is closed at this size on disk, bytes. Clamped to 1/8 of the quota and of the file system.
    pub segment_bytes: u64,
    /// A segment with records is closed at this age.
    pub segment_age: Duration,
    /// sled's cache, bytes; it may use several times that.
    pub cache_bytes: u64,
    /// All segments together, bytes on disk; at least 8 MiB.
    pub quota_bytes: u64,
    /// Acknowledged segments older than this are deleted.
    pub max_age: Duration,
    /// When the quota is full of unacknowledged records.
    pub on_full: OnFull,
    /// Room for records not yet durable, in units of 512 bytes; a usual record takes one. At least 64.
    pub queue: usize,
    /// Room besides, for `append_reserved` only, in the same units. At least 8.
    pub reserved: usize,
    /// No controller is configured: records count as acknowledged, age and quota alone decide.
    pub standalone: bool,
    /// The kernel's boot id, part of every record.
    pub boot: [u8; 16],
}

impl JournalConfig {
    /// The defaults for `dir`: 128 MiB or 1 h a segment, 4 MiB cache, 4 GiB quota, 30 days, pause when full.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 128 << 20,
            segment_age: Duration::from_secs(3600),
            cache_bytes: 4 << 20,
            quota_bytes: 4 << 30,
            max_age: Duration::from_secs(30 * 86_400),
            on_full: OnFull::Pause,
            queue: 8192,
            reserved: 1024,
            standalone: false,
            boot: boot_id(),
        }
    }

    /// Size at which a segment is closed on a file system of this size.
    pub(super) fn segment_limit(&self, space: Space) -> u64 {
        self.segment_bytes.min(self.quota_bytes / 8).min(space.total / 8).max(MIN_SEGMENT)
    }
}

/// Smallest quota, bytes.
pub(super) const MIN_QUOTA: u64 = 8 << 20;
/// An almost empty sled database takes about half of this.
const MIN_SEGMENT: u64 = 1 << 20;

/// The kernel's boot id; zero where the kernel has none to give.
pub fn boot_id() -> [u8; 16] {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
        .map_or([0; 16], |id| *id.as_bytes())
}

/// Wall clock in nanoseconds UTC and the monotonic clock in nanoseconds, for records the journal writes itself.
pub(super) fn clocks() -> (i64, u64) {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mono =
        u64::try_from(mono.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(mono.tv_nsec).unwrap_or(0));
    (i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX), mono)
}
