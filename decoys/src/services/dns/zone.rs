//! The persona's zone: what a small company's internal zone holds, drawn from the seed, plus what the
//! persona file adds. Every address in it belongs to the decoy segment.

use crate::persona::Decoy;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// One record of the persona file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordSetting {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    value: String,
    #[serde(default = "hour")]
    ttl: u32,
}

fn hour() -> u32 {
    3600
}

/// Hosts a small network has besides this one.
const NEIGHBOURS: [&str; 12] = ["mail", "files", "intranet", "backup", "vpn", "db01", "build", "print", "monitor", "git", "proxy", "hr"];

pub(super) fn catalog(decoy: &Decoy, origin: &str, axfr: bool, extra: &[RecordSetting]) -> Result<Catalog, String> {
    let mut catalog = Catalog::new();
    if origin.is_empty() {
        return Ok(catalog);
    }
    let origin = name(origin)?;
    let policy = if axfr { AxfrPolicy::AllowAll } else { AxfrPolicy::Deny };
    let mut zone: InMemoryZoneHandler = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, policy);
    let serial = 2_026_000_000 + u32::try_from(decoy.seed.below("dns-serial", 123_199)).unwrap_or(0);
    for record in records(decoy, &origin, extra, serial)? {
        zone.upsert_mut(record, serial);
    }
    let handlers: Vec<Arc<dyn ZoneHandler>> = vec![Arc::new(zone)];
    catalog.upsert(LowerName::new(&origin), handlers);
    Ok(catalog)
}

fn records(decoy: &Decoy, origin: &Name, extra: &[RecordSetting], serial: u32) -> Result<Vec<Record>, String> {
    let under = |label: &str| name(label).and_then(|n| n.append_domain(origin).map_err(|e| e.to_string()));
    let ns = under("ns1")?;
    let soa = SOA::new(ns.clone(), under("hostmaster")?, serial, 28_800, 7_200, 604_800, 3_600);
    let mut out = vec![
        Record::from_rdata(origin.clone(), 3600, RData::SOA(soa)),
        Record::from_rdata(origin.clone(), 3600, RData::NS(NS(ns.clone()))),
        Record::from_rdata(origin.clone(), 3600, RData::MX(MX::new(10, under("mail")?))),
    ];
    let own = under(&decoy.hostname)?;
    for address in &decoy.addresses {
        for host in [&own, &ns] {
            out.push(Record::from_rdata(host.clone(), 3600, address_data(*address)));
        }
    }
    if decoy.hostname != "www" {
        out.push(Record::from_rdata(under("www")?, 3600, RData::CNAME(CNAME(own))));
    }
    if let Some(base) = decoy.addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None }) {
        let [a, b, c, own_last] = base.octets();
        for (index, label) in NEIGHBOURS.iter().enumerate() {
            if *label != "mail" && decoy.seed.below(&format!("dns-{label}"), 2) == 0 {
                continue;
            }
            let spread = u8::try_from(decoy.seed.below("dns-base", 150)).unwrap_or(0);
            let last = 20u8.saturating_add(spread).saturating_add(u8::try_from(index).unwrap_or(0) * 3);
            let last = if last == own_last { last.saturating_add(1) } else { last };
            out.push(Record::from_rdata(under(label)?, 3600, RData::A(A(Ipv4Addr::new(a, b, c, last)))));
        }
    }
    for setting in extra {
        out.push(parse(setting, origin)?);
    }
    Ok(out)
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn parse(setting: &RecordSetting, origin: &Name) -> Result<Record, String> {
    let owner = if setting.name == "@" { origin.clone() } else { name(&setting.name)?.append_domain(origin).map_err(|e| e.to_string())? };
    let bad = || format!("record {:?}: value {:?} does not fit type {}", setting.name, setting.value, setting.kind);
    let absolute = |text: &str| {
        name(text.trim_end_matches('.')).map(|n| if text.ends_with('.') { n } else { n.append_domain(origin).unwrap_or_default() })
    };
    let data = match setting.kind.to_ascii_uppercase().as_str() {
        "A" => RData::A(A(setting.value.parse().map_err(|_| bad())?)),
        "AAAA" => RData::AAAA(AAAA(setting.value.parse().map_err(|_| bad())?)),
        "CNAME" => RData::CNAME(CNAME(absolute(&setting.value)?)),
        "NS" => RData::NS(NS(absolute(&setting.value)?)),
        "TXT" => RData::TXT(TXT::new(vec![setting.value.clone()])),
        other => return Err(format!("record {:?}: type {other:?} is not one of A, AAAA, CNAME, NS, TXT", setting.name)),
    };
    Ok(Record::from_rdata(owner, setting.ttl, data))
}

fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text:?} is not a domain name: {error}"))?;
    name.set_fqdn(text.contains('.'));
    Ok(name)
}
