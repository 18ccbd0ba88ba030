//! How many may stand before the door: connections in all, unproven ones in all and per source, and
//! JOIN attempts per source and minute. Everything is bounded.

use super::ServerConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Sources whose JOIN attempts are remembered.
const SOURCES: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Counts {
    all: usize,
    unproven: usize,
    by_source: HashMap<IpAddr, usize>,
    joins: HashMap<IpAddr, (Instant, u32)>,
}

pub(super) struct Admission {
    max: usize,
    max_unproven: (usize, usize),
    joins_per_minute: u32,
    counts: Arc<Mutex<Counts>>,
}

/// A connection's place; given back when dropped.
pub(super) struct Pass {
    counts: Arc<Mutex<Counts>>,
    unproven: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            max: config.max_connections,
            max_unproven: config.max_unproven,
            joins_per_minute: config.joins_per_minute,
            counts: Arc::default(),
        }
    }

    pub(super) fn enter(&self, source: IpAddr) -> Option<Pass> {
        let mut counts = lock(&self.counts);
        let of_source = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.all >= self.max || counts.unproven >= self.max_unproven.0 || of_source >= self.max_unproven.1 {
            return None;
        }
        counts.all = counts.all.saturating_add(1);
        counts.unproven = counts.unproven.saturating_add(1);
        counts.by_source.insert(source, of_source.saturating_add(1));
        drop(counts);
        Some(Pass { counts: self.counts.clone(), unproven: Some(source) })
    }

    /// Counts a JOIN attempt; false when the source has had enough for this minute.
    pub(super) fn may_join(&self, source: IpAddr, now: Instant) -> bool {
        let mut counts = lock(&self.counts);
        if counts.joins.len() >= SOURCES && !counts.joins.contains_key(&source) {
            counts.joins.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
            if counts.joins.len() >= SOURCES {
                return false;
            }
        }
        let entry = counts.joins.entry(source).or_insert((now, 0));
        if now.duration_since(entry.0) >= MINUTE {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1 <= self.joins_per_minute
    }
}

impl Pass {
    /// The other side proved itself and does not count as unproven any more.
    pub(super) fn proven(&mut self) {
        let Some(source) = self.unproven.take() else { return };
        let mut counts = lock(&self.counts);
        counts.unproven = counts.unproven.saturating_sub(1);
        if let Some(of_source) = counts.by_source.get_mut(&source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                counts.by_source.remove(&source);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.proven();
        let mut counts = lock(&self.counts);
        counts.all = counts.all.saturating_sub(1);
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_and_are_given_back() {
        let config = ServerConfig { max_connections: 3, max_unproven: (2, 1), ..ServerConfig::default() };
        let admission = Admission::new(&config);
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let mut first = admission.enter(a).unwrap();
        assert!(admission.enter(a).is_none(), "one unproven per source");
        let second = admission.enter(b).unwrap();
        assert!(admission.enter(c).is_none(), "two unproven in all");
        first.proven();
        let third = admission.enter(a).unwrap();
        assert!(admission.enter(c).is_none(), "three in all");
        drop((first, second, third));
        let counts = lock(&admission.counts);
        assert_eq!((counts.all, counts.unproven, counts.by_source.len()), (0, 0, 0));
    }

    #[test]
    fn joins_are_limited_by_the_minute() {
        let admission = Admission::new(&ServerConfig { joins_per_minute: 2, ..ServerConfig::default() });
        let [a, b] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        let now = Instant::now();
        assert_eq!([0; 3].map(|_| admission.may_join(a, now)), [true, true, false]);
        assert!(admission.may_join(b, now));
        assert!(admission.may_join(a, now + MINUTE));
    }
}
