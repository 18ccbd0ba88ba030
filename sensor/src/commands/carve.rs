//! `glasshive-sensor carve`: packets out of the ring into a file or a pipe, with a statement.

use crate::carve::{RingCarver, Selection};
use crate::ring::RingDir;
use anyhow::Context as _;
use clap::Args;
use glasshive_event::{Endpoint, PacketMatch, PacketScope, Timestamp};
use glasshive_link::carve::{CarveError, CarveStatement, Missing};
use std::fmt::Write as _;
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What to carve. All that is given must hold; a packet's tunnelled and quoted layers count too.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Packets of this address; given twice: between the two
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<IpAddr>,
    /// Packets from or to this port (TCP, UDP, SCTP); given twice: between the two
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// Protocol: tcp, udp, icmp, icmpv6, sctp, arp or a number
    #[arg(long, value_name = "PROTOCOL")]
    proto: Option<Protocol>,
    /// One connection, both directions: `tcp:10.0.0.1:40000-10.0.0.2:22`, `udp:[::1]:5353-[::2]:53`
    #[arg(long, value_name = "TUPLE", conflicts_with_all = ["host", "port", "proto"])]
    flow: Option<FlowTuple>,
    /// One connection by its Community ID (version 1, seed 0); may be given several times: any of them
    #[arg(long, value_name = "ID")]
    community_id: Vec<String>,
    /// Not before: RFC 3339 with offset, or an age such as 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A pcap filter every packet must pass besides, matched exactly (tagged frames need `vlan`)
    #[arg(long, value_name = "FILTER")]
    bpf: Option<String>,
    /// Where to: a file, which appears when it is complete, or - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Most bytes of the file, such as "100 MiB"
    #[arg(long, value_name = "SIZE", default_value = "1 TiB")]
    limit: glasshive_daemon::config::Size,
    /// The statement as JSON
    #[arg(long)]
    json: bool,
}

/// A protocol as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Not IP.
    Arp,
    /// IP protocol number.
    Ip(u8),
}

impl FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "arp" => Self::Arp,
            "icmp" => Self::Ip(1),
            "tcp" => Self::Ip(6),
            "udp" => Self::Ip(17),
            "icmpv6" => Self::Ip(58),
            "sctp" => Self::Ip(132),
            other => Self::Ip(other.parse().map_err(|_| "must be tcp, udp, icmp, icmpv6, sctp, arp or a number to 255".to_owned())?),
        })
    }
}

/// `tcp:SOURCE-DESTINATION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTuple {
    protocol: u8,
    a: Endpoint,
    b: Endpoint,
}

impl FromStr for FlowTuple {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (protocol, ends) = text.split_once(':')?;
            let Protocol::Ip(protocol) = protocol.parse().ok()? else { return None };
            let (a, b) = ends.split_once('-')?;
            let end = |text: &str| text.parse::<SocketAddr>().ok().map(Endpoint::from);
            Some(Self { protocol, a: end(a)?, b: end(b)? })
        };
        parse().ok_or_else(|| "must look like tcp:10.0.0.1:40000-10.0.0.2:22 or udp:[::1]:5353-[::2]:53".to_owned())
    }
}

/// Runs the command. The text goes to standard output.
///
/// # Errors
/// One line.
pub fn run(ring: &Path, arguments: &Arguments) -> anyhow::Result<String> {
    let selection = selection(arguments, Timestamp(glasshive_daemon::clock::wall_ns()))?;
    let (since, until) = selection.scope.span();
    let carver = RingCarver::new(RingDir::new(ring));
    let said = |statement: &CarveStatement| {
        if arguments.json {
            Ok(serde_json::to_string(&serde_json::json!({"since": since, "until": until, "statement": statement}))?)
        } else {
            anyhow::Ok(words(since, until, statement))
        }
    };
    if arguments.out == Path::new("-") {
        let mut out = std::io::stdout().lock();
        let statement = carver.carve_to(&selection, arguments.limit.0, &mut out)?;
        eprintln!("{}", said(&statement)?);
        return Ok(String::new());
    }
    let statement = to_file(&carver, &selection, arguments.limit.0, &arguments.out)?;
    said(&statement)
}

/// Writes beside the file and renames, so that it is never there in part.
fn to_file(carver: &RingCarver, selection: &Selection, limit: u64, path: &Path) -> anyhow::Result<CarveStatement> {
    let name = path.file_name().with_context(|| format!("--out {}: names no file", path.display()))?;
    let part = path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let write = || -> anyhow::Result<CarveStatement> {
        let file = std::fs::File::create_new(&part).with_context(|| format!("--out {}", part.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let statement = carver.carve_to(selection, limit, &mut out).map_err(|error| match error {
            CarveError::Failed(why) => anyhow::anyhow!("{}: {why}", path.display()),
            other => other.into(),
        })?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&part, path).with_context(|| format!("--out {}", path.display()))?;
        Ok(statement)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })
}

