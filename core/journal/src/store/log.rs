//! The log: numbered segments of blocks, and what is known of each without opening it.
//!
//! A closed segment has a side file `NUMBER.index` with the logs in it and their ranges, so that a
//! start does not open a month of databases and a scan skips what cannot matter. It is made again
//! from the segment when it is missing.

use super::config::{HighWater, OpenReport, StoreError, Tampered};
use super::keys;
use super::pool::{Pool, names};
use super::value::BlockView;
use crate::disk;
use crate::segment::{self, Batch, Segment, Slice};
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::{LogId, RecordView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Prefix of a log's high-water row.
const HIGH: u8 = b'h';
/// Prefix of a declared gap: `g ‖ log ‖ from`.
const GAP: u8 = b'g';
/// Prefix of evidence of tampering: `t ‖ log ‖ seq`.
const TAMPER: u8 = b't';
/// Segments kept open for readers, besides those somebody holds.
const OPEN: usize = 3;
/// Largest side file we read back.
const MAX_INDEX: u64 = 16 << 20;

/// One log's records within one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) wall_min: i64,
    pub(crate) wall_max: i64,
    pub(crate) records: u64,
}

/// What is known of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SegmentIndex {
    pub(crate) logs: BTreeMap<LogId, LogRange>,
    /// Newest wall or receive time in it, for retention.
    pub(crate) newest_ns: i64,
}

impl SegmentIndex {
    /// Counts records of a log in.
    pub(crate) fn add(&mut self, log: LogId, first: u64, last: u64, wall: Option<(i64, i64)>, received_ns: i64, records: u64) {
        let (low, high) = wall.unwrap_or((received_ns, received_ns));
        let range = self.logs.entry(log).or_insert(LogRange { first, last, wall_min: low, wall_max: high, records: 0 });
        range.first = range.first.min(first);
        range.last = range.last.max(last);
        range.wall_min = range.wall_min.min(low);
        range.wall_max = range.wall_max.max(high);
        range.records += records;
        self.newest_ns = self.newest_ns.max(received_ns);
    }
}

/// A declared gap as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredGap {
    pub(crate) node: String,
    pub(crate) net: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) why: String,
    pub(crate) received_ns: i64,
}

/// All segments.
pub(crate) struct Log {
    pub(crate) pool: Pool,
    index: RwLock<BTreeMap<u64, SegmentIndex>>,
    followed: Mutex<Followed>,
}

/// How the summary follows the log.
#[derive(Default)]
struct Followed {
    /// How far of each log is in it.
    positions: BTreeMap<LogId, u64>,
    /// More than what waits in the follower's queue is missing: what lies above the positions is needed.
    behind: bool,
    /// Something durable was not told to the follower, and it does not know yet.
    left_out: bool,
}

/// What opening the log found.
pub(crate) struct LogOpened {
    pub(crate) log: Log,
    pub(crate) high: BTreeMap<LogId, HighWater>,
    pub(crate) tampered: Vec<Tampered>,
}

/// Directory name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:020}")
}

