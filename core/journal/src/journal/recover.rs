//! Opening a journal: finish what a crash interrupted, verify, put damage aside, begin a new log
//! when the old one cannot be continued.
//!
//! A log cannot be continued when its newest segment is damaged, or holds less than was durable or
//! acknowledged, or less than the controller has, or was put back from a copy: it may have records under sequence numbers that would be given again.
//! Then the whole log is kept as `quarantine-…`, and what is readable in it and not acknowledged is
//! written again, with its own times, under the new log id.

use super::log::{Log, parse_name};
use super::sessions::Sessions;
use super::state::{Closed, Lock, State, read_log_id, write_log_id};
use super::stored::{Scan, scan};
use super::{JournalConfig, JournalError, Lost, OpenReport};
use crate::disk::{self, Space};
use crate::schema;
use crate::segment::{self, Opened, Segment, SegmentError};
use glasshive_event::LogId;
use glasshive_event::record::HEADER_LEN;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const LOG_DIR: &str = "log";
const NEW_LOG_DIR: &str = ".log-new";
const RESTORED: &str = "restored";
/// Records written again in one commit.
const SALVAGE_GROUP: usize = 256;
/// How many segments recovery goes back to find a readable list of open sessions.
const SESSIONS_BACK: usize = 8;

pub(super) struct Recovered {
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) lock: Lock,
    pub(super) report: OpenReport,
}

pub(super) fn recover(config: &JournalConfig) -> Result<Recovered, JournalError> {
    let dir = &config.dir;
    let at = |source| JournalError::Directory { path: dir.clone(), source };
    let found = schema::look(dir)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
    fs::read_dir(dir).map_err(at)?;
    let lock = Lock::take(dir)?;
    schema::settle(dir, found)?;
    super::reserve::release_when_short(dir);
    let was_new = finish_begin(dir).map_err(at)?;

    let put_back = put_back(dir).map_err(at)?;
    let mut found = examine(config, put_back)?;
    let mut report = OpenReport {
        log: found.log.id,
        clean: found.clean,
        recovered_last: found.log.last,
        was_new,
        quarantined: std::mem::take(&mut found.quarantined),
        lost: std::mem::take(&mut found.lost),
        salvaged: 0,
        replaced: None,
        open_sessions: Vec::new(),
    };
    if let Some(why) = found.state.overtaken(found.log.last) {
        found.broken.get_or_insert(why);
    }
    let promised = found.state.durable.max(found.state.acknowledged);
    if let Some(why) = found.broken.take().or_else(|| short(found.log.last, promised)) {
        let sessions = found.log.sessions.clone();
        let old = found.log.id;
        tracing::error!(log = %old, last = found.log.last, promised, why, "the log cannot be continued; it is kept and a new one begins");
        let replaced = replace(config, found)?;
        report.salvaged = replaced.salvaged;
        report.replaced = Some(why.clone());
        report.quarantined.push(replaced.kept);
        if let Some((from, to)) = replaced.lost {
            report.lost.push(Lost { log: old, from, to, why });
        }
        found = examine(config, None)?;
        if let Some(why) = found.broken {
            return Err(JournalError::Unusable { dir: dir.clone(), why });
        }
        report.log = found.log.id;
        report.clean = false;
        found.log.sessions = sessions;
        found.log.ensure_active()?;
        let path = found.log.segment_path(found.log.active_first);
        found.log.sessions.save(&path).map_err(at)?;
    }
    found.log.ensure_active()?;
    report.open_sessions = found.log.sessions.list();
    found.state.since.get_or_insert(found.log.last);
    found.state.stopped = Some(false);
    found.state.write(dir).map_err(at)?;
    if put_back.is_some() {
        fs::remove_file(dir.join(RESTORED)).and_then(|()| disk::sync_dir(dir)).map_err(at)?;
    }
    Ok(Recovered { log: found.log, state: found.state, lock, report })
}

/// What a rollback left in the file `restored`: this directory was put back from a copy, so that sequence numbers behind
/// it were given already. Its log is not continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PutBack {
    /// The controller has everything that is here.
    Delivered,
    /// It may not: what it has not acknowledged is written again under the new log.
    Unknown,
}

