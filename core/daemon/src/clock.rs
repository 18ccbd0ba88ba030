//! The clocks records carry, and one that tests turn by hand.

use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Nanoseconds since 1970 UTC.
pub fn wall_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Nanoseconds since boot, suspended time included; never goes back.
pub fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The kernel's id of this boot: monotonic times compare only within one.
///
/// Where `/proc/sys` is hidden (`ProcSubset=pid`) it is random and new for each process, so times
/// of two runs are never wrongly compared.
pub fn boot_id() -> [u8; 16] {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    *ID.get_or_init(|| kernel_boot_id().unwrap_or_else(random_id))
}

fn kernel_boot_id() -> Option<[u8; 16]> {
    parse_uuid(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

fn random_id() -> [u8; 16] {
    use std::hash::{BuildHasher as _, RandomState};
    // RandomState is keyed by the operating system; uniqueness is all that is asked of this id.
    let half = || RandomState::new().hash_one((std::process::id(), mono_ns(), wall_ns())).to_be_bytes();
    let mut id = [0; 16];
    for (slot, byte) in id.iter_mut().zip(half().into_iter().chain(half())) {
        *slot = byte;
    }
    id
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b'-').collect();
    let mut id = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (slot, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Where a part takes its time from.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since 1970 UTC.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since boot.
    fn mono_ns(&self) -> u64;
    /// Id of this boot.
    fn boot_id(&self) -> [u8; 16];
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        wall_ns()
    }
    fn mono_ns(&self) -> u64 {
        mono_ns()
    }
    fn boot_id(&self) -> [u8; 16] {
        boot_id()
    }
}

/// A clock that moves only when told to: for tests.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    mono: AtomicU64,
    boot: [u8; 16],
}

impl ManualClock {
    /// Starts at the given wall time, one second after boot.
    pub fn new(wall_ns: i64) -> Self {
        Self { wall: AtomicI64::new(wall_ns), mono: AtomicU64::new(1_000_000_000), boot: [0x42; 16] }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: std::time::Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(ns, Relaxed);
        self.wall.fetch_add(i64::try_from(ns).unwrap_or(i64::MAX), Relaxed);
    }

    /// Steps the wall clock only, as an administrator or NTP does.
    pub fn step_wall(&self, by_ns: i64) {
        self.wall.fetch_add(by_ns, Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall_ns(&self) -> i64 {
        self.wall.load(Relaxed)
    }
    fn mono_ns(&self) -> u64 {
        self.mono.load(Relaxed)
    }
    fn boot_id(&self) -> [u8; 16] {
        self.boot
    }
}

/// Notices when the wall clock is moved against the monotonic one.
#[derive(Debug)]
pub struct StepDetector {
    threshold_ns: u64,
    offset: Option<i128>,
}

impl StepDetector {
    /// Reports moves larger than `threshold`. Slewing is at most 0.05 %, so sample often enough
    /// that an ordinary correction between two samples stays below it.
    pub fn new(threshold: std::time::Duration) -> Self {
        Self { threshold_ns: u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX), offset: None }
    }

    /// Takes a sample; `Some(signed nanoseconds)` when the wall clock moved since the last one.
    pub fn sample(&mut self, clock: &dyn Clock) -> Option<i64> {
        let offset = i128::from(clock.wall_ns()) - i128::from(clock.mono_ns());
        let step = offset - self.offset.replace(offset)?;
        (step.unsigned_abs() > u128::from(self.threshold_ns))
            .then(|| i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn machine_clocks() {
        let (a, b) = (mono_ns(), mono_ns());
        assert!(b >= a && a > 0);
        assert!(wall_ns() > 1_600_000_000_000_000_000);
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id(), [0; 16]);
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn uuids() {
        assert_eq!(parse_uuid("00010203-0405-0607-0809-0a0b0c0d0e0f\n"), Some(std::array::from_fn(|i| i as u8)));
        for bad in ["", "00", "zz010203-0405-0607-0809-0a0b0c0d0e0f", "é0010203-0405-0607-0809-0a0b0c0d0e0"] {
            assert_eq!(parse_uuid(bad), None);
        }
    }

    #[test]
    fn steps_are_seen_and_passing_time_is_not() {
        let clock = ManualClock::new(1_000_000_000_000);
        let mut detector = StepDetector::new(Duration::from_millis(500));
        assert_eq!(detector.sample(&clock), None);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(detector.sample(&clock), None);
        clock.step_wall(400_000_000);
        assert_eq!(detector.sample(&clock), None);
        clock.step_wall(-7_000_000_000);
        assert_eq!(detector.sample(&clock), Some(-7_000_000_000));
        clock.step_wall(7_000_000_000);
        assert_eq!(detector.sample(&clock), Some(7_000_000_000));
        assert_eq!(detector.sample(&clock), None);
    }
}
