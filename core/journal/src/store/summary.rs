//! The days of the summary, and what is known of each without opening it.
//!
//! Beside a day that is not being written lies `DAY.sources`: a Bloom filter over its source
//! addresses, so that a list filtered by source skips the days it was not seen in. It is removed
//! before a day is written to and made again when the day is put down; without it a day is opened.
//! `DAY.tops`, its [busiest](super::tops) sources and account names, comes and goes with it.

use super::config::{OpenReport, StoreError};
use super::day::{Day, Extent};
use super::keys::{self, Posting};
use super::pool::{Pool, names};
use super::query::IpPrefix;
use super::tops::{self, Tops};
use crate::disk;
use crate::segment::{self, Batch, Segment};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

const DAY_NS: i64 = 86_400_000_000_000;
/// Bits a source costs: with 4 hashes about 1.2 % of days are opened in vain.
const BITS: usize = 10;
const HASHES: usize = 4;
/// Bytes of one filter at most.
const MAX_FILTER: usize = 1 << 20;

/// Databases kept open for readers.
const OPEN: usize = 24;

/// All days and their parts.
pub(crate) struct Summary {
    pub(crate) pool: Pool,
    days: RwLock<BTreeMap<Day, Option<Filter>>>,
    /// Lists of the days being written; they go with whoever writes.
    tops: Mutex<HashMap<Day, Weak<Mutex<Tops>>>>,
}