fn put_back(dir: &Path) -> io::Result<Option<PutBack>> {
    match disk::read_small(&dir.join(RESTORED), 64) {
        Ok(word) => Ok(Some(if word.trim_ascii() == b"delivered" { PutBack::Delivered } else { PutBack::Unknown })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn short(last: u64, promised: u64) -> Option<String> {
    (last < promised).then(|| format!("records up to {promised} were durable, {last} is the last one found"))
}

/// Completes an interrupted change of logs, and begins the first one. Says whether there was none.
fn finish_begin(dir: &Path) -> io::Result<bool> {
    let (log, new) = (dir.join(LOG_DIR), dir.join(NEW_LOG_DIR));
    if log.try_exists()? {
        disk::remove_tree(&new)?;
        return Ok(false);
    }
    if new.try_exists()? && read_log_id(&new).is_some() {
        fs::rename(&new, &log)?;
        disk::sync_dir(dir)?;
        return Ok(false);
    }
    begin(&new)?;
    fs::rename(&new, &log)?;
    disk::sync_dir(dir)?;
    Ok(true)
}

/// An empty log with a new random id in `new`.
fn begin(new: &Path) -> io::Result<LogId> {
    disk::remove_tree(new)?;
    fs::create_dir(new)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| io::Error::other(e.to_string()))?;
    let id = LogId(*uuid::Builder::from_random_bytes(id).into_uuid().as_bytes());
    write_log_id(new, id)?;
    Ok(id)
}

/// What is on disk.
struct Found {
    log: Log,
    state: State,
    clean: bool,
    quarantined: Vec<PathBuf>,
    lost: Vec<Lost>,
    /// Why the log cannot be continued; the active segment is then closed.
    broken: Option<String>,
}

fn examine(config: &JournalConfig, put_back: Option<PutBack>) -> Result<Found, JournalError> {
    let log_dir = config.dir.join(LOG_DIR);
    let at = |source| JournalError::Directory { path: log_dir.clone(), source };
    let state = State::read(&config.dir);
    let id = match (read_log_id(&log_dir), &state) {
        (Some(id), _) => id,
        (None, Some(state)) => {
            write_log_id(&log_dir, state.log).map_err(at)?;
            state.log
        }
        (None, None) => LogId([0; 16]),
    };
    let mut state = state.filter(|state| state.log == id).unwrap_or(State {
        log: id,
        acknowledged: 0,
        durable: 0,
        since: None,
        superseded: false,
        stopped: None,
    });
    if let Some(put_back) = put_back {
        state.superseded = true;
        state.since = (put_back == PutBack::Delivered).then_some(u64::MAX);
    }
    let mut found = Found {
        log: Log::new(&log_dir, id, config.cache_bytes),
        state,
        clean: true,
        quarantined: Vec::new(),
        lost: Vec::new(),
        broken: (id.0 == [0; 16]).then(|| "neither LOG nor state say which log this is".to_owned()),
    };
    let mut firsts: Vec<u64> = segment::list(&log_dir)?.iter().filter_map(|name| parse_name(name)).collect();
    firsts.sort_unstable();
    let Some(active) = firsts.pop() else {
        found.log.active_first = 1;
        return Ok(found);
    };
    for (index, first) in firsts.iter().enumerate() {
        let next = firsts.get(index + 1).copied().unwrap_or(active);
        examine_closed(&mut found, *first, next)?;
    }
    examine_active(&mut found, active)?;
    Ok(found)
}

/// A segment with a newer one behind it: its side file tells, or it is opened and verified.
fn examine_closed(found: &mut Found, first: u64, next: u64) -> Result<(), JournalError> {
    let path = found.log.segment_path(first);
    let known = Closed::read(&path).filter(|closed| closed.first == first && closed.last < next && segment::is_clean(&path));
    if let Some(closed) = known {
        found.log.closed.push_back(closed);
        return Ok(());
    }
    let before = found.log.closed.back().filter(|closed| closed.last + 1 == first).map(|closed| closed.chain);
    let damage = match look(&found.log, first, before, |_| ())? {
        Err(why) => why,
        Ok((_, scan)) if scan.last >= next => "it overlaps the next segment".to_owned(),
        Ok((opened, scan)) => {
            opened.accept()?.close()?;
            let closed = Closed { first, last: scan.last, chain: scan.chain, wall_ns: scan.wall_ns, bytes: 0 };
            closed.write(&path).map_err(|source| JournalError::Directory { path: path.clone(), source })?;
            if closed.last + 1 < next {
                let why = format!("segment {first} ends at {}", closed.last);
                found.lost.push(Lost { log: found.log.id, from: closed.last + 1, to: next - 1, why });
            }
            found.log.closed.extend(Closed::read(&path));
            return Ok(());
        }
    };
    tracing::error!(segment = %path.display(), why = damage, "closed segment is damaged; it is kept aside");
    let into = found.log.dir.parent().unwrap_or(&found.log.dir).to_owned();
    found.quarantined.push(segment::quarantine(&path, &into)?);
    found.lost.push(Lost { log: found.log.id, from: first, to: next - 1, why: damage });
    Ok(())
}

/// The newest segment: verified whole at every open, for the chain head and the open sessions.
fn examine_active(found: &mut Found, first: u64) -> Result<(), JournalError> {
    let path = found.log.segment_path(first);
    found.clean = segment::is_clean(&path) && found.state.stopped != Some(false);
    found.log.active_first = first;
    let mut sessions = sessions_before(&found.log, first)?;
    let before = match found.log.closed.back() {
        Some(closed) if closed.last + 1 == first => Some(closed.chain),
        None if first == 1 => Some([0; 32]),
        _ => None,
    };
    let mut good = first - 1;
    let looked = look(&found.log, first, before, |record| {
        sessions.observe(record);
        good += 1;
    })?;
    found.log.sessions = sessions;
    match looked {
        Err(why) => {
            found.log.last = good;
            found.broken.get_or_insert(format!("the newest segment is damaged behind record {good}: {why}"));
        }
        Ok((opened, scan)) => {
            found.log.last = scan.last;
            found.log.chain = scan.chain;
            found.log.wall_ns = if scan.last < first { found.log.closed.back().map_or(0, |closed| closed.wall_ns) } else { scan.wall_ns };
            // Not accepted when less is there than was durable: the copy from before the recovery is evidence.
            let whole = found.broken.is_none() && !found.state.superseded;
            if whole && scan.last >= found.state.durable.max(found.state.acknowledged) {
                found.log.adopt(opened.accept()?);
            }
        }
    }
    Ok(())
}

/// A verified segment, or what is wrong with it.
type Look = Result<(Opened, Scan), String>;

/// Opens and verifies a segment. Errors that say nothing about its content (no room, no permission,
/// held by another) are errors; everything else is damage.
fn look(log: &Log, first: u64, before: Option<[u8; 32]>, mut each: impl FnMut(&[u8])) -> Result<Look, JournalError> {
    match Segment::open(&log.segment_path(first), log.cache_bytes()) {
        Ok(opened) => {
            let scan = scan(&opened.segment, log.id, first, before, |_, record| each(record));
            Ok(match scan.damage.clone() {
                Some(why) => Err(why),
                None => Ok((opened, scan)),
            })
        }
        Err(e) if is_damage(&e) => Ok(Err(e.to_string())),
        Err(e) => Err(e.into()),
    }
}

fn is_damage(e: &SegmentError) -> bool {
    match e {
        SegmentError::Damaged { .. } | SegmentError::Broken { .. } => true,
        SegmentError::Full { .. } | SegmentError::Locked { .. } => false,
        SegmentError::Io { source, .. } => !matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::QuotaExceeded
        ),
    }
}

/// The sessions that were open when the newest segment began: its own list, or the nearest older one
/// and the segments since.
fn sessions_before(log: &Log, active: u64) -> Result<Sessions, JournalError> {
    if let Some(sessions) = Sessions::load(&log.segment_path(active)) {
        return Ok(sessions);
    }
    let back: Vec<_> = log.closed.iter().rev().take(SESSIONS_BACK).map(|closed| closed.first).collect();
    let Some((index, mut sessions)) =
        back.iter().enumerate().find_map(|(index, first)| Some((index, Sessions::load(&log.segment_path(*first))?)))
    else {
        return Ok(Sessions::default());
    };
    for first in back.iter().take(index + 1).rev() {
        if let Ok((opened, _)) = look(log, *first, None, |record| sessions.observe(record))? {
            opened.accept()?.close()?;
        }
    }
    Ok(sessions)
}

struct Replaced {
    kept: PathBuf,
    salvaged: u64,
    lost: Option<(u64, u64)>,
}

/// Begins a new log with what the old one still holds beyond the acknowledged, and keeps the old one.
/// The change is one rename; a crash before it starts all over.
fn replace(config: &JournalConfig, mut found: Found) -> Result<Replaced, JournalError> {
    let dir = &config.dir;
    let at = |source| JournalError::Directory { path: dir.clone(), source };
    // Its copy, if any, stays beside it.
    found.log.active = None;
    found.log.close()?;
    let new_dir = dir.join(NEW_LOG_DIR);
    let id = begin(&new_dir).map_err(at)?;
    let mut salvage = Salvage::new(config, Log::new(&new_dir, id, config.cache_bytes), found.state.acknowledged)?;
    let mut firsts: Vec<_> =
        found.log.closed.iter().filter(|closed| closed.last > found.state.acknowledged).map(|closed| closed.first).collect();
    firsts.push(found.log.active_first);
    for first in firsts {
        if salvage.stopped || !found.log.segment_path(first).exists() {
            continue;
        }
        if let Ok(opened) = Segment::open(&found.log.segment_path(first), config.cache_bytes) {
            let result = scan(&opened.segment, found.log.id, first, None, |seq, record| salvage.take(seq, record));
            salvage.stopped |= result.damage.is_some();
            drop(opened);
        } else {
            salvage.stopped = true;
        }
    }
    salvage.flush();
    salvage.fresh.close()?;
    let promised = found.state.durable.max(found.state.acknowledged).max(found.log.last);
    let kept = (0..u32::MAX)
        .map(|n| dir.join(format!("quarantine-{}-{n}", found.log.id)))
        .find(|path| !path.exists())
        .ok_or_else(|| at(io::Error::from(io::ErrorKind::AlreadyExists)))?;
    fs::rename(dir.join(LOG_DIR), &kept).map_err(at)?;
    fs::rename(&new_dir, dir.join(LOG_DIR)).map_err(at)?;
    disk::sync_dir(dir).map_err(at)?;
    let lost = (salvage.good < promised).then(|| (salvage.good + 1, promised));
    Ok(Replaced { kept, salvaged: salvage.fresh.last, lost })
}

/// Writes records of an old log again, in order, while there is room.
struct Salvage<'a> {
    config: &'a JournalConfig,
    limit: u64,
    fresh: Log,
    group: Vec<Vec<u8>>,
    /// Everything up to here is acknowledged or written again.
    good: u64,
    seen: u64,
    stopped: bool,
}

