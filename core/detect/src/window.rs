//! Bounded memory over time: a map that forgets, counters and distinct counts within a window.
//!
//! Times are the observations' own. Earlier ones than the newest seen are taken where they still
//! fall into the window and counted as late where they do not; nothing here panics on any order.

use glasshive_event::Timestamp;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// A map of at most `capacity` keys. A key not touched for `idle` is due; when there is no room the
/// one touched longest ago goes and is counted.
#[derive(Debug)]
pub struct Keyed<K, V> {
    slots: HashMap<K, Slot<V>>,
    order: BTreeMap<(i64, u64), K>,
    ticket: u64,
    capacity: usize,
    idle_ns: i64,
    evicted: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    place: (i64, u64),
}

impl<K: Clone + Eq + Hash, V> Keyed<K, V> {
    /// At most `capacity` keys (at least 1), each kept until `idle` after its last touch.
    pub fn new(capacity: usize, idle: Duration) -> Self {
        Self { slots: HashMap::new(), order: BTreeMap::new(), ticket: 0, capacity: capacity.max(1), idle_ns: ns(idle), evicted: 0 }
    }

    /// The value of a key, made when it is new or was due; touches it.
    pub fn touch(&mut self, key: &K, now: Timestamp, make: impl FnOnce() -> V) -> &mut V {
        if self.slots.get(key).is_some_and(|slot| self.is_due(slot.place.0, now)) {
            self.remove(key);
        }
        if !self.slots.contains_key(key) && self.slots.len() >= self.capacity {
            self.make_room(now);
        }
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        let slot = self.slots.entry(key.clone()).or_insert_with(|| Slot { value: make(), place: (now.0, ticket) });
        // A late observation does not make a key older.
        let place = (now.0.max(slot.place.0), ticket);
        self.order.remove(&slot.place);
        slot.place = place;
        self.order.insert(place, key.clone());
        &mut slot.value
    }

    /// The value of a key, without touching it.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.slots.get(key).map(|slot| &slot.value)
    }

    /// Forgets a key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let slot = self.slots.remove(key)?;
        self.order.remove(&slot.place);
        Some(slot.value)
    }

    /// Takes out one key that is due, longest untouched first; call until `None`.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(K, V)> {
        let (place, _) = self.order.first_key_value()?;
        self.is_due(place.0, now).then(|| self.pop_oldest())?
    }

    /// Keys held, due ones included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Keys that had to go before they were due, since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn is_due(&self, touched: i64, now: Timestamp) -> bool {
        now.0.saturating_sub(touched) > self.idle_ns
    }

    fn make_room(&mut self, now: Timestamp) {
        let due = self.order.first_key_value().is_some_and(|(place, _)| self.is_due(place.0, now));
        if self.pop_oldest().is_some() && !due {
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let slot = self.slots.remove(&key)?;
        Some((key, slot.value))
    }
}

/// Buckets of a [`Count`].
const BUCKETS: usize = 16;

/// A sum over a sliding window, exact to a sixteenth of it: 144 bytes whatever is counted.
#[derive(Debug, Clone)]
pub struct Count {
    sums: [u64; BUCKETS],
    newest: i64,
    bucket_ns: i64,
    late: u64,
}

impl Count {
    /// Over `window`.
    pub fn new(window: Duration) -> Self {
        Self { sums: [0; BUCKETS], newest: i64::MIN, bucket_ns: (ns(window) / BUCKETS as i64).max(1), late: 0 }
    }

    /// Adds at a time and returns the sum of the window ending at the newest time seen.
    pub fn add(&mut self, now: Timestamp, amount: u64) -> u64 {
        let bucket = now.0.div_euclid(self.bucket_ns);
        self.advance(bucket);
        if bucket <= self.newest.saturating_sub(BUCKETS as i64) {
            self.late = self.late.saturating_add(1);
        } else if let Some(sum) = self.sums.get_mut(slot(bucket)) {
            *sum = sum.saturating_add(amount);
        }
        self.total(now)
    }