impl Log {
    /// Opens the directory: recovers what was left open, quarantines what cannot be read.
    pub(crate) fn open(dir: PathBuf, cache_bytes: u64, report: &mut OpenReport) -> Result<LogOpened, StoreError> {
        std::fs::create_dir_all(&dir).map_err(StoreError::io(&dir))?;
        let log = Self { pool: Pool::new(dir.clone(), cache_bytes, OPEN), index: RwLock::default(), followed: Mutex::default() };
        let acknowledged = log.acknowledged();
        let mut copies = Vec::new();
        for name in names(&dir)? {
            let Ok(number) = name.parse::<u64>() else { continue };
            if !segment::is_clean(&log.pool.path(&name)) {
                report.unclean = true;
                match log.recover(&name, cache_bytes, &acknowledged) {
                    Ok(copy) => copies.extend(copy),
                    Err(why) => {
                        let kept = segment::quarantine(&log.pool.path(&name), &dir).map_err(StoreError::database(&name))?;
                        log.forget_before(i64::MAX)?;
                        report.quarantined.push(format!("log segment {name}: {why}; kept as {}", kept.display()));
                        continue;
                    }
                }
            }
            let index = match log.read_side_file(number) {
                Some(index) => index,
                None => build_index(&*log.pool.get(&name)?)?,
            };
            log.write_index().insert(number, index);
            report.segments += 1;
        }
        let mut high = BTreeMap::new();
        let mut tampered = Vec::new();
        // The newest segment that was written to holds every log's row; newer ones are empty.
        for number in log.numbers().into_iter().rev() {
            let segment = log.pool.get(&name(number))?;
            if number_of_logs(&segment)? > 0 {
                high = read_high(&segment)?;
                tampered = read_tampered(&segment)?;
                break;
            }
        }
        for (id, acknowledged) in acknowledged {
            let recovered = high.get(&id).map_or(0, |row: &HighWater| row.seq);
            if recovered < acknowledged {
                report.lost.push((id, acknowledged, recovered));
            }
        }
        for copy in copies {
            if report.lost.is_empty() {
                segment::remove(&copy).map_err(StoreError::database(copy.display().to_string()))?;
            } else {
                report.quarantined.push(format!("records are lost; the state before recovery is kept as {}", copy.display()));
            }
        }
        Ok(LogOpened { log, high, tampered })
    }