impl<'a> Salvage<'a> {
    fn new(config: &'a JournalConfig, fresh: Log, acknowledged: u64) -> Result<Self, JournalError> {
        let space = Space::of(&config.dir).map_err(|source| JournalError::Directory { path: config.dir.clone(), source })?;
        let limit = config.segment_limit(space);
        Ok(Self { config, limit, fresh, group: Vec::new(), good: acknowledged, seen: acknowledged, stopped: false })
    }

    fn take(&mut self, seq: u64, record: &[u8]) {
        if self.stopped || seq <= self.good {
            return;
        }
        self.group.push(record.to_vec());
        self.seen = seq;
        if self.group.len() >= SALVAGE_GROUP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let room = Space::of(&self.config.dir).is_ok_and(|space| space.free > space.floor());
        if !room || self.fresh.used_bytes() > self.config.quota_bytes / 2 {
            tracing::error!(written = self.fresh.last, "no room to write all of the old log's records again");
            self.stopped = true;
        }
        let group = std::mem::take(&mut self.group);
        if self.stopped && !room {
            return;
        }
        let id = self.fresh.id;
        let written =
            self.fresh.commit(group.len(), |index, seq| group.get(index).map_or_else(Vec::new, |record| readdress(record, id, seq)));
        match written {
            Ok(()) => self.good = self.seen,
            Err(e) => {
                tracing::error!(error = %e, "the old log's records are not written again");
                self.stopped = true;
            }
        }
        if self.fresh.due(self.limit, self.config.segment_age) {
            self.fresh.roll();
        }
    }
}

/// The same record under another log id and sequence number (record version 1: version ‖ log ‖ seq ‖ …).
fn readdress(record: &[u8], log: LogId, seq: u64) -> Vec<u8> {
    let rest = record.get(1 + 16 + 8..).unwrap_or_default();
    let mut out = Vec::with_capacity(record.len().max(HEADER_LEN));
    out.extend(record.first());
    out.extend_from_slice(&log.0);
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(rest);
    out
}
