//! What is open where: (address, port, transport) to decoy and service, for listeners, for nftables
//! and for forwards answered in process.

use crate::persona::Decoy;
use crate::persona::file::{Host, OtherPorts};
use crate::services::Service;
use crate::session::{Route, Router};
use glasshive_event::Transport;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Mark of packets handed to the transparent listeners.
pub const TABLE: &str = "glasshive_entry";

/// One open service.
#[derive(Clone)]
pub struct Target {
    /// The decoy.
    pub decoy: Arc<Decoy>,
    /// Name of the service.
    pub service_name: &'static str,
    /// The service.
    pub service: Arc<dyn Service>,
}

/// Everything that is open.
#[derive(Default)]
pub struct Targets {
    open: BTreeMap<(IpAddr, u16, Transport), Target>,
    by_decoy: HashMap<(String, u16, Transport), Target>,
    fallback: HashMap<IpAddr, Target>,
    names: HashMap<String, Arc<Decoy>>,
    filtered: Vec<IpAddr>,
}

impl Targets {
    /// The targets of `hosts` at their addresses and ports.
    pub fn new(hosts: &[Host]) -> Self {
        let mut all = Self::default();
        for host in hosts {
            let decoy = &host.decoy;
            for name in [decoy.name.clone(), decoy.hostname.clone(), decoy.fqdn()] {
                all.names.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(decoy));
            }
            for address in &decoy.addresses {
                all.names.entry(address.to_string()).or_insert_with(|| Arc::clone(decoy));
                if host.other_ports == OtherPorts::Filtered {
                    all.filtered.push(*address);
                }
                if let Some(service) = &host.fallback {
                    let target = Target { decoy: Arc::clone(decoy), service_name: "generic_tcp", service: Arc::clone(service) };
                    all.fallback.insert(*address, target);
                }
            }
            for offered in &host.offered {
                let target = Target { decoy: Arc::clone(decoy), service_name: offered.def.name, service: Arc::clone(&offered.service) };
                for port in &offered.ports {
                    for transport in offered.def.transports {
                        all.by_decoy.insert((decoy.name.clone(), *port, *transport), target.clone());
                        for address in &decoy.addresses {
                            all.open.insert((*address, *port, *transport), target.clone());
                        }
                    }
                }
            }
        }
        all
    }

    /// What answers at an address, if anything.
    pub fn at(&self, address: SocketAddr, transport: Transport) -> Option<&Target> {
        let ip = address.ip().to_canonical();
        self.open.get(&(ip, address.port(), transport)).or_else(|| if transport == Transport::Tcp { self.fallback.get(&ip) } else { None })
    }

    /// All open (address, port, transport).
    pub fn open(&self) -> impl Iterator<Item = (SocketAddr, Transport, &Target)> {
        self.open.iter().map(|((ip, port, transport), target)| (SocketAddr::new(*ip, *port), *transport, target))
    }

    /// UDP ports of any decoy: one socket each.
    pub fn udp_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> =
            self.open.keys().filter(|(_, _, transport)| *transport == Transport::Udp).map(|(_, port, _)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The systemd socket unit of the transparent entry: with it the daemon needs no capability.
    pub fn socket_unit(&self, port: u16) -> String {
        let mut out = String::from("[Unit]\nDescription=Entry of the Glasshive decoys\n\n[Socket]\n");
        for (loopback, wildcard, v6) in [("127.0.0.1", "0.0.0.0", false), ("[::1]", "[::]", true)] {
            // The daemon binds one wherever a decoy has an address of the family.
            if self.fallback.keys().any(|ip| ip.is_ipv6() == v6) || self.open.keys().any(|(ip, ..)| ip.is_ipv6() == v6) {
                let _ = writeln!(out, "ListenStream={loopback}:{port}");
            }
            let udp = self.open.keys().filter(|(ip, _, transport)| ip.is_ipv6() == v6 && *transport == Transport::Udp);
            let ports: BTreeSet<u16> = udp.map(|(_, port, _)| *port).collect();
            for port in ports {
                let _ = writeln!(out, "ListenDatagram={wildcard}:{port}");
            }
        }
        out.push_str("Transparent=yes\nFreeBind=yes\nBindIPv6Only=ipv6-only\nBacklog=4096\nFileDescriptorName=entry\nService=glasshive-decoys.service\n\n[Install]\nWantedBy=sockets.target\n");
        out
    }

    /// The nftables ruleset of the transparent entry: what is in the sets goes to the listeners at
    /// `port`, or is reset while they do not listen (nothing else on this host may answer there); all else is left to the host (closed ports reset) or dropped where a persona filters.
    pub fn nft(&self, port: u16) -> String {
        let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        for (name, kind, v6) in [("tcp4", "ipv4_addr", false), ("tcp6", "ipv6_addr", true)] {
            let elements: Vec<String> = self
                .open
                .keys()
                .filter(|(ip, _, transport)| ip.is_ipv6() == v6 && *transport == Transport::Tcp)
                .map(|(ip, port, _)| format!("{ip} . {port}"))
                .collect();
            set(&mut out, name, &format!("{kind} . inet_service"), &elements);
        }
        for (name, kind, v6) in [("udp4", "ipv4_addr", false), ("udp6", "ipv6_addr", true)] {
            let elements: Vec<String> = self
                .open
                .keys()
                .filter(|(ip, _, transport)| ip.is_ipv6() == v6 && *transport == Transport::Udp)
                .map(|(ip, port, _)| format!("{ip} . {port}"))
                .collect();
            set(&mut out, name, &format!("{kind} . inet_service"), &elements);
        }
        let split = |list: &mut dyn Iterator<Item = IpAddr>, v6: bool| -> Vec<String> {
            list.filter(|ip| ip.is_ipv6() == v6).map(|ip| ip.to_string()).collect()
        };
        for (name, kind, v6) in [("answer4", "ipv4_addr", false), ("answer6", "ipv6_addr", true)] {
            set(&mut out, name, kind, &split(&mut self.fallback.keys().copied(), v6));
        }
        for (name, kind, v6) in [("filtered4", "ipv4_addr", false), ("filtered6", "ipv6_addr", true)] {
            set(&mut out, name, kind, &split(&mut self.filtered.iter().copied(), v6));
        }
        let _ = write!(
            out,
            "  chain entry {{\n    type filter hook prerouting priority mangle; policy accept;\n    \
             ip daddr . tcp dport @tcp4 tproxy ip to 127.0.0.1:{port} accept\n    \
             ip6 daddr . tcp dport @tcp6 tproxy ip6 to [::1]:{port} accept\n    \
             ip daddr @answer4 meta l4proto tcp tproxy ip to 127.0.0.1:{port} accept\n    \
             ip6 daddr @answer6 meta l4proto tcp tproxy ip6 to [::1]:{port} accept\n    \
             ip daddr . tcp dport @tcp4 reject with tcp reset\n    \
             ip6 daddr . tcp dport @tcp6 reject with tcp reset\n    \
             ip daddr @answer4 meta l4proto tcp reject with tcp reset\n    \
             ip6 daddr @answer6 meta l4proto tcp reject with tcp reset\n    \
             ip daddr . udp dport @udp4 accept\n    \
             ip6 daddr . udp dport @udp6 accept\n    \
             ip daddr @filtered4 meta l4proto {{ tcp, udp }} ct state new drop\n    \
             ip6 daddr @filtered6 meta l4proto {{ tcp, udp }} ct state new drop\n  }}\n}}\n"
        );
        out
    }
}

fn set(out: &mut String, name: &str, kind: &str, elements: &[String]) {
    let _ = writeln!(out, "  set {name} {{");
    let _ = writeln!(out, "    type {kind}");
    if !elements.is_empty() {
        let _ = writeln!(out, "    elements = {{ {} }}", elements.join(", "));
    }
    out.push_str("  }\n");
}

impl Router for Targets {
    fn route(&self, from: &Arc<Decoy>, host: &str, port: u16, transport: Transport) -> Option<Route> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
        let decoy = if local { from } else { self.names.get(&host)? };
        let target = self.by_decoy.get(&(decoy.name.clone(), port, transport))?;
        let ip = match host.parse() {
            Ok(ip) if !local => ip,
            _ => *decoy.addresses.first()?,
        };
        Some(Route {
            decoy: Arc::clone(&target.decoy),
            service_name: target.service_name,
            service: Arc::clone(&target.service),
            address: SocketAddr::new(ip, port),
        })
    }
}
