//! The busiest sources and account names of a day, so that their list does not read every row.
//!
//! Beside a day that is not being written lies `DAY.tops`; for one that is, the list is in memory. Both are a
//! help only: without one, every row is read. A list never says less of a key than its row does: what is not in a
//! full list has at most the list's least count, and that decides when an answer is certain.

use super::config::StoreError;
use super::keys;
use super::rows::{ROW_VERSION, Row, SourceRow, UserRow, decode};
use crate::segment::Segment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Keys of each kind a day's list has. Enough for the busiest ten of two days whose sources all come equally often.
const KEPT: usize = 1_024;
/// Bytes of a stored list at most.
pub(crate) const MAX_STORED: u64 = 128 << 10;

/// Both lists of a day.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tops {
    /// Addresses as in keys, by sessions.
    pub(crate) sources: Busiest,
    /// Hashes of account names as in keys, by attempts.
    pub(crate) users: Busiest,
}

/// The keys with the largest counts. Counts only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Busiest {
    counts: HashMap<[u8; 16], u64>,
    order: BTreeSet<(u64, [u8; 16])>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    sources: Vec<([u8; 16], u64)>,
    users: Vec<([u8; 16], u64)>,
}

impl Tops {
    /// Makes the lists from the rows.
    pub(crate) fn scan(segment: &Segment) -> Result<Self, StoreError> {
        let mut tops = Self::default();
        scan::<SourceRow>(segment, keys::SOURCE, |row| row.counts.sessions, &mut tops.sources)?;
        scan::<UserRow>(segment, keys::USER, |row| row.logins, &mut tops.users)?;
        Ok(tops)
    }

    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stored = Stored { sources: self.sources.list(), users: self.users.list() };
        postcard::to_extend(&stored, vec![ROW_VERSION]).unwrap_or_default()
    }

    /// Reads the stored form; `None` when it is damaged or of a later build.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (_, rest) = bytes.split_first().filter(|(version, _)| **version == ROW_VERSION)?;
        let stored: Stored = postcard::from_bytes(rest).ok()?;
        let mut tops = Self::default();
        stored.sources.into_iter().for_each(|(key, count)| tops.sources.note(key, count));
        stored.users.into_iter().for_each(|(key, count)| tops.users.note(key, count));
        Some(tops)
    }
}

impl Busiest {
    /// Takes note of a key's count.
    pub(crate) fn note(&mut self, key: [u8; 16], count: u64) {
        match self.counts.get(&key) {
            Some(known) if *known == count => return,
            Some(known) => drop(self.order.remove(&(*known, key))),
            None if !self.is_whole() && count <= self.least() => return,
            None => {}
        }
        self.counts.insert(key, count);
        self.order.insert((count, key));
        if self.order.len() > KEPT
            && let Some((_, gone)) = self.order.pop_first()
        {
            self.counts.remove(&gone);
        }
    }

    /// Whether every key is listed.
    pub(crate) fn is_whole(&self) -> bool {
        self.order.len() < KEPT
    }

    /// The most a key that is not listed can have.
    pub(crate) fn least(&self) -> u64 {
        if self.is_whole() { 0 } else { self.order.first().map_or(0, |(count, _)| *count) }
    }

    /// The count of a key, or the most it can have.
    pub(crate) fn at_most(&self, key: &[u8; 16]) -> u64 {
        self.counts.get(key).copied().unwrap_or_else(|| self.least())
    }

    /// The listed keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.counts.keys()
    }

    fn list(&self) -> Vec<([u8; 16], u64)> {
        self.order.iter().rev().map(|(count, key)| (*key, *count)).collect()
    }
}

fn scan<R: Row>(segment: &Segment, tag: u8, count: fn(&R) -> u64, into: &mut Busiest) -> Result<(), StoreError> {
    let (low, high) = keys::span(&[tag], 16);
    for entry in segment.range(&low[..]..=&high[..]) {
        let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
        if let (Some(key), Some(row)) = (keys::tail::<16>(&key), decode::<R>(&value)) {
            into.note(key, count(&row));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> [u8; 16] {
        u128::from(n).to_be_bytes()
    }

    #[test]
    fn the_busiest_are_kept_and_nothing_else_is_said_too_little_of() {
        let mut busiest = Busiest::default();
        let mut counts: HashMap<u32, u64> = HashMap::new();
        let mut random = 7u32;
        for _ in 0..60_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Some come far more often than others.
            let n = (random >> 20).min(random >> 8 & 0xfff);
            let count = counts.entry(n).or_default();
            *count += 1;
            busiest.note(key(n), *count);
            assert!(busiest.counts.len() <= KEPT && busiest.order.len() == busiest.counts.len());
        }
        assert!(counts.len() > 2 * KEPT);
        assert!(counts.iter().all(|(n, count)| busiest.at_most(&key(*n)) >= *count));
        let mut ranked: Vec<(u64, [u8; 16])> = counts.iter().map(|(n, count)| (*count, key(*n))).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        assert!(ranked.iter().take_while(|(count, _)| *count > busiest.least()).all(|(count, key)| busiest.counts[key] == *count));
    }

    #[test]
    fn stored_and_read_back() {
        let mut tops = Tops::default();
        for n in 0..2_000 {
            tops.sources.note(key(n), u64::from(n % 700));
            tops.users.note(key(n / 10), u64::from(n));
        }
        let bytes = tops.encode();
        assert!((bytes.len() as u64) < MAX_STORED);
        assert_eq!(Tops::decode(&bytes), Some(tops));
        for bad in [&[][..], &[ROW_VERSION], &[9, 0, 0], &bytes[..bytes.len() - 1]] {
            assert_eq!(Tops::decode(bad), None);
        }
    }
}