fn selection(arguments: &Arguments, now: Timestamp) -> anyhow::Result<Selection> {
    let time = |flag: &str, text: &Option<String>| {
        text.as_ref().map(|text| Timestamp::parse(text, now).map_err(|why| anyhow::anyhow!("--{flag}: {why}"))).transpose()
    };
    let (since, until) = (time("since", &arguments.since)?, time("until", &arguments.until)?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        anyhow::bail!("--since {since} is after --until {until}");
    }
    if arguments.host.len() > 2 || arguments.port.len() > 2 {
        anyhow::bail!("--host and --port can be given twice at most: the two ends");
    }
    let mut one = PacketMatch { since, until, ..PacketMatch::default() };
    match arguments.proto {
        Some(Protocol::Arp) => one.arp = true,
        Some(Protocol::Ip(protocol)) => one.protocol = Some(protocol),
        None => {}
    }
    let mut hosts = arguments.host.iter().map(|host| host.to_canonical());
    (one.a, one.b) = (hosts.next(), hosts.next());
    let mut scope = vec![one];
    if let Some(FlowTuple { protocol, a, b }) = arguments.flow {
        scope = vec![PacketMatch {
            protocol: Some(protocol),
            a: Some(a.ip),
            a_port: Some(a.port),
            b: Some(b.ip),
            b_port: Some(b.port),
            arp: false,
            since,
            until,
        }];
    }
    // A port may be at either end.
    if let Some(first) = arguments.port.first() {
        let second = arguments.port.get(1).copied();
        scope = scope
            .into_iter()
            .flat_map(|one| {
                let there = PacketMatch { a_port: Some(*first), b_port: second, ..one.clone() };
                [there, PacketMatch { a_port: second, b_port: Some(*first), ..one }]
            })
            .collect();
    }
    Ok(Selection { scope: PacketScope(scope), communities: arguments.community_id.clone(), bpf: arguments.bpf.clone() })
}

/// The statement for people.
fn words(since: Option<Timestamp>, until: Option<Timestamp>, statement: &CarveStatement) -> String {
    let mut out = String::new();
    let time = |at: Option<Timestamp>, open: &str| at.map_or_else(|| open.to_owned(), |at| at.rfc3339());
    let _ = writeln!(out, "asked for   {} to {}", time(since, "the ring's beginning"), time(until, "now"));
    let _ = writeln!(out, "matched     {} packets", statement.matched);
    let _ = writeln!(out, "exported    {} packets, {} bytes", statement.exported, statement.bytes);
    if statement.limited {
        let _ = writeln!(out, "limited     the file's limit kept packets out; matched counts those looked at");
    }
    for (name, list) in [("purged", &statement.purged), ("lost", &statement.lost)] {
        for Missing { since, until, packets, why } in list {
            let packets = packets.map_or(String::new(), |packets| format!("{packets} packets, "));
            let _ = writeln!(out, "{name:<11} {packets}{} to {}: {why}", time(*since, "the beginning"), time(*until, "now"));
        }
    }
    for segment in &statement.segments {
        let state = if segment.complete { "" } else { " (not finished)" };
        let _ = writeln!(out, "from        {} sha256 {}{state}: {} packets", segment.name, segment.sha256, segment.exported);
    }
    for note in &statement.notes {
        let _ = writeln!(out, "note        {note}");
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn selected(words: &[&str]) -> anyhow::Result<Selection> {
        let line = Line::try_parse_from(["carve", "--out", "x"].iter().chain(words))?;
        selection(&line.arguments, Timestamp(10_000_000_000_000))
    }

    #[test]
    fn selections() {
        let flow = selected(&["--flow", "tcp:10.0.0.1:40000-10.0.0.2:22", "--since", "2h"]).unwrap();
        let one = &flow.scope.0[0];
        assert_eq!((one.protocol, one.a_port, one.b_port, one.since), (Some(6), Some(40000), Some(22), Some(Timestamp(2_800_000_000_000))));
        assert_eq!(selected(&["--port", "53"]).unwrap().scope.0.len(), 2);
        assert_eq!(selected(&["--proto", "arp"]).unwrap().scope.0[0], PacketMatch { arp: true, ..PacketMatch::default() });
        assert_eq!(selected(&[]).unwrap().scope.0, [PacketMatch::default()]);
        let later = ["--since", "1970-01-01T02:00:00+01:00", "--until", "1970-01-01T00:30:00Z"];
        for (bad, expected) in [
            (&["--flow", "tcp:1-2"][..], "must look like"),
            (&["--proto", "300"], "must be tcp"),
            (&["--since", "yesterday"], "neither an RFC 3339 time"),
            (&later, "--since 1970-01-01T01:00:00"),
            (&["--host", "::1", "--host", "::1", "--host", "::1"], "twice at most"),
        ] {
            let error = selected(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
