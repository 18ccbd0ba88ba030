//! The table: finds a packet's flow, forgets the quietest when full, ends what is due.

use super::Said;
use super::entry::Entry;
use super::key::Key;
use super::stream::Pool;
use crate::decode::Unit;
use glasshive_event::Timestamp;
use glasshive_event::flow::FlowEnd;
use std::collections::{BTreeMap, HashMap};

/// Flows held when nothing else is said.
pub(crate) const DEFAULT_FLOWS: usize = 65_536;
/// Bytes all TCP reassembly may hold together.
const REASSEMBLY_BYTES: usize = 64 << 20;
const SECOND: i64 = 1_000_000_000;
/// Entries the plan may hold besides four a flow.
const PLAN_SLACK: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Slot {
    entry: Option<Box<Entry>>,
    /// Told apart from earlier flows in this slot.
    generation: u32,
    /// Neighbours in the order of last packets.
    older: u32,
    newer: u32,
    /// The earliest second it will be looked at.
    planned: i64,
}

/// All flows.
#[derive(Debug)]
pub struct Table {
    net: String,
    capacity: usize,
    index: HashMap<Key, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    /// By second: whom to look at then. Flows that went leave their entries, so it is made anew when it grows.
    plan: BTreeMap<i64, Vec<(u32, u32)>>,
    planned: usize,
    pool: Pool,
    opened: u64,
    evicted: u64,
}

impl Table {
    /// At most `capacity` flows (0 = 65 536); `net` is part of every id.
    pub fn new(net: &str, capacity: usize) -> Self {
        Self {
            net: net.to_owned(),
            capacity: if capacity == 0 { DEFAULT_FLOWS } else { capacity },
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            plan: BTreeMap::new(),
            planned: 0,
            pool: Pool::new(REASSEMBLY_BYTES),
            opened: 0,
            evicted: 0,
        }
    }

    /// Takes an IP packet.
    pub fn unit(&mut self, at: Timestamp, unit: &Unit<'_>, out: &mut Vec<Said>) {
        let key = Key::of(unit);
        let mut place = self.index.get(&key).copied();
        if let Some(found) = place
            && self.entry(found).is_some_and(|entry| entry.gives_way(at, unit))
        {
            let end = self.entry(found).map_or(FlowEnd::Idle, |entry| entry.due().1);
            self.close(found, at, end, out);
            place = None;
        }
        let place = match place {
            Some(place) => place,
            None => {
                while self.index.len() >= self.capacity {
                    self.evict(at, out);
                }
                let entry = Entry::open(key, at, unit, &self.net);
                out.push(Said::Fact { at, flow: Some(entry.id), wire: Some(entry.wire), fact: entry.opening(unit) });
                self.opened = self.opened.saturating_add(1);
                self.insert(key, entry)
            }
        };
        let pool = &mut self.pool;
        if let Some(entry) = self.slots.get_mut(place as usize).and_then(|slot| slot.entry.as_mut()) {
            entry.packet(at, unit, pool, out);
        }
        self.touch(place);
        self.replan(place);
    }

    /// Ends what is due and tells long flows, up to a moment.
    pub fn sweep(&mut self, now: Timestamp, out: &mut Vec<Said>) {
        let mut due = Vec::new();
        let mut again = Vec::new();
        while let Some(entry) = self.plan.first_entry() {
            if *entry.key() > now.0.div_euclid(SECOND) {
                break;
            }
            let looked_at = entry.remove();
            self.planned = self.planned.saturating_sub(looked_at.len());
            for (place, generation) in looked_at {
                let Some(slot) = self.slots.get_mut(place as usize).filter(|slot| slot.generation == generation) else { continue };
                slot.planned = i64::MAX;
                let Some(entry) = &slot.entry else { continue };
                let (ends, _) = entry.due();
                if ends < now.0 {
                    due.push((ends, true, entry.id, place));
                } else if entry.record_due() < now.0 {
                    due.push((entry.record_due(), false, entry.id, place));
                } else {
                    again.push(place);
                }
            }
        }
        due.sort_unstable();
        due.dedup();
        for (_, ends, _, place) in due {
            if ends {
                let end = self.entry(place).map_or(FlowEnd::Idle, |entry| entry.due().1);
                self.close(place, now, end, out);
                continue;
            }
            if let Some(entry) = self.slots.get_mut(place as usize).and_then(|slot| slot.entry.as_mut()) {
                // After a jump of the clock one record stands for all that were due.
                let record = entry.interim();
                while entry.record_due() < now.0 {
                    entry.interim();
                }
                out.extend(record.map(|record| Said::Record(now, record)));
            }
            again.push(place);
        }
        for place in again {
            self.replan(place);
        }
    }

