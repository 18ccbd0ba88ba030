//! The segment list: what the personas of the configuration have open where, for the sensor and its
//! detectors. It must never hold a name, an account or a secret: the sensor learns of no persona.

use crate::config::{Config, EntryMode};
use crate::persona::file::Host;
use anyhow::Context as _;
use glasshive_detect::segment::Open;
use glasshive_detect::{Segment, Vantage};
use glasshive_event::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The list as text: TOML, the version of [`Segment::VERSION`].
///
/// # Errors
/// One line naming file, key and remedy, as for `check`.
pub fn print(config: &Config) -> anyhow::Result<String> {
    let transparent = config.entry != EntryMode::Plain && config.decoy.iter().all(|decoy| !decoy.addresses.is_empty());
    let hosts = crate::app::hosts(config, transparent)?;
    // Plain listeners are on other ports than the personas say, and that is what the wire carries.
    let offset = if transparent { 0 } else { config.port_offset };
    let text = toml::to_string(&list(&hosts, config.vantage, offset)).context("writing the segment list")?;
    Ok(format!("# What is open on the decoys' segment; made by `glasshive-decoys check --segment`.\n{text}"))
}

/// The list of these hosts, in order of address, port and transport.
fn list(hosts: &[Host], vantage: Vantage, offset: u16) -> Segment {
    let mut open: BTreeMap<(IpAddr, u16, Transport), Open> = BTreeMap::new();
    let mut decoys = BTreeSet::new();
    for host in hosts {
        for address in &host.decoy.addresses {
            decoys.insert(*address);
            for offered in &host.offered {
                for (port, transport) in offered.ports.iter().flat_map(|port| offered.def.transports.iter().map(move |of| (*port, *of))) {
                    let port = port.checked_add(offset).unwrap_or(port);
                    let row = Open {
                        address: *address,
                        port,
                        transport: transport.name().to_owned(),
                        protocol: offered.def.protocol.to_owned(),
                        weak: offered.weak,
                    };
                    open.insert((*address, port, transport), row);
                }
            }
        }
    }
    Segment { vantage, decoys: decoys.into_iter().collect(), open: open.into_values().collect(), ..Segment::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERSONA: &str = "os = \"debian12\"\nhostname = \"secretname\"\n[[account]]\nname = \"maria\"\n[service.ssh]\nports = [22, 4022]\n\
                           [service.dns]\n[service.telnet]\nweak = true\n[service.https]\n[[service.generic_tcp]]\nports = [9100]\n";

    fn printed(config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let personas = dir.path().join("personas");
        std::fs::create_dir(&personas).unwrap();
        std::fs::write(personas.join("web.toml"), PERSONA).unwrap();
        let file = dir.path().join("decoys.toml");
        std::fs::write(&file, format!("net = \"lab\"\npersonas = {personas:?}\nstate_dir = {:?}\n{config}", dir.path().join("state")))
            .unwrap();
        print(&crate::config::load(&file, None).unwrap()).unwrap()
    }

    #[test]
    fn it_says_what_is_open_and_nothing_else() {
        let text = printed(
            "vantage = \"edge\"\n[[decoy]]\nname = \"d2\"\npersona = \"web\"\naddresses = [\"192.0.2.9\", \"2001:db8::9\"]\n\
             [[decoy]]\nname = \"d1\"\npersona = \"web\"\naddresses = [\"192.0.2.8\"]\n",
        );
        let segment = Segment::parse(&text).unwrap();
        assert_eq!((segment.version, segment.vantage), (1, Vantage::Edge));
        assert_eq!(segment.decoys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.8", "192.0.2.9", "2001:db8::9"]);
        let rows: Vec<String> = segment
            .open
            .iter()
            .map(|open| format!("{} {}/{} {} {}", open.address, open.port, open.transport, open.protocol, open.weak))
            .collect();
        let of_one = |address: &str| {
            [
                "22/tcp ssh false",
                "23/tcp telnet true",
                "53/tcp dns false",
                "53/udp dns false",
                "443/tcp tls false",
                "4022/tcp ssh false",
                "9100/tcp unknown false",
            ]
            .map(|row| format!("{address} {row}"))
        };
        assert_eq!(rows, [of_one("192.0.2.8"), of_one("192.0.2.9"), of_one("2001:db8::9")].concat());
        for name in ["d1", "d2", "web", "secretname", "maria", "lab"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn plain_listeners_are_listed_where_they_listen() {
        let segment = Segment::parse(&printed("entry = \"plain\"\n[[decoy]]\nname = \"d1\"\npersona = \"web\"\n")).unwrap();
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(segment.vantage, Vantage::Inside);
        assert!(segment.open(loopback, 20_022, "tcp").is_some() && segment.open(loopback, 22, "tcp").is_none());
    }

    #[test]
    fn every_service_speaks_what_the_probe_knows() {
        for def in crate::services::SERVICES {
            let known = glasshive_proto::probe::TABLE.iter().any(|probe| probe.name == def.protocol);
            assert!(known || def.protocol == "unknown", "{} speaks {:?}", def.name, def.protocol);
        }
    }
}
