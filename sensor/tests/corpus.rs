//! Every capture of the corpus: packets and damage as the truth says, every file ends well, flows and layers as
//! tshark counts them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod build;

use build::corpus;
use glasshive_event::flow::{Flow, FlowEnd};
use glasshive_event::observation::Fact;
use glasshive_pcapng::Packets;
use glasshive_sensor::pipeline::{Counts, Output, Packet, Pipeline, Settings};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Path, field → values.
fn truth(corpus: &Path) -> BTreeMap<(String, String), Vec<String>> {
    let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(corpus.join("truth.tsv")).unwrap().lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        if columns[2] != "?" {
            all.entry((columns[0].to_owned(), columns[1].to_owned())).or_default().push(columns[2].to_owned());
        }
    }
    all
}

fn files(truth: &BTreeMap<(String, String), Vec<String>>) -> BTreeSet<String> {
    truth.keys().map(|(path, _)| path.clone()).collect()
}

struct Read {
    counts: Counts,
    flows: Vec<Flow>,
    arp: usize,
    damage: &'static str,
    links: BTreeSet<u16>,
    times: (i64, i64),
    text: Vec<String>,
}

fn read(path: &Path) -> Read {
    let mut pipeline = Pipeline::new(Settings { net: "n".to_owned(), ..Settings::default() }).unwrap();
    let mut packets = Packets::new(std::fs::File::open(path).unwrap());
    let (mut flows, mut arp, mut text, mut links, mut times) = (Vec::new(), 0, Vec::new(), BTreeSet::new(), (0, 0));
    let mut take = |output: Output| {
        match &output {
            Output::Flow(flow) if flow.is_final() => flows.push(flow.as_ref().clone()),
            Output::Observation(observation) if matches!(observation.fact, Fact::Arp(_)) => arp += 1,
            _ => {}
        }
        text.push(format!("{output:?}"));
    };
    let mut count = 0;
    while let Some(captured) = packets.next_packet() {
        let at = glasshive_event::Timestamp(captured.time_ns);
        if count == 0 {
            times.0 = at.0;
        }
        times.1 = at.0;
        links.insert(captured.link_type);
        let packet = Packet { at, link_type: captured.link_type, data: captured.data, original_length: captured.original_length };
        pipeline.packet(&packet, &mut take);
        count += 1;
    }
    pipeline.finish(FlowEnd::Shutdown, &mut take);
    let damage = packets.damage().map_or("none", |damage| damage.kind.name());
    assert_eq!(pipeline.counts().packets, count);
    Read { counts: pipeline.counts(), flows, arp, damage, links, times, text }
}