    /// The sum of the window that ends at `now`, or at the newest time seen when that is later.
    pub fn total(&self, now: Timestamp) -> u64 {
        let end = now.0.div_euclid(self.bucket_ns).max(self.newest);
        let kept =
            (0..BUCKETS as i64).map(|back| self.newest.saturating_sub(back)).filter(|bucket| *bucket > end.saturating_sub(BUCKETS as i64));
        kept.filter_map(|bucket| self.sums.get(slot(bucket))).fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Additions that came too late for the window, since the start.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn advance(&mut self, bucket: i64) {
        if bucket <= self.newest {
            return;
        }
        let steps = bucket.saturating_sub(self.newest).min(BUCKETS as i64);
        for back in 0..steps {
            if let Some(sum) = self.sums.get_mut(slot(bucket.saturating_sub(back))) {
                *sum = 0;
            }
        }
        self.newest = bucket;
    }
}

fn slot(bucket: i64) -> usize {
    bucket.rem_euclid(BUCKETS as i64) as usize
}

/// Distinct values within a sliding window, exact up to `capacity`, then "at least".
#[derive(Debug, Clone)]
pub struct Distinct<T> {
    seen: HashMap<T, i64>,
    window_ns: i64,
    capacity: usize,
    newest: i64,
    unkept: u64,
    last_unkept: i64,
}

/// A number of distinct values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Values held.
    pub count: usize,
    /// Whether there are no others: false when values did not fit within the window.
    pub exact: bool,
}

impl<T: Eq + Hash> Distinct<T> {
    /// Over `window`, at most `capacity` values (at least 1).
    pub fn new(window: Duration, capacity: usize) -> Self {
        Self { seen: HashMap::new(), window_ns: ns(window), capacity: capacity.max(1), newest: i64::MIN, unkept: 0, last_unkept: i64::MIN }
    }

    /// Notes a value; true when it was not within the window yet (also when it did not fit).
    pub fn add(&mut self, now: Timestamp, value: T) -> bool {
        self.newest = self.newest.max(now.0);
        if self.is_past(now.0) {
            return false;
        }
        if let Some(last) = self.seen.get_mut(&value) {
            let was_past = self.newest.saturating_sub(*last) > self.window_ns;
            *last = now.0.max(*last);
            return was_past;
        }
        if self.seen.len() >= self.capacity {
            self.prune();
        }
        if self.seen.len() >= self.capacity {
            self.unkept = self.unkept.saturating_add(1);
            self.last_unkept = self.last_unkept.max(now.0);
        } else {
            self.seen.insert(value, now.0);
        }
        true
    }

    /// Distinct values of the window that ends at `now`, or at the newest time seen when that is later.
    pub fn tally(&mut self, now: Timestamp) -> Tally {
        self.newest = self.newest.max(now.0);
        self.prune();
        Tally { count: self.seen.len(), exact: self.last_unkept == i64::MIN || self.is_past(self.last_unkept) }
    }

    /// The values held, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.seen.keys()
    }

    /// Values that did not fit, since the start; repeated ones count each time.
    pub fn unkept(&self) -> u64 {
        self.unkept
    }

    fn is_past(&self, at: i64) -> bool {
        self.newest.saturating_sub(at) > self.window_ns
    }

    fn prune(&mut self) {
        let oldest = self.newest.saturating_sub(self.window_ns);
        self.seen.retain(|_, last| *last >= oldest);
    }
}

/// Says when a rising number is worth telling again: at its threshold, then at each tenfold.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    next: Option<u64>,
}

impl Steps {
    /// First at `threshold` (at least 1).
    pub fn new(threshold: u64) -> Self {
        Self { next: Some(threshold.max(1)) }
    }

