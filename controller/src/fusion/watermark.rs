//! Up to when everything has come, as far as that can be known.

use std::collections::BTreeMap;

/// The watermark is at most this far behind now: a node that says nothing holds it no longer.
pub const CAP_NS: i64 = 30_000_000_000;
/// A node that said nothing for this long (three heartbeats) is not waited for at all.
pub const LIVE_NS: i64 = 180_000_000_000;

/// The smallest of the nodes' last durable times, within [`CAP_NS`] of now and never after it. Nodes
/// of which nothing came for [`LIVE_NS`] do not count. `last` = node and wall time of a durable record.
pub fn watermark<'a>(now_ns: i64, last: impl IntoIterator<Item = (&'a str, i64)>) -> i64 {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (node, wall) in last {
        let slot = newest.entry(node).or_insert(wall);
        *slot = wall.max(*slot);
    }
    let live = newest.into_values().filter(|wall| *wall >= now_ns.saturating_sub(LIVE_NS));
    live.min().unwrap_or(now_ns).clamp(now_ns.saturating_sub(CAP_NS), now_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_live_node_holds_it_and_not_for_long() {
        const S: i64 = 1_000_000_000;
        let now = 10_000 * S;
        for (last, expected) in [
            (vec![], now),
            (vec![("a", now - S)], now - S),
            (vec![("a", now - S), ("b", now - 9 * S)], now - 9 * S),
            // Another log of the same node counts for it.
            (vec![("a", now - S), ("b", now - 9 * S), ("b", now - 2 * S)], now - 2 * S),
            // Silent: held back to the cap, then not at all.
            (vec![("a", now - S), ("b", now - 90 * S)], now - 30 * S),
            (vec![("a", now - S), ("b", now - 181 * S)], now - S),
            // A clock that is ahead does not take it into the future.
            (vec![("a", now + 900 * S)], now),
            (vec![("a", now + 900 * S), ("b", now - 2 * S)], now - 2 * S),
        ] {
            assert_eq!(watermark(now, last.clone()), expected, "{last:?}");
        }
    }
}
