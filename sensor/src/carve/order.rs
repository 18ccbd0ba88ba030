//! Putting packets in order of time while they stream: a bounded heap. Packets of one capture are
//! almost in order already; only a clock that was set back can be beyond it, and that is counted.

use glasshive_event::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Packets and bytes held at most.
const PACKETS: usize = 16_384;
const BYTES: usize = 8 << 20;

/// A packet on its way out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    pub(super) at: Timestamp,
    /// Equal times keep the ring's order.
    number: u64,
    pub(super) interface: u32,
    /// Where it comes from, for the statement.
    pub(super) source: usize,
    pub(super) block: Box<[u8]>,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(super) struct Order {
    heap: BinaryHeap<Reverse<Ordered>>,
    bytes: usize,
    number: u64,
    last: Option<Timestamp>,
    disorder: u64,
}

impl Order {
    pub(super) fn push(&mut self, at: Timestamp, interface: u32, source: usize, block: &[u8]) {
        self.number += 1;
        self.bytes += block.len();
        self.heap.push(Reverse(Ordered { at, number: self.number, interface, source, block: block.into() }));
    }

    pub(super) fn is_full(&self) -> bool {
        self.heap.len() > PACKETS || (self.bytes > BYTES && self.heap.len() > 1)
    }

    pub(super) fn pop(&mut self) -> Option<Ordered> {
        let Reverse(next) = self.heap.pop()?;
        self.bytes = self.bytes.saturating_sub(next.block.len());
        if self.last.is_some_and(|last| next.at < last) {
            self.disorder += 1;
        }
        self.last = self.last.max(Some(next.at));
        Some(next)
    }

    /// Packets that came out behind a later one.
    pub(super) fn disorder(&self) -> u64 {
        self.disorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_order_is_put_right_and_far_disorder_counted() {
        let mut order = Order::default();
        let mut out = Vec::new();
        for at in (0..50_000i64).map(|at| at ^ 0xff) {
            order.push(Timestamp(at), 0, 0, &[0; 32]);
            while order.is_full() {
                out.push(order.pop().unwrap().at.0);
            }
        }
        order.push(Timestamp(-5), 0, 0, &[0; 32]);
        while let Some(next) = order.pop() {
            out.push(next.at.0);
        }
        assert_eq!((out.len(), order.disorder()), (50_001, 1));
        out.retain(|at| *at >= 0);
        assert!(out.is_sorted() && order.bytes == 0);
        order.push(Timestamp(1), 0, 7, b"a");
        order.push(Timestamp(1), 0, 8, b"b");
        assert_eq!((order.pop().unwrap().source, order.pop().unwrap().source), (7, 8));
    }
}
