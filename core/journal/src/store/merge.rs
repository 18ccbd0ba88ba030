//! Rows of one key over several days, merged while they are read: memory does not grow with the
//! number of rows.

use super::config::StoreError;
use super::keys;
use super::rows::{self, Row};
use crate::segment::{Range, Segment, Slice};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Calls `visit` with each key's rows merged, in key order. `bounds` are the first and last key.
pub(crate) fn merged<R: Row>(
    days: &[Arc<Segment>],
    bounds: &(Vec<u8>, Vec<u8>),
    merge: fn(&mut R, &R),
    mut visit: impl FnMut(&[u8], R),
) -> Result<(), StoreError> {
    let mut iters: Vec<Range<'_>> = days.iter().map(|day| day.range(&bounds.0[..]..=&bounds.1[..])).collect();
    let mut heads: BinaryHeap<Reverse<(Slice, usize, Slice)>> = BinaryHeap::new();
    let mut pull = |heads: &mut BinaryHeap<_>, place: usize| -> Result<(), StoreError> {
        if let Some(entry) = iters.get_mut(place).and_then(Iterator::next) {
            let (key, value) = entry.map_err(StoreError::database("summary"))?;
            heads.push(Reverse((key, place, value)));
        }
        Ok(())
    };
    for place in 0..days.len() {
        pull(&mut heads, place)?;
    }
    let mut current: Option<(Slice, R)> = None;
    while let Some(Reverse((key, place, value))) = heads.pop() {
        pull(&mut heads, place)?;
        if let Some((done, row)) = current.take_if(|(known, _)| *known != key) {
            visit(&done, row);
        }
        let Some(row) = rows::decode::<R>(&value) else { continue };
        match &mut current {
            Some((_, sum)) => merge(sum, &row),
            None => current = Some((key, row)),
        }
    }
    if let Some((done, row)) = current {
        visit(&done, row);
    }
    Ok(())
}

/// The `limit` largest by (rank, key) below a cursor, found in one pass.
pub(crate) struct Top<R> {
    limit: usize,
    below: Option<(i64, [u8; 16])>,
    heap: BinaryHeap<Reverse<Ranked<R>>>,
}

struct Ranked<R>(i64, [u8; 16], R);

impl<R> Ranked<R> {
    fn rank(&self) -> (i64, [u8; 16]) {
        (self.0, self.1)
    }
}
impl<R> PartialEq for Ranked<R> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}
impl<R> Eq for Ranked<R> {}
impl<R> PartialOrd for Ranked<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for Ranked<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<R> Top<R> {
    /// Keeps `limit` rows ranked below the cursor's.
    pub(crate) fn new(limit: usize, cursor: Option<&super::query::Cursor>) -> Result<Self, StoreError> {
        let below =
            cursor.map(|cursor| parse(&cursor.0).ok_or_else(|| StoreError::Query(format!("{:?} is not a cursor of this list", cursor.0))));
        Ok(Self { limit, below: below.transpose()?, heap: BinaryHeap::new() })
    }

    /// Offers a row.
    pub(crate) fn offer(&mut self, rank: i64, key: &[u8], row: R) {
        let Some(key) = keys::tail::<16>(key) else { return };
        if self.below.is_some_and(|below| (rank, key) >= below) {
            return;
        }
        self.heap.push(Reverse(Ranked(rank, key, row)));
        if self.heap.len() > self.limit.saturating_add(1) {
            self.heap.pop();
        }
    }

    /// The rank of the first row that does not fit the page any more; what ranks below it is not in the page.
    pub(crate) fn least(&self) -> Option<i64> {
        self.heap.peek().filter(|_| self.heap.len() > self.limit).map(|Reverse(ranked)| ranked.0)
    }

    /// The page.
    pub(crate) fn page(self) -> super::query::Page<R> {
        let limit = self.limit;
        let mut ranked: Vec<Ranked<R>> = self.heap.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked).collect();
        let more = ranked.len() > limit;
        ranked.truncate(limit);
        let next =
            ranked.last().filter(|_| more).map(|last| super::query::Cursor(format!("{}/{}", last.0, glasshive_event::text::hex(&last.1))));
        super::query::Page { rows: ranked.into_iter().map(|ranked| ranked.2).collect(), next }
    }
}

fn parse(text: &str) -> Option<(i64, [u8; 16])> {
    let (rank, key) = text.split_once('/')?;
    Some((rank.parse().ok()?, glasshive_event::text::unhex(key)?.try_into().ok()?))
}