    /// Marks every open flow: packets were lost.
    pub fn lost(&mut self) {
        for entry in self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut()) {
            entry.mark_loss();
        }
    }

    /// Ends every flow, oldest first packet first.
    pub fn finish(&mut self, at: Timestamp, end: FlowEnd, out: &mut Vec<Said>) {
        let mut all: Vec<_> = self.index.values().filter_map(|place| Some((self.entry(*place)?.id, *place))).collect();
        all.sort_unstable();
        for (_, place) in all {
            let end = self.entry(place).map_or(end, |entry| entry.end(end));
            self.close(place, at, end, out);
        }
        self.plan.clear();
        self.planned = 0;
    }

    /// Flows begun.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Flows forgotten for want of room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// TCP segments forgotten for want of room.
    pub fn segments_evicted(&self) -> u64 {
        self.pool.evicted
    }

    /// Flows held.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn entry(&self, place: u32) -> Option<&Entry> {
        self.slots.get(place as usize)?.entry.as_deref()
    }

    fn insert(&mut self, key: Key, entry: Entry) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { older: NONE, newer: NONE, ..Slot::default() });
            (self.slots.len() as u32).saturating_sub(1)
        });
        if let Some(slot) = self.slots.get_mut(place as usize) {
            slot.entry = Some(Box::new(entry));
            slot.planned = i64::MAX;
        }
        self.index.insert(key, place);
        self.link(place);
        place
    }

    fn evict(&mut self, at: Timestamp, out: &mut Vec<Said>) {
        let place = self.oldest;
        let Some(entry) = self.entry(place) else { return };
        // What has ended needs no room anyhow.
        let end = entry.end(FlowEnd::Evicted);
        self.evicted = self.evicted.saturating_add(u64::from(end == FlowEnd::Evicted));
        self.close(place, at, end, out);
    }

    fn close(&mut self, place: u32, at: Timestamp, end: FlowEnd, out: &mut Vec<Said>) {
        self.unlink(place);
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        let Some(entry) = slot.entry.take() else { return };
        self.index.remove(&entry.key);
        self.free.push(place);
        entry.close(at, end, &mut self.pool, out);
    }

    /// Plans the next look, when it is earlier than the one planned.
    fn replan(&mut self, place: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        let Some(entry) = &slot.entry else { return };
        let next = entry.due().0.min(entry.record_due());
        // The first whole second after it: what comes at the very moment still belongs to the flow.
        let second = next.div_euclid(SECOND).saturating_add(1);
        if second < slot.planned {
            slot.planned = second;
            self.plan.entry(second).or_default().push((place, slot.generation));
            self.planned = self.planned.saturating_add(1);
        }
        if self.planned > self.capacity.saturating_mul(4).saturating_add(PLAN_SLACK) {
            self.plan_anew();
        }
    }

    fn plan_anew(&mut self) {
        self.plan.clear();
        self.planned = 0;
        for slot in &mut self.slots {
            slot.planned = i64::MAX;
        }
        for place in 0..self.slots.len() as u32 {
            self.replan(place);
        }
    }

    fn touch(&mut self, place: u32) {
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
    }

    fn link(&mut self, place: u32) {
        let before = self.newest;
        if let Some(slot) = self.slots.get_mut(place as usize) {
            (slot.older, slot.newer) = (before, NONE);
        }
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let Some(slot) = self.slots.get(place as usize) else { return };
        let (older, newer) = (slot.older, slot.newer);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None if self.oldest == place => self.oldest = newer,
            None => {}
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None if self.newest == place => self.newest = older,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Decoder, Fault, Sink};
    use crate::pipeline::Packet;

    struct Into<'t>(&'t mut Table, &'t mut Vec<Said>, Timestamp);
    impl Sink for Into<'_> {
        fn unit(&mut self, unit: &Unit<'_>) {
            self.0.unit(self.2, unit, self.1);
        }
        fn arp(&mut self, _: glasshive_event::observation::Arp) {}
        fn fault(&mut self, _: &Fault<'_>) {}
    }

    /// A flood of single packets holds neither flows nor plans beyond the bound.
    #[test]
    fn a_flood_leaves_nothing_behind() {
        let (mut table, mut decoder, mut said) = (Table::new("", 50), Decoder::default(), Vec::new());
        for n in 0..20_000u32 {
            let [_, _, a, b] = n.to_be_bytes();
            let data = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, a, b, 10, 0, 0, 1, 0, 1, 0, 2, 0, 8, 0, 0];
            let at = Timestamp(i64::from(n));
            let packet = Packet { at, link_type: 101, data: &data, original_length: 28 };
            decoder.packet(&packet, &mut Into(&mut table, &mut said, at));
            said.clear();
            assert!(table.len() <= 50 && table.slots.len() <= 50);
            assert!(table.planned <= 4 * 50 + PLAN_SLACK + 1 && table.plan.values().map(Vec::len).sum::<usize>() == table.planned);
        }
        assert_eq!((table.opened(), table.evicted()), (20_000, 19_950));
        table.sweep(Timestamp(100 * SECOND), &mut said);
        assert_eq!((table.len(), said.len(), table.planned, table.oldest, table.newest), (0, 50, 0, NONE, NONE));
    }
}