impl Summary {
    /// Opens the directory: recovers days that were being written, quarantines what cannot be read
    /// (it is made again from the log).
    pub(crate) fn open(dir: PathBuf, cache_bytes: u64, report: &mut OpenReport) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&dir).map_err(StoreError::io(&dir))?;
        let summary = Self { pool: Pool::new(dir.clone(), cache_bytes, OPEN), days: RwLock::default(), tops: Mutex::default() };
        for name in names(&dir)? {
            let Some(day) = Day::parse(&name) else { continue };
            if !segment::is_clean(&summary.pool.path(&name)) {
                report.unclean = true;
                // A power cut may have brought back what was removed before the day was written to.
                summary.remove_beside(day)?;
                let written = match summary.recover(&name, cache_bytes) {
                    Ok(written) => written,
                    Err(why) => {
                        let kept = segment::quarantine(&summary.pool.path(&name), &dir).map_err(StoreError::database(&name))?;
                        report.quarantined.push(format!("summary of {name}: {why}; kept as {}, made again from the log", kept.display()));
                        continue;
                    }
                };
                if !written {
                    // Made and never committed; or emptied by a recovery, and then `POSITION` misses it.
                    segment::remove(&summary.pool.path(&name)).map_err(StoreError::database(&name))?;
                    continue;
                }
            }
            let filter = disk::read_small(&summary.filter_file(day), MAX_FILTER as u64).ok().map(Filter);
            summary.write().insert(day, filter);
            report.days += usize::from(!day.is_part());
        }
        Ok(summary)
    }

    /// The days within two times, oldest first: where sums, credentials, files, findings and nodes are.
    pub(crate) fn days(&self, since: Option<i64>, until: Option<i64>) -> Vec<Day> {
        let (low, high) = (Day::of(since.unwrap_or(i64::MIN)), Day::at(until.unwrap_or(i64::MAX)));
        if low > high {
            return Vec::new();
        }
        self.read().range(low..=high).map(|(day, _)| *day).filter(|day| !day.is_part()).collect()
    }

    /// The days and parts within two times, oldest first: where sessions and flows are.
    pub(crate) fn parts(&self, since: Option<i64>, until: Option<i64>) -> Vec<Day> {
        let (low, high) = (since.map_or(Day::at(i64::MIN), |since| self.place(since)), Day::at(until.unwrap_or(i64::MAX)));
        if low > high {
            return Vec::new();
        }
        self.read().range(low..=high).map(|(day, _)| *day).collect()
    }

    /// The parts within a day of two times, the nearest first, `most` at most.
    pub(crate) fn near(&self, since: i64, until: i64, most: usize) -> Vec<Day> {
        let mut parts = self.parts(Some(since.saturating_sub(DAY_NS)), Some(until.saturating_add(DAY_NS)));
        parts.sort_by_key(|part| part.distance(since, until));
        parts.truncate(most);
        parts
    }

    /// The day or part a row of this time is in, or belongs into.
    pub(crate) fn place(&self, ns: i64) -> Day {
        let day = Day::of(ns);
        self.read().range(day..=Day::at(ns)).next_back().map_or(day, |(part, _)| *part)
    }

    /// Whether no later part of its day has begun.
    pub(crate) fn is_last(&self, day: Day) -> bool {
        self.read().range(day..=Day::at(day.end_ns())).next_back().is_none_or(|(last, _)| *last == day)
    }

    /// Begins a part: rows from its time on go there. Durable when it returns.
    pub(crate) fn begin(&self, part: Day, cache_bytes: u64) -> Result<(), StoreError> {
        let name = part.name();
        // What is there and not known is a beginning the disk refused to finish.
        segment::remove(&self.pool.path(&name)).map_err(StoreError::database(&name))?;
        let segment = self.pool.create(&name, cache_bytes)?;
        let mut batch = Batch::new();
        Extent::EMPTY.put(&mut batch);
        if let Err(e) = segment.apply(batch) {
            self.pool.discard(&name);
            return Err(StoreError::database(&name)(e));
        }
        self.write().insert(part, None);
        Ok(())
    }

    /// A day, opened if it is not.
    pub(crate) fn day(&self, day: Day) -> Result<Arc<Segment>, StoreError> {
        self.pool.get(&day.name())
    }

    /// A day to write to, made when it is not there, and the list of its busiest, for the writer to keep.
    pub(crate) fn day_for_writing(&self, day: Day, cache_bytes: u64) -> Result<(Arc<Segment>, Arc<Mutex<Tops>>), StoreError> {
        let known = self.read().contains_key(&day);
        let stored = self.stored_tops(day);
        if known {
            self.remove_beside(day)?;
        }
        let segment = if known { self.day(day)? } else { self.pool.create(&day.name(), cache_bytes)? };
        self.write().insert(day, None);
        let tops = match stored.filter(|_| known) {
            Some(tops) => tops,
            // No sums are in a part.
            None if !known || day.is_part() => Tops::default(),
            None => Tops::scan(&segment)?,
        };
        let tops = Arc::new(Mutex::new(tops));
        let mut all = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, tops| tops.strong_count() > 0);
        all.insert(day, Arc::downgrade(&tops));
        Ok((segment, tops))
    }

    /// The busiest of a day; `None` when only its rows tell.
    pub(crate) fn tops(&self, day: Day) -> Option<Tops> {
        let live = self.tops.lock().unwrap_or_else(PoisonError::into_inner).get(&day).and_then(Weak::upgrade);
        match live {
            Some(live) => Some(live.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            None => self.stored_tops(day),
        }
    }

    fn stored_tops(&self, day: Day) -> Option<Tops> {
        disk::read_small(&self.tops_file(day), tops::MAX_STORED).ok().and_then(|bytes| Tops::decode(&bytes))
    }

    /// Removes what lies beside a day and would not be true any more.
    fn remove_beside(&self, day: Day) -> Result<(), StoreError> {
        for path in [self.filter_file(day), self.tops_file(day)] {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::io(path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the filter of a day that is not written to any more, and keeps its busiest.
    pub(crate) fn put_down(&self, day: Day, segment: &Segment, tops: &Tops) -> Result<(), StoreError> {
        if !day.is_part() {
            let path = self.tops_file(day);
            disk::write_atomic(&path, &tops.encode()).map_err(StoreError::io(path))?;
        }
        // Rows of the sources that did something this day, and postings of the sessions filed under
        // it: around midnight they differ.
        let spans = [keys::span(&[keys::SOURCE], 16), keys::span(&[keys::POSTING, Posting::Source as u8], 32)];
        let mut sources: Vec<[u8; 16]> = Vec::new();
        for (low, high) in &spans {
            for entry in segment.range(&low[..]..=&high[..]) {
                let (key, _) = entry.map_err(StoreError::database(day.name()))?;
                let source = match key.first() {
                    Some(&keys::SOURCE) => keys::tail::<16>(&key),
                    _ => keys::tail::<32>(&key).and_then(|rest| rest.first_chunk::<16>().copied()),
                };
                if source.as_ref() != sources.last() {
                    sources.extend(source);
                }
                if sources.len().saturating_mul(2 * BITS / 8) >= MAX_FILTER {
                    // Too many to be worth a filter: the day is simply opened.
                    return Ok(());
                }
            }
        }
        sources.sort_unstable();
        sources.dedup();
        let filter = Filter::new(&sources);
        let path = self.filter_file(day);
        disk::write_atomic(&path, &filter.0).map_err(StoreError::io(path))?;
        self.write().insert(day, Some(filter));
        Ok(())
    }

    /// Whether a day can hold sessions of that source. `true` also when it is not known.
    pub(crate) fn may_hold(&self, day: Day, source: &IpPrefix) -> bool {
        match self.read().get(&day) {
            Some(Some(filter)) => filter.may_hold(source),
            Some(None) => true,
            None => false,
        }
    }

    /// Deletes a day; `false` while somebody reads it.
    pub(crate) fn remove(&self, day: Day) -> Result<bool, StoreError> {
        let gone = self.pool.retire(&day.name(), |path| segment::remove(path).map_err(StoreError::database(day.name())))?;
        if gone {
            self.write().remove(&day);
            let _ = self.remove_beside(day);
        }
        Ok(gone)
    }

    /// Opens a day that was not closed, and closes it; says whether anything was ever committed to it.
    fn recover(&self, name: &str, cache_bytes: u64) -> Result<bool, StoreError> {
        let opened = Segment::open(&self.pool.path(name), cache_bytes).map_err(StoreError::database(name))?;
        let (low, high) = keys::span(&[keys::POSITION], 16);
        let first = opened.segment.range(&low[..]..=&high[..]).next().transpose().map_err(StoreError::database(name))?;
        let written = first.is_some() || Extent::read(&opened.segment)?.is_some();
        let segment = opened.accept().map_err(StoreError::database(name))?;
        segment.close().map_err(StoreError::database(name))?;
        Ok(written)
    }

    fn filter_file(&self, day: Day) -> PathBuf {
        self.pool.path(&format!("{}.sources", day.name()))
    }

    fn tops_file(&self, day: Day) -> PathBuf {
        self.pool.path(&format!("{}.tops", day.name()))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Day, Option<Filter>>> {
        self.days.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Day, Option<Filter>>> {
        self.days.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Bloom filter over addresses and their /24 or /64 neighbourhoods.
struct Filter(Vec<u8>);

impl Filter {
    fn new(sources: &[[u8; 16]]) -> Self {
        let bytes = (sources.len() * 2 * BITS).div_ceil(8).clamp(8, MAX_FILTER);
        let mut filter = Self(vec![0; bytes]);
        for source in sources {
            filter.insert(source, 0);
            filter.insert(&neighbourhood(*source), 1);
        }
        filter
    }

    fn insert(&mut self, ip: &[u8; 16], what: u8) {
        for bit in places(ip, what, self.0.len()) {
            if let Some(byte) = self.0.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    fn holds(&self, ip: &[u8; 16], what: u8) -> bool {
        places(ip, what, self.0.len()).into_iter().all(|bit| self.0.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
    }

    fn may_hold(&self, prefix: &IpPrefix) -> bool {
        let whole = if prefix.ip.to_canonical().is_ipv4() { (32, 24) } else { (128, 64) };
        let ip = keys::ip16(prefix.ip);
        match prefix.bits {
            bits if bits >= whole.0 => self.holds(&ip, 0),
            bits if bits >= whole.1 => self.holds(&neighbourhood(ip), 1),
            _ => true,
        }
    }
}

/// The /24 (IPv4) or /64 (IPv6) an address lies in.
fn neighbourhood(ip: [u8; 16]) -> [u8; 16] {
    let v4 = IpAddr::from(ip).to_canonical().is_ipv4();
    let mut out = ip;
    for byte in out.iter_mut().skip(if v4 { 15 } else { 8 }) {
        *byte = 0;
    }
    out
}

fn places(ip: &[u8; 16], what: u8, bytes: usize) -> [usize; HASHES] {
    let digest = Sha256::new().chain_update([what]).chain_update(ip).finalize();
    let mut numbers = digest.chunks_exact(4).map(|chunk| chunk.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)));
    std::array::from_fn(|_| numbers.next().unwrap_or(0) % (bytes.max(1) * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_forgets_nothing_and_excludes_most() {
        let ip = |n: u32| keys::ip16(std::net::Ipv4Addr::from(0x0a00_0000 + n * 7919).into());
        let sources: Vec<_> = (0..1000).map(ip).collect();
        let filter = Filter::new(&sources);
        let prefix = |ip: [u8; 16], bits| IpPrefix { ip: IpAddr::from(ip).to_canonical(), bits };
        for source in &sources {
            assert!(filter.may_hold(&prefix(*source, 32)) && filter.may_hold(&prefix(*source, 24)) && filter.may_hold(&prefix(*source, 8)));
        }
        let wrong = (5000..7000).filter(|n| filter.may_hold(&prefix(ip(*n), 32))).count();
        assert!(wrong < 100, "{wrong}");
        let v6: IpPrefix = "2001:db8::/64".parse().unwrap();
        assert!(!filter.may_hold(&v6));
    }

    #[test]
    fn days_have_names() {
        for (ns, name) in [(0, "1970-01-01"), (1_700_000_000_000_000_000, "2023-11-14"), (-1, "1969-12-31")] {
            assert_eq!(Day::of(ns).name(), name);
            assert_eq!(Day::parse(name), Some(Day::of(ns)));
        }
        for bad in ["", "x", "2023-13-01", "copy-2023-11-14", "2023-11-14x"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
        let part = Day::after(1_700_000_000_123_456_789);
        assert_eq!((part.name().as_str(), part.whole().name().as_str()), ("2023-11-14+80000124", "2023-11-14"));
        assert_eq!(Day::parse("2023-11-14+80000124"), Some(part));
        for bad in ["2023-11-14+", "2023-11-14+5", "2023-11-14+00000000", "2023-11-14+99999999", "2023-11-14+-0000005"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }
}
