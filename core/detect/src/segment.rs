//! The segment list: what is open on the decoy segment, without names or secrets: all that the sensor
//! and its detectors learn of the personas.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Where a net stands, which decides the technique's wording (a scan from outside is T1595, inside T1046).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vantage {
    /// Among a company's hosts: a visitor is already in.
    #[default]
    Inside,
    /// Facing the world.
    Edge,
}

/// One thing that answers on the segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Protocol it speaks, as the probe names it; `unknown` when undeclared.
    pub protocol: String,
    /// Whether weak cryptography is meant to be there.
    #[serde(default)]
    pub weak: bool,
}

/// A host that belongs to the net's own works: by hardware address and address, for named services only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, as `02:00:00:00:00:01`; without one any matches.
    #[serde(default)]
    pub mac: Option<String>,
    /// Destination ports it may reach; empty = any.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// The list. Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Version of this format.
    pub version: u16,
    /// Where the net stands.
    #[serde(default)]
    pub vantage: Vantage,
    /// The decoys' addresses (also those with nothing open).
    #[serde(default)]
    pub decoys: Vec<IpAddr>,
    /// What is open.
    #[serde(default)]
    pub open: Vec<Open>,
    /// The net's own works: gateway, management.
    #[serde(default)]
    pub known: Vec<Known>,
}

impl Default for Segment {
    fn default() -> Self {
        Self { version: Self::VERSION, vantage: Vantage::default(), decoys: Vec::new(), open: Vec::new(), known: Vec::new() }
    }
}

impl Segment {
    /// The version written and read.
    pub const VERSION: u16 = 1;

    /// Reads a list.
    ///
    /// # Errors
    /// One line: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let segment: Self = toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
        if segment.version != Self::VERSION {
            return Err(format!("version {} is not known to this build; it reads {}", segment.version, Self::VERSION));
        }
        Ok(segment)
    }

    /// What is declared there.
    pub fn open(&self, address: IpAddr, port: u16, transport: &str) -> Option<&Open> {
        self.open.iter().find(|open| open.address == address && open.port == port && open.transport == transport)
    }

    /// The decoys' addresses, each once.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.decoys.iter().copied().chain(self.open.iter().map(|open| open.address)).collect()
    }

    /// Whether the address is a decoy's.
    pub fn is_decoy(&self, address: IpAddr) -> bool {
        self.decoys.contains(&address) || self.open.iter().any(|open| open.address == address)
    }

    /// Whether the source belongs to the net's own works and may reach that port.
    pub fn is_known(&self, address: IpAddr, mac: Option<&str>, port: u16) -> bool {
        self.known.iter().any(|known| {
            known.address == address
                && known.mac.as_deref().is_none_or(|wanted| mac.is_some_and(|mac| mac.eq_ignore_ascii_case(wanted)))
                && (known.ports.is_empty() || known.ports.contains(&port))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
version = 1
vantage = "edge"
decoys = ["10.0.0.9"]
[[open]]
address = "10.0.0.2"
port = 22
transport = "tcp"
protocol = "ssh"
[[known]]
address = "10.0.0.1"
mac = "02:00:00:00:00:01"
ports = [22]
"#;

    #[test]
    fn a_list_says_what_is_open_and_known() {
        let list = Segment::parse(LIST).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(list.open(ip("10.0.0.2"), 22, "tcp").map(|open| open.weak), Some(false));
        assert!(list.open(ip("10.0.0.2"), 22, "udp").is_none());
        assert!(list.is_decoy(ip("10.0.0.2")) && list.is_decoy(ip("10.0.0.9")) && !list.is_decoy(ip("10.0.0.1")));
        assert!(list.is_known(ip("10.0.0.1"), Some("02:00:00:00:00:01"), 22));
        assert!(!list.is_known(ip("10.0.0.1"), None, 22) && !list.is_known(ip("10.0.0.1"), Some("02:00:00:00:00:01"), 23));
        assert_eq!(Segment::parse(&toml::to_string(&list).unwrap()).unwrap(), list);
    }

    /// Version 1 as it is written: read by every later build.
    #[test]
    fn golden_v1() {
        let list = Segment {
            vantage: Vantage::Edge,
            decoys: vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
            open: vec![Open {
                address: "10.0.0.2".parse().unwrap(),
                port: 22,
                transport: "tcp".into(),
                protocol: "ssh".into(),
                weak: true,
            }],
            known: vec![Known { address: "10.0.0.1".parse().unwrap(), mac: Some("02:00:00:00:00:01".into()), ports: vec![22] }],
            ..Segment::default()
        };
        let golden = include_str!("segment-v1.toml");
        assert_eq!(toml::to_string(&list).unwrap(), golden);
        assert_eq!(Segment::parse(golden).unwrap(), list);
        assert_eq!(Segment::parse("version = 1").unwrap(), Segment::default(), "all else may be left out");
    }

    #[test]
    fn another_version_or_key_is_refused_in_one_line() {
        for bad in ["version = 2", "version = 1\nname = \"x\"", ""] {
            let error = Segment::parse(bad).unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{error}");
        }
    }
}