    /// Numbers of all segments, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.read_index().keys().copied().collect()
    }

    /// Whether a segment is (still) there.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.read_index().contains_key(&number)
    }

    /// The indexes of all segments as they are now.
    pub(crate) fn indexes(&self) -> BTreeMap<u64, SegmentIndex> {
        self.read_index().clone()
    }

    /// The follower's queue is full: it will read what is durable from here.
    pub(crate) fn leave_out(&self) {
        let mut followed = self.followed();
        (followed.behind, followed.left_out) = (true, true);
    }

    /// Whether anything was left out since this was last asked.
    pub(crate) fn was_left_out(&self) -> bool {
        std::mem::take(&mut self.followed().left_out)
    }

    /// Takes note that the summary needs what lies here above `positions`.
    pub(crate) fn fall_behind(&self, positions: &BTreeMap<LogId, u64>) {
        let mut followed = self.followed();
        followed.behind = true;
        followed.positions.clone_from(positions);
    }

    /// Takes note of how far the summary is durable.
    pub(crate) fn follow(&self, positions: &BTreeMap<LogId, u64>) {
        self.followed().positions.clone_from(positions);
    }

    /// Takes note that the summary has everything, unless something was left out meanwhile; says whether it has.
    pub(crate) fn caught_up(&self) -> bool {
        let mut followed = self.followed();
        followed.behind = std::mem::take(&mut followed.left_out);
        !followed.behind
    }

    /// Records that are durable up to `high` and not in the summary yet, while it is behind.
    pub(crate) fn behind(&self, high: &BTreeMap<LogId, HighWater>) -> u64 {
        let followed = self.followed();
        let missing = |row: &HighWater| row.seq.saturating_sub(followed.positions.get(&row.log).copied().unwrap_or(0));
        if followed.behind { high.values().map(missing).fold(0, u64::saturating_add) } else { 0 }
    }

    /// Whether the summary still needs a segment.
    pub(crate) fn is_awaited(&self, index: &SegmentIndex) -> bool {
        let followed = self.followed();
        followed.behind && index.logs.iter().any(|(log, range)| followed.positions.get(log).copied().unwrap_or(0) < range.last)
    }

    /// Numbers of the segments that hold a wanted range of one log, oldest first.
    pub(crate) fn segments_of(&self, log: LogId, wanted: impl Fn(&LogRange) -> bool) -> VecDeque<u64> {
        let index = self.read_index();
        index.iter().filter(|(_, index)| index.logs.get(&log).is_some_and(&wanted)).map(|(number, _)| *number).collect()
    }

    /// Changes (or makes) a segment's index.
    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut SegmentIndex)) {
        change(self.write_index().entry(number).or_default());
    }

    /// A segment, opened if it is not.
    pub(crate) fn segment(&self, number: u64) -> Result<Arc<Segment>, StoreError> {
        self.pool.get(&name(number))
    }

    /// Makes the next segment, carrying every log's row over.
    pub(crate) fn create(&self, high: &BTreeMap<LogId, HighWater>, cache_bytes: u64) -> Result<(u64, Arc<Segment>), StoreError> {
        let number = self.numbers().last().map_or(1, |last| last + 1);
        // What is there and not known is a creation the disk refused to finish.
        segment::remove(&self.pool.path(&name(number))).map_err(StoreError::database(name(number)))?;
        let segment = self.pool.create(&name(number), cache_bytes)?;
        let mut batch = Batch::new();
        for row in high.values() {
            put_high(&mut batch, row);
        }
        if let Err(e) = segment.apply(batch) {
            self.pool.discard(&name(number));
            return Err(StoreError::database(name(number))(e));
        }
        self.update(number, |_| {});
        Ok((number, segment))
    }

    /// Writes the side file of a segment that will not change any more.
    pub(crate) fn seal(&self, number: u64) -> Result<(), StoreError> {
        let Some(index) = self.read_index().get(&number).cloned() else { return Ok(()) };
        let path = self.side_file(number);
        let text = serde_json::to_vec(&index).map_err(StoreError::database(path.display().to_string()))?;
        disk::write_atomic(&path, &text).map_err(StoreError::io(path))
    }

    /// Deletes a closed segment; `false` while somebody reads it.
    pub(crate) fn remove(&self, number: u64) -> Result<bool, StoreError> {
        let newest =
            self.read_index().get(&number).map_or(0, |index| index.logs.values().fold(index.newest_ns, |max, log| max.max(log.wall_max)));
        let gone = self.pool.retire(&name(number), |path| {
            self.forget_before(newest)?;
            segment::remove(path).map_err(StoreError::database(name(number)))
        })?;
        if gone {
            self.write_index().remove(&number);
            let _ = std::fs::remove_file(self.side_file(number));
        }
        Ok(gone)
    }

    /// Newest time of anything ever deleted here: summary days up to it cannot be made again.
    pub(crate) fn forgotten(&self) -> Option<i64> {
        let bytes = disk::read_small(&self.pool.path("FORGOTTEN"), 64).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    fn forget_before(&self, ns: i64) -> Result<(), StoreError> {
        let newest = self.forgotten().map_or(ns, |before| before.max(ns));
        let path = self.pool.path("FORGOTTEN");
        disk::write_atomic(&path, newest.to_string().as_bytes()).map_err(StoreError::io(path))
    }

    /// Leaf hash of a stored record, `None` when it is not kept.
    pub(crate) fn leaf(&self, log: LogId, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let within = |index: &SegmentIndex| index.logs.get(&log).is_some_and(|range| range.first <= seq && seq <= range.last);
        let numbers: Vec<u64> = self.read_index().iter().filter(|(_, index)| within(index)).map(|(number, _)| *number).collect();
        for number in numbers {
            let segment = self.segment(number)?;
            let Some((first, value)) = last_block(&segment, log, seq)? else { continue };
            let Some(view) = BlockView::parse(&value) else { continue };
            let place = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
            if let Some(record) = view.iter().nth(place) {
                return Ok(Some(leaf_hash(record)));
            }
        }
        Ok(None)
    }

    /// First sequence number of the block that holds `seq`; `seq` itself when no block does.
    pub(crate) fn block_before(&self, number: u64, log: LogId, seq: u64) -> Result<u64, StoreError> {
        let segment = self.segment(number)?;
        Ok(last_block(&segment, log, seq)?.map_or(seq, |(first, _)| first))
    }

    /// Declared gaps of one log in one segment, in order.
    pub(crate) fn gaps(&self, number: u64, log: LogId) -> Result<Vec<StoredGap>, StoreError> {
        let segment = self.segment(number)?;
        let (low, high) = keys::span(&keys::key(GAP, &[&log.0]), 8);
        let mut gaps = Vec::new();
        for entry in segment.range(&low[..]..=&high[..]) {
            let (key, value) = entry.map_err(StoreError::database(name(number)))?;
            if key.len() == 25
                && let Ok(gap) = postcard::from_bytes(&value)
            {
                gaps.push(gap);
            }
        }
        Ok(gaps)
    }

    /// Writes down what was acknowledged, so that a start can tell a loss from a short log.
    pub(crate) fn acknowledge(&self, high: &BTreeMap<LogId, HighWater>) -> Result<(), StoreError> {
        let path = self.pool.path("ACKNOWLEDGED");
        let seqs: BTreeMap<LogId, u64> = high.iter().map(|(log, row)| (*log, row.seq)).collect();
        let text = serde_json::to_vec(&seqs).map_err(StoreError::database(path.display().to_string()))?;
        disk::write_atomic(&path, &text).map_err(StoreError::io(path))
    }

    fn acknowledged(&self) -> BTreeMap<LogId, u64> {
        let bytes = disk::read_small(&self.pool.path("ACKNOWLEDGED"), MAX_INDEX).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Opens a segment that was not closed, compares its newest records with its rows, closes it.
    /// Returns the state before recovery when less came back than was acknowledged.
    fn recover(&self, name: &str, cache_bytes: u64, acknowledged: &BTreeMap<LogId, u64>) -> Result<Option<PathBuf>, StoreError> {
        let opened = Segment::open(&self.pool.path(name), cache_bytes).map_err(StoreError::database(name))?;
        verify(&opened.segment)?;
        let rows = read_high(&opened.segment)?;
        let short = acknowledged.iter().any(|(log, seq)| rows.get(log).is_none_or(|row| row.seq < *seq));
        let mut kept = None;
        if let Some(copy) = opened.copy.as_ref().filter(|_| short) {
            // Older segments are short too; whether anything is lost is known when all are read.
            let target = self.pool.path(&format!("quarantine-{name}-recovered"));
            segment::remove(&target).map_err(StoreError::database(name))?;
            std::fs::rename(copy, &target).map_err(StoreError::io(copy))?;
            kept = Some(target);
        }
        let segment = opened.accept().map_err(StoreError::database(name))?;
        segment.close().map_err(StoreError::database(name))?;
        Ok(kept)
    }

    fn side_file(&self, number: u64) -> PathBuf {
        self.pool.path(&format!("{}.index", name(number)))
    }

    fn read_side_file(&self, number: u64) -> Option<SegmentIndex> {
        let bytes = disk::read_small(&self.side_file(number), MAX_INDEX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_index(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, SegmentIndex>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, SegmentIndex>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a log's row to a batch.
pub(crate) fn put_high(batch: &mut Batch, row: &HighWater) {
    let stored = StoredHigh::V1 {
        node: row.node.clone(),
        net: row.net.clone(),
        seq: row.seq,
        chain: row.chain,
        chain_known: row.chain_known,
        wall_ns: row.wall_ns,
        gaps: row.gaps.clone(),
    };
    batch.put(&keys::key(HIGH, &[&row.log.0]), &postcard::to_stdvec(&stored).unwrap_or_default());
}

/// Adds a declared gap to a batch.
pub(crate) fn put_gap(batch: &mut Batch, log: LogId, gap: &StoredGap) {
    batch.put(&keys::key(GAP, &[&log.0, &gap.from.to_be_bytes()]), &postcard::to_stdvec(gap).unwrap_or_default());
}

/// Adds evidence of tampering to a batch.
pub(crate) fn put_tampered(batch: &mut Batch, t: &Tampered) {
    let value = (t.node.as_str(), t.stored, t.received.as_slice(), t.received_ns);
    batch.put(&keys::key(TAMPER, &[&t.log.0, &t.seq.to_be_bytes()]), &postcard::to_stdvec(&value).unwrap_or_default());
}

/// Stored form of [`HighWater`]; variants are only added at the end.
#[derive(Serialize, Deserialize)]
enum StoredHigh {
    V1 { node: String, net: String, seq: u64, chain: [u8; 32], chain_known: bool, wall_ns: i64, gaps: Vec<(u64, u64, String)> },
}

/// The block of a log with the largest first sequence number not above `seq`. Meta keys that a
/// chosen log id could place between are passed over.
fn last_block(segment: &Segment, log: LogId, seq: u64) -> Result<Option<(u64, Slice)>, StoreError> {
    let (low, high) = (keys::block(log, 0), keys::block(log, seq));
    for entry in segment.range(&low[..]..=&high[..]).rev() {
        let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
        if let Some((_, first)) = keys::parse_block(&key) {
            return Ok(Some((first, value)));
        }
    }
    Ok(None)
}

fn number_of_logs(segment: &Segment) -> Result<usize, StoreError> {
    read_high(segment).map(|rows| rows.len())
}

fn read_high(segment: &Segment) -> Result<BTreeMap<LogId, HighWater>, StoreError> {
    let (low, high) = keys::span(&[HIGH], 16);
    let mut rows = BTreeMap::new();
    for entry in segment.range(&low[..]..=&high[..]) {
        let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
        if key.len() != 17 {
            continue;
        }
        let (Some(log), Ok(StoredHigh::V1 { node, net, seq, chain, chain_known, wall_ns, gaps })) =
            (keys::tail(&key).map(LogId), postcard::from_bytes(&value))
        else {
            return Err(StoreError::Database { what: segment.dir().display().to_string(), why: "a high-water row is damaged".into() });
        };
        rows.insert(log, HighWater { node, net, log, seq, chain, chain_known, wall_ns, gaps });
    }
    Ok(rows)
}

fn read_tampered(segment: &Segment) -> Result<Vec<Tampered>, StoreError> {
    let (low, high) = keys::span(&[TAMPER], 24);
    let mut rows = Vec::new();
    for entry in segment.range(&low[..]..=&high[..]) {
        let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
        let Some((_, rest)) = key.split_first().filter(|_| key.len() == 25) else { continue };
        let (Some((log, seq)), Ok((node, stored, received, received_ns))) =
            (keys::parse_block(rest), postcard::from_bytes::<(String, [u8; 32], Vec<u8>, i64)>(&value))
        else {
            continue;
        };
        rows.push(Tampered { node, log, seq, stored, received, received_ns });
    }
    Ok(rows)
}

/// Every log's row must be what its last block leads to.
fn verify(segment: &Segment) -> Result<(), StoreError> {
    let what = || segment.dir().display().to_string();
    for (log, row) in read_high(segment)? {
        let Some((first, value)) = last_block(segment, log, u64::MAX)? else { continue };
        let bad = |why: &str| StoreError::Database { what: what(), why: format!("log {log}: {why}") };
        let view = BlockView::parse(&value).ok_or_else(|| bad("the last block is damaged"))?;
        let mut records = view.iter();
        let (mut chain, mut last) = (view.chain_before, first.wrapping_sub(1));
        for record in records.by_ref() {
            chain = chain_hash(&chain, &leaf_hash(record));
            last = last.wrapping_add(1);
        }
        let after_gap = row.gaps.last().is_some_and(|(_, to, _)| *to == row.seq);
        if records.damaged() || last > row.seq || (last < row.seq && !after_gap) {
            return Err(bad("the last block does not end where the log stands"));
        }
        if last == row.seq && row.chain_known && chain != row.chain {
            return Err(bad("the hash chain does not lead to the stored head"));
        }
    }
    Ok(())
}

/// Makes an index from the segment itself.
fn build_index(segment: &Segment) -> Result<SegmentIndex, StoreError> {
    let mut index = SegmentIndex::default();
    for entry in segment.range::<std::ops::RangeFull>(..) {
        let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
        if let Some((log, first)) = keys::parse_block(&key) {
            let Some(view) = BlockView::parse(&value) else { continue };
            let (mut wall, mut count): (Option<(i64, i64)>, u64) = (None, 0);
            for record in view.iter() {
                count += 1;
                if let Ok(view) = RecordView::parse(record) {
                    let ns = view.header.wall_ns;
                    wall = Some(wall.map_or((ns, ns), |(low, high)| (low.min(ns), high.max(ns))));
                }
            }
            index.add(log, first, first.saturating_add(count.saturating_sub(1)), wall, view.received_ns, count);
        } else if key.len() == 25
            && key.first() == Some(&GAP)
            && let Some((log, _)) = key.split_first().and_then(|(_, rest)| keys::parse_block(rest))
            && let Ok(gap) = postcard::from_bytes::<StoredGap>(&value)
        {
            index.add(log, gap.from, gap.to, None, gap.received_ns, 0);
        }
    }
    Ok(index)
}