#[test]
fn containers_are_read_as_the_truth_says() {
    let Some(corpus) = corpus() else { return };
    let truth = truth(&corpus);
    let mut seen = 0;
    for path in files(&truth) {
        let read = read(&corpus.join(&path));
        let want = |field: &str| truth.get(&(path.clone(), field.to_owned())).map(|values| values.join(","));
        assert_eq!(Some(read.counts.packets.to_string()), want("packets"), "{path}: packets");
        assert_eq!(Some(read.damage.to_owned()), want("damage"), "{path}: damage");
        for (field, value) in [("time.first", read.times.0), ("time.last", read.times.1)] {
            assert!(want(field).is_none_or(|want| want == value.to_string()), "{path}: {field} {value}");
        }
        if let Some(links) = want("linktypes") {
            assert!(read.links.iter().all(|link| links.split(',').any(|known| known == link.to_string())), "{path}: {:?}", read.links);
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

/// Distinct unordered address and port pairs, at any depth or under the first IP header.
fn pairs(flows: &[Flow], protocol: u8, outer: bool) -> usize {
    let of = flows.iter().filter(|flow| flow.protocol == protocol && flow.wire.source.port | flow.wire.destination.port != 0);
    let of = of.filter(|flow| !outer || flow.layers.iter().filter(|layer| *layer == "ipv4" || *layer == "ipv6").count() == 1);
    let unordered = |flow: &Flow| {
        let (a, b) = (flow.wire.source, flow.wire.destination);
        if a < b { (a, b) } else { (b, a) }
    };
    of.map(unordered).collect::<BTreeSet<_>>().len()
}

/// Where we differ from tshark for a reason.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("flowexport/ndpi__syslog.pcap", "vlan.ids", "a flow keeps the tags of its first packet; 1906 is on the way back of one"),
    ("malformed/ndpi__fuzz-2006-06-26-2594.pcap", "arp.frames", "five are mutated to other hardware or protocols than Ethernet and IPv4"),
    ("malformed/tcpdump__arp-oobr.pcap", "arp.frames", "259 are mutated so, or break ARP"),
    ("malformed/ndpi__fuzz-2006-09-29-28586.pcap", "tunnel", "one mutated to L2TP version 3 on IP, which is not taken apart"),
    ("malformed/sv__decode-too-many-layers_input.pcap", "mpls", "no IP is reached behind the labels, so there is no flow"),
];

#[test]
fn flows_and_layers_are_those_of_the_truth() {
    let Some(corpus) = corpus() else { return };
    let truth = truth(&corpus);
    let mut wrong = Vec::new();
    for path in files(&truth) {
        let read = read(&corpus.join(&path));
        let mut check = |field: &str, value: String| {
            let Some(want) = truth.get(&(path.clone(), field.to_owned())) else { return };
            if want.join(",") != value && !DIFFERENT.iter().any(|(known, what, _)| *known == path && *what == field) {
                wrong.push(format!("{path}: {field}: {value}, not {}", want.join(",")));
            }
        };
        for (field, protocol, outer) in [("tcp.outer", 6, true), ("udp.outer", 17, true), ("tcp.any", 6, false), ("udp.any", 17, false)] {
            check(field, pairs(&read.flows, protocol, outer).to_string());
        }
        check("arp.frames", read.arp.to_string());
        check("ip.fragments", read.flows.iter().map(|flow| flow.sent.fragments + flow.received.fragments).sum::<u64>().to_string());
        let vlans: BTreeSet<u16> = read.flows.iter().flat_map(|flow| flow.vlans.iter().copied()).collect();
        check("vlan.ids", vlans.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        let has = |layer: &str| read.flows.iter().any(|flow| flow.layers.iter().any(|name| name == layer));
        check("mpls", if has("mpls") { "yes" } else { "" }.to_owned());
        if let Some(tunnels) = truth.get(&(path.clone(), "tunnel".to_owned())) {
            for tunnel in tunnels
                .iter()
                .filter(|tunnel| ["gre", "erspan", "vxlan", "geneve", "teredo", "gtp", "l2tp", "pppoe"].contains(&tunnel.as_str()))
            {
                if !has(tunnel) && !DIFFERENT.iter().any(|(known, what, _)| *known == path && *what == "tunnel") {
                    wrong.push(format!("{path}: no layer {tunnel}"));
                }
            }
        }
        if let Some(ids) = truth.get(&(path.clone(), "community_id".to_owned())) {
            let ours: BTreeSet<&str> = read.flows.iter().map(|flow| flow.community_id.as_str()).collect();
            for id in ids.iter().filter(|id| !ours.contains(id.as_str())) {
                wrong.push(format!("{path}: no flow has {id}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Sound traffic breaks no protocol: facts of malformed packets come from what was made to be malformed, and from
/// one capture in which six PPPoE lengths end before the IP packets in them.
#[test]
fn sound_captures_have_no_malformed_packets() {
    let Some(corpus) = corpus() else { return };
    let mut found = BTreeSet::new();
    for path in files(&truth(&corpus)) {
        if read(&corpus.join(&path)).counts.malformed > 0 && !path.starts_with("malformed/") {
            found.insert(path);
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["tunnel/zeek__pppoe-over-qinq.pcap"]);
}

/// The same twice, and every id once.
#[test]
fn reading_twice_gives_the_same() {
    let Some(corpus) = corpus() else { return };
    let truth = truth(&corpus);
    for path in files(&truth) {
        let (one, two) = (read(&corpus.join(&path)), read(&corpus.join(&path)));
        assert_eq!(one.text, two.text, "{path}");
        let mut ids: HashMap<_, u32> = HashMap::new();
        one.flows.iter().for_each(|flow| *ids.entry(flow.flow).or_default() += 1);
        assert!(ids.values().all(|count| *count == 1), "{path}: an id twice");
        assert_eq!(one.flows.len() as u64, one.counts.flows, "{path}");
    }
}

/// Files with bytes changed or cut off: an end, and never more than was there.
#[test]
fn mutated_files_end() {
    let Some(corpus) = corpus() else { return };
    let rounds = std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000u64) / 200;
    // A fixed sequence (xorshift): a failure names its file and round.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for path in files(&truth(&corpus)) {
        let mut sound = std::fs::read(corpus.join(&path)).unwrap();
        sound.truncate(16 * 1024);
        let mut file = Vec::new();
        for round in 0..rounds {
            file.clone_from(&sound);
            for _ in 0..next(5) {
                // Most of it in the file's first headers.
                let reach = if next(2) == 0 { file.len().min(200) } else { file.len() };
                let (at, byte) = (next(reach), [0, 0xff, 0x7f, next(256) as u8][next(4)]);
                if let Some(place) = file.get_mut(at) {
                    *place = byte;
                }
            }
            file.truncate(file.len() - next(file.len() / 4 + 1));
            let (mut packets, mut bytes) = (Packets::new(file.as_slice()), 0);
            while let Some(packet) = packets.next_packet() {
                bytes += packet.data.len();
                assert!(packet.original_length as usize >= packet.data.len(), "{path} {round}");
            }
            assert!(bytes <= file.len(), "{path} {round}");
        }
    }
}
