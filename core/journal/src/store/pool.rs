//! Open databases of one directory, shared by whoever reads or writes them.
//!
//! sled locks a directory even for reading, so each may be open once: everybody takes the handle
//! from here. Handles nobody else holds are closed cleanly when there are too many.

use super::config::StoreError;
use crate::segment::{self, Segment};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The databases under one directory.
pub(crate) struct Pool {
    dir: PathBuf,
    cache_bytes: u64,
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    open: HashMap<String, (Arc<Segment>, u64, Instant)>,
    tick: u64,
    closed: bool,
}

impl Pool {
    /// A pool over `dir`, keeping about `most` databases open.
    pub(crate) fn new(dir: PathBuf, cache_bytes: u64, most: usize) -> Self {
        Self { dir, cache_bytes, most, inner: Mutex::default() }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Directory of one database.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The database of that name, opened if it is not.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Segment>, StoreError> {
        let mut inner = self.inner()?;
        if let Some(found) = inner.touch(name) {
            return Ok(found);
        }
        let opened = Segment::open(&self.path(name), self.cache_bytes).map_err(StoreError::database(name))?;
        let segment = opened.accept().map_err(StoreError::database(name))?;
        Ok(self.admit(&mut inner, name, segment))
    }

    /// Makes a new database, with a cache of its own size.
    pub(crate) fn create(&self, name: &str, cache_bytes: u64) -> Result<Arc<Segment>, StoreError> {
        let mut inner = self.inner()?;
        let segment = Segment::create(&self.path(name), cache_bytes).map_err(StoreError::database(name))?;
        Ok(self.admit(&mut inner, name, segment))
    }

    /// Gives up a database that failed, without closing it.
    pub(crate) fn discard(&self, name: &str) {
        if let Ok(mut inner) = self.inner() {
            inner.open.remove(name);
        }
    }

    /// Closes a database and runs `then` (which may delete it) before anybody can open it again.
    /// Says `false`, and does nothing, while somebody holds it.
    pub(crate) fn retire(&self, name: &str, then: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<bool, StoreError> {
        let mut inner = self.inner()?;
        if let Some((segment, tick, used)) = inner.open.remove(name) {
            match Arc::try_unwrap(segment) {
                Ok(segment) => segment.close().map_err(StoreError::database(name))?,
                Err(held) => {
                    inner.open.insert(name.to_owned(), (held, tick, used));
                    return Ok(false);
                }
            }
        }
        then(&self.path(name)).map(|()| true)
    }

    /// Closes a database unless somebody holds it: what sled gathered in memory for it goes.
    pub(crate) fn release(&self, name: &str) -> Result<bool, StoreError> {
        self.retire(name, |_| Ok(()))
    }

    /// Closes what nobody holds and nobody asked for during `age`.
    pub(crate) fn close_idle(&self, age: Duration) {
        let Ok(mut inner) = self.inner() else { return };
        let idle = |(segment, _, used): &(Arc<Segment>, u64, Instant)| Arc::strong_count(segment) == 1 && used.elapsed() >= age;
        let names: Vec<String> = inner.open.iter().filter(|(_, entry)| idle(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            inner.close(&name);
        }
    }

    /// Closes everything nobody holds; no database is opened afterwards. `clean = false` only lets
    /// go, as a crash would.
    pub(crate) fn shut(&self, clean: bool) {
        let Ok(mut inner) = self.inner() else { return };
        inner.closed = true;
        for (name, (segment, ..)) in std::mem::take(&mut inner.open) {
            match Arc::try_unwrap(segment) {
                Ok(segment) if clean => {
                    if let Err(e) = segment.close() {
                        tracing::warn!(database = name, error = %e, "not closed cleanly");
                    }
                }
                Ok(segment) => drop(segment),
                // A query still runs; its handle goes with it and the next start recovers the segment.
                Err(held) => drop(held),
            }
        }
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed { Err(StoreError::Closed) } else { Ok(inner) }
    }

    fn admit(&self, inner: &mut Inner, name: &str, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        inner.tick += 1;
        let tick = inner.tick;
        inner.open.insert(name.to_owned(), (segment.clone(), tick, Instant::now()));
        while inner.open.len() > self.most {
            let idle = inner.open.iter().filter(|(_, (segment, ..))| Arc::strong_count(segment) == 1).min_by_key(|(_, (_, tick, _))| *tick);
            let Some(name) = idle.map(|(name, _)| name.clone()) else { break };
            inner.close(&name);
        }
        segment
    }
}

impl Inner {
    fn touch(&mut self, name: &str) -> Option<Arc<Segment>> {
        self.tick += 1;
        let (segment, tick, used) = self.open.get_mut(name)?;
        (*tick, *used) = (self.tick, Instant::now());
        Some(segment.clone())
    }

    /// Closes one nobody holds; nobody can take a second handle while the lock is held.
    fn close(&mut self, name: &str) {
        let closed = self.open.remove(name).and_then(|(segment, ..)| Arc::into_inner(segment)).map(Segment::close);
        if let Some(Err(e)) = closed {
            tracing::warn!(database = name, error = %e, "not closed cleanly");
        }
    }
}

/// Names of the databases in a directory (crash leftovers mended).
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    segment::list(dir).map_err(StoreError::database(dir.display().to_string()))
}
