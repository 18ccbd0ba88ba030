//! The net's own works: gateway and management, by address and hardware address.
//!
//! Hardware addresses are learnt from ARP and from flow records, so a first contact, which carries
//! none, can be told from a stranger's that took the address.

use crate::Segment;
use glasshive_event::observation::{Fact, Observation};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The segment list with the hardware addresses seen of its known hosts; at most one each.
#[derive(Debug)]
pub(crate) struct Works {
    /// The list.
    pub(crate) segment: Arc<Segment>,
    macs: HashMap<IpAddr, String>,
}

impl Works {
    /// Of a segment.
    pub(crate) fn new(segment: &Arc<Segment>) -> Self {
        Self { segment: Arc::clone(segment), macs: HashMap::new() }
    }

    /// Learns from every observation.
    pub(crate) fn observe(&mut self, observation: &Observation) {
        match &observation.fact {
            Fact::Arp(arp) => self.learn(arp.sender, Some(&arp.frame_mac)),
            Fact::Flow(flow) => {
                self.learn(flow.wire.source.ip, flow.sent.mac.as_deref());
                self.learn(flow.wire.destination.ip, flow.received.mac.as_deref());
            }
            _ => {}
        }
    }

    /// Whether `source` belongs to the works and may reach that port.
    pub(crate) fn allow(&self, source: IpAddr, port: u16) -> bool {
        self.segment.is_known(source, self.macs.get(&source).map(String::as_str), port)
    }

    fn learn(&mut self, address: IpAddr, mac: Option<&str>) {
        let Some(mac) = mac else { return };
        let listed = self.segment.known.iter().any(|known| known.address == address && known.mac.is_some());
        if listed && self.macs.get(&address).is_none_or(|known| known != mac) {
            self.macs.insert(address, mac.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arp, at};

    #[test]
    fn a_known_host_is_known_by_its_hardware_address() {
        let list = "version = 1\n[[known]]\naddress = \"10.0.0.1\"\nmac = \"02:00:00:00:00:01\"\nports = [22]\n\
                    [[known]]\naddress = \"10.0.0.7\"\n";
        let mut works = Works::new(&Arc::new(Segment::parse(list).unwrap()));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(!works.allow(ip("10.0.0.1"), 22) && works.allow(ip("10.0.0.7"), 99) && !works.allow(ip("10.0.0.9"), 22));
        works.observe(&arp(at(1.0), "02:00:00:00:00:01", "10.0.0.1", "10.0.0.2"));
        assert!(works.allow(ip("10.0.0.1"), 22) && !works.allow(ip("10.0.0.1"), 23));
        works.observe(&arp(at(2.0), "02:00:00:00:00:66", "10.0.0.1", "10.0.0.2"));
        assert!(!works.allow(ip("10.0.0.1"), 22), "another took the address");
        works.observe(&arp(at(2.0), "02:00:00:00:00:66", "10.0.0.9", "10.0.0.2"));
        assert_eq!(works.macs.len(), 1);
    }
}
