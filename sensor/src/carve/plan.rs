//! Where in a segment the meant packets may be, by its index; what the index does not speak of is read.

use super::filter::{Filter, community, in_time};
use super::statement::Account;
use crate::ring::index::{Index, IndexDamage, Key, Part};
use glasshive_event::PacketMatch;

/// A stretch of a segment to look through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Every block from here to there.
    Scan(u64, u64),
    /// The blocks that begin here, ascending.
    Fetch(Vec<u64>),
}

/// In the order of the file.
pub(super) fn pieces(filter: &Filter, index: Option<&Index>, length: u64, account: &mut Account) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut known = 0;
    for (index, part) in index.iter().flat_map(|index| index.parts.iter().map(move |part| (*index, part))) {
        // An index longer than its segment speaks of bytes that are not there (any more).
        if part.to > length {
            break;
        }
        if part.from > known {
            pieces.push(Piece::Scan(known, part.from));
        }
        known = part.to;
        match of_part(filter, index, part) {
            Ok(more) => pieces.extend(more),
            Err(IndexDamage) => {
                account.index_fault();
                pieces.push(Piece::Scan(part.from, part.to));
            }
        }
    }
    if known < length {
        pieces.push(Piece::Scan(known, length));
    }
    pieces
}

fn of_part(filter: &Filter, index: &Index, part: &Part) -> Result<Vec<Piece>, IndexDamage> {
    let scope = &filter.selection.scope.0;
    let wanted: Vec<&PacketMatch> = scope.iter().filter(|one| part.packets > 0 && in_time(one, part.earliest, part.latest)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut offsets: Option<Vec<u64>> = if filter.selection.communities.is_empty() { None } else { Some(Vec::new()) };
    match &mut offsets {
        Some(offsets) => {
            for id in &filter.selection.communities {
                offsets.extend(index.find(part, &Key::Flow(id))?);
            }
        }
        None => {
            let mut all = Vec::new();
            for one in &wanted {
                let Some(found) = candidates(index, part, one)? else { return stretches(index, part, &wanted) };
                all.extend(found);
            }
            offsets = Some(all);
        }
    }
    let mut offsets = offsets.unwrap_or_default();
    offsets.sort_unstable();
    offsets.dedup();
    Ok(if offsets.is_empty() { Vec::new() } else { vec![Piece::Fetch(offsets)] })
}

/// Where a match may be; `None` when nothing in it is indexed.
fn candidates(index: &Index, part: &Part, one: &PacketMatch) -> Result<Option<Vec<u64>>, IndexDamage> {
    let addresses: Vec<Key<'_>> = one.a.into_iter().chain(one.b).map(Key::Address).collect();
    let mut lists = Vec::new();
    for key in &addresses {
        lists.push(index.find(part, key)?);
    }
    let fragments = if addresses.is_empty() { Vec::new() } else { index.find(part, &Key::LaterFragment)? };
    if let Some(id) = community(one) {
        lists.push(union(index.find(part, &Key::Flow(&id))?, &fragments));
        return Ok(Some(intersection(lists)));
    }
    for port in one.a_port.into_iter().chain(one.b_port) {
        lists.push(union(index.find(part, &Key::Port(port))?, &fragments));
    }
    if let Some(protocol) = one.protocol.filter(|protocol| !matches!(protocol, 6 | 17)) {
        lists.push(index.find(part, &Key::Protocol(protocol))?);
    }
    if one.arp {
        lists.push(index.find(part, &Key::Arp)?);
    }
    Ok(if lists.is_empty() { None } else { Some(intersection(lists)) })
}

/// Those stretches of a part that lie in time.
fn stretches(index: &Index, part: &Part, wanted: &[&PacketMatch]) -> Result<Vec<Piece>, IndexDamage> {
    let times = index.times(part)?;
    let mut pieces: Vec<Piece> = Vec::new();
    for (at, stretch) in times.iter().enumerate() {
        if !wanted.iter().any(|one| in_time(one, stretch.earliest, stretch.latest)) {
            continue;
        }
        let end = times.get(at + 1).map_or(part.to, |next| next.offset);
        match pieces.last_mut() {
            Some(Piece::Scan(_, to)) if *to == stretch.offset => *to = end,
            _ => pieces.push(Piece::Scan(stretch.offset, end)),
        }
    }
    Ok(pieces)
}

fn union(mut a: Vec<u64>, b: &[u64]) -> Vec<u64> {
    if !b.is_empty() {
        a.extend_from_slice(b);
        a.sort_unstable();
        a.dedup();
    }
    a
}

/// What is in all of them, the shortest first.
fn intersection(mut lists: Vec<Vec<u64>>) -> Vec<u64> {
    lists.sort_by_key(Vec::len);
    let mut lists = lists.into_iter();
    let mut kept = lists.next().unwrap_or_default();
    for list in lists {
        kept.retain(|offset| list.binary_search(offset).is_ok());
    }
    kept
}
