//! The append rules, pure: which records of a batch are new, and whether they may be taken.
//!
//! Exactly once and in order: a batch starts at or before the next expected record; what is already
//! stored is compared and dropped; the hash chain is recomputed record by record. Records are never
//! re-encoded; a later build's record version is kept as it is.

use super::config::{AppendError, HighWater};
use super::value::{self, BLOCK_BYTES, Records};
use glasshive_event::record::{VERSION, chain_hash, leaf_hash};
use glasshive_event::{LogId, RecordView};

/// Bytes of one batch at most.
pub const MAX_BATCH: usize = 8 << 20;
/// Bytes of a node's or net's name at most.
pub(crate) const MAX_NAME: usize = 255;

/// Whole blocks of one node's log, as they came over the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBatch {
    /// The node, as its certificate says.
    pub node: String,
    /// The net the node is enrolled in.
    pub net: String,
    /// The log.
    pub log: LogId,
    /// Sequence number of the first record.
    pub first: u64,
    /// Chain head before the first record.
    pub chain_before: [u8; 32],
    /// (length u32 BE ‖ record)*, at most [`MAX_BATCH`].
    pub bytes: Vec<u8>,
    /// When it came, nanoseconds UTC.
    pub received_ns: i64,
}

/// What a batch adds.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Stored blocks: first sequence number and value.
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
    /// Where the log stands afterwards.
    pub(crate) high: HighWater,
    /// Smallest and largest wall time of the new records.
    pub(crate) wall: Option<(i64, i64)>,
    /// New records.
    pub(crate) records: u64,
}

/// Why not.
#[derive(Debug)]
pub(crate) enum Refused {
    /// As the caller is told.
    Append(AppendError),
    /// A stored record is contradicted.
    Tamper { seq: u64, stored: [u8; 32], received: Vec<u8> },
}

impl From<AppendError> for Refused {
    fn from(e: AppendError) -> Self {
        Self::Append(e)
    }
}

/// Checks a batch against where its log stands. `stored` gives the leaf hash of a stored record,
/// `None` when it is no longer (or never was) kept.
pub(crate) fn check(
    batch: &NodeBatch,
    high: Option<&HighWater>,
    mut stored: impl FnMut(u64) -> Result<Option<[u8; 32]>, AppendError>,
) -> Result<Checked, Refused> {
    let damaged = |why| Refused::Append(AppendError::Damaged(why));
    if batch.bytes.is_empty() || batch.bytes.len() > MAX_BATCH {
        return Err(damaged("batch is empty or larger than 8 MiB"));
    }
    if batch.node.is_empty() || batch.node.len() > MAX_NAME || batch.net.len() > MAX_NAME {
        return Err(damaged("name of node or net is empty or too long"));
    }
    let mut high = match high {
        Some(high) if high.node != batch.node => return Err(AppendError::Foreign { owner: high.node.clone() }.into()),
        Some(high) => high.clone(),
        None => fresh(batch.node.clone(), batch.net.clone(), batch.log),
    };
    let had = high.seq;
    if batch.first == 0 || batch.first > had.saturating_add(1) {
        return Err(AppendError::Expected(had.saturating_add(1)).into());
    }
    let overlap = batch.first <= had;
    if !overlap && high.chain_known && batch.chain_before != high.chain {
        return Err(AppendError::Chain { seq: batch.first }.into());
    }
    let mut chain = batch.chain_before;
    let mut seq = batch.first;
    let mut out = Checked { blocks: Vec::new(), high: high.clone(), wall: None, records: 0 };
    let mut open: Option<(u64, Vec<u8>, usize)> = None;
    let mut records = Records(&batch.bytes);
    for record in records.by_ref() {
        let wall = check_header(record, batch.log, seq).map_err(damaged)?;
        let leaf = leaf_hash(record);
        let before = chain;
        chain = chain_hash(&chain, &leaf);
        if seq <= had {
            if let Some(known) = stored(seq)?.filter(|known| *known != leaf) {
                return Err(Refused::Tamper { seq, stored: known, received: record.to_vec() });
            }
            if seq == had && high.chain_known && chain != high.chain {
                return Err(AppendError::Chain { seq: batch.first }.into());
            }
        } else {
            if open.as_ref().is_some_and(|(_, _, held)| held + record.len() + 4 > BLOCK_BYTES) {
                out.blocks.extend(open.take().map(|(first, value, _)| (first, value)));
            }
            let (_, value, held) = open.get_or_insert_with(|| (seq, value::start(&batch.node, &batch.net, batch.received_ns, &before), 0));
            value::push(value, record);
            *held += record.len() + 4;
            out.records += 1;
            if let Some(wall) = wall {
                high.wall_ns = wall;
                out.wall = Some(out.wall.map_or((wall, wall), |(low, top): (i64, i64)| (low.min(wall), top.max(wall))));
            }
            high.seq = seq;
        }
        seq = seq.checked_add(1).ok_or_else(|| damaged("sequence number overflows"))?;
    }
    if records.damaged() {
        return Err(damaged("bytes are not whole records"));
    }
    out.blocks.extend(open.map(|(first, value, _)| (first, value)));
    if out.records > 0 {
        high.chain = chain;
        high.chain_known = true;
        high.net.clone_from(&batch.net);
    }
    out.high = high;
    Ok(out)
}

/// A log nothing is stored of.
pub(crate) fn fresh(node: String, net: String, log: LogId) -> HighWater {
    HighWater { node, net, log, seq: 0, chain: [0; 32], chain_known: true, wall_ns: 0, gaps: Vec::new() }
}

/// Wall time of a record that says it is `(log, seq)`; `None` for versions this build cannot read.
fn check_header(record: &[u8], log: LogId, seq: u64) -> Result<Option<i64>, &'static str> {
    if record.first() != Some(&VERSION) {
        return Ok(None);
    }
    let view = RecordView::parse(record).map_err(|_| "record is shorter than its header")?;
    if view.header.log != log {
        return Err("record names another log");
    }
    if view.header.seq != seq {
        return Err("records are not consecutive");
    }
    Ok(Some(view.header.wall_ns))
}

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