    /// Whether `value` reached the next step; steps it jumped over are told once.
    pub fn reached(&mut self, value: u64) -> bool {
        let mut told = false;
        while let Some(next) = self.next.filter(|next| value >= *next) {
            self.next = next.checked_mul(10);
            told = true;
        }
        told
    }
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(SECOND))
    }
    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn keyed_forgets_the_longest_untouched_and_counts() {
        let mut map: Keyed<&str, u32> = Keyed::new(2, seconds(10));
        *map.touch(&"a", at(0), || 0) += 1;
        *map.touch(&"b", at(1), || 0) += 1;
        *map.touch(&"a", at(2), || 0) += 1;
        *map.touch(&"c", at(3), || 0) += 1;
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.evicted(), map.len()), (Some(&2), None, Some(&1), 1, 2));
        // A due key goes without counting.
        map.touch(&"d", at(13), || 0);
        assert_eq!((map.get("a"), map.evicted()), (None, 1));
        assert_eq!(map.pop_due(at(13)), None);
        assert_eq!(map.pop_due(at(14)), Some(("c", 1)));
        assert_eq!(map.pop_due(at(14)), None);
        assert_eq!(map.remove("d"), Some(0));
        assert!(map.is_empty() && map.remove("d").is_none() && map.pop_due(at(99)).is_none());
    }

    #[test]
    fn keyed_starts_over_after_idling_and_ignores_lateness() {
        let mut map: Keyed<u8, u32> = Keyed::new(4, seconds(10));
        *map.touch(&1, at(0), || 0) += 1;
        *map.touch(&1, at(10), || 0) += 1;
        *map.touch(&1, at(5), || 0) += 1;
        assert_eq!(map.get(&1), Some(&3));
        assert_eq!(map.pop_due(at(20)), None);
        *map.touch(&1, at(21), || 0) += 1;
        assert_eq!(map.get(&1), Some(&1));
        assert_eq!(map.evicted(), 0);
    }

    #[test]
    fn counts_slide() {
        let mut count = Count::new(seconds(16));
        assert_eq!(count.add(at(0), 1), 1);
        assert_eq!(count.add(at(15), 2), 3);
        assert_eq!(count.total(at(16)), 2);
        assert_eq!(count.add(at(16), 4), 6);
        // Late within the window, then too late.
        assert_eq!(count.add(at(10), 1), 7);
        assert_eq!(count.add(at(0), 9), 7);
        assert_eq!(count.late(), 1);
        assert_eq!(count.total(at(1000)), 0);
        assert_eq!(count.add(at(1000), 1), 1);
        assert_eq!(Count::new(seconds(0)).add(at(-5), 3), 3);
    }

    #[test]
    fn distinct_is_exact_until_full() {
        let mut ports: Distinct<u16> = Distinct::new(seconds(60), 3);
        assert!(ports.add(at(0), 22) && ports.add(at(1), 23) && !ports.add(at(2), 22));
        assert_eq!(ports.tally(at(2)), Tally { count: 2, exact: true });
        assert!(ports.add(at(3), 80) && ports.add(at(4), 81));
        assert_eq!((ports.tally(at(4)), ports.unkept()), (Tally { count: 3, exact: false }, 1));
        // 23 (touched at 1) has left; the one that did not fit (at 4) not yet.
        assert_eq!(ports.tally(at(62)), Tally { count: 2, exact: false });
        assert_eq!(ports.tally(at(65)), Tally { count: 0, exact: true });
        assert!(ports.add(at(66), 22));
        assert!(!ports.add(at(0), 99), "too late to count");
        assert_eq!(ports.values().collect::<Vec<_>>(), [&22]);
    }

    #[test]
    fn steps_tell_each_tenfold_once() {
        let mut steps = Steps::new(5);
        let told: Vec<u64> = (0..=600).filter(|value| steps.reached(*value)).collect();
        assert_eq!(told, [5, 50, 500]);
        let mut jump = Steps::new(5);
        assert!(jump.reached(u64::MAX) && !jump.reached(u64::MAX));
    }

    fn cases() -> u32 {
        std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        /// Against a plain list of all additions.
        #[test]
        fn windows_agree_with_a_list(steps in proptest::collection::vec((0i64..40, 0u16..6), 1..60)) {
            let mut count = Count::new(seconds(16));
            let mut distinct: Distinct<u16> = Distinct::new(seconds(16), 100);
            let (mut now, mut all) = (0, Vec::new());
            for (step, value) in steps {
                now += step / 8;
                all.push((now, value));
                let total = count.add(at(now), 1);
                distinct.add(at(now), value);
                prop_assert_eq!(total, all.iter().filter(|(when, _)| now - when < 16).count() as u64);
                let expected: std::collections::BTreeSet<_> = all.iter().filter(|(when, _)| now - when <= 16).map(|(_, value)| value).collect();
                prop_assert_eq!(distinct.tally(at(now)), Tally { count: expected.len(), exact: true });
            }
        }

        #[test]
        fn any_times_are_answered_within_bounds(steps in proptest::collection::vec((any::<i64>(), any::<u8>()), 0..80), window: u64) {
            let mut map: Keyed<u8, u8> = Keyed::new(8, Duration::from_nanos(window));
            let mut count = Count::new(Duration::from_nanos(window));
            let mut distinct: Distinct<u8> = Distinct::new(Duration::from_nanos(window), 8);
            for (when, value) in steps {
                let now = Timestamp(when);
                map.touch(&value, now, || 0);
                count.add(now, u64::MAX);
                distinct.add(now, value);
                prop_assert!(map.len() <= 8 && map.len() == map.order.len() && distinct.tally(now).count <= 8);
                if value % 7 == 0 { map.pop_due(now); }
            }
        }
    }
}
