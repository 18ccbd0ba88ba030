//! TLS, SSH, HTTP and DNS facts of public captures against what other tools say of them.
//!
//! Ethernet captures outside the categories `tunnel` and `malformed`; at least 95 % of the claims must
//! agree, the others are printed with the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod streams;

use glasshive_event::flow::FlowEnd;
use glasshive_event::observation::Fact;
use glasshive_event::{Timestamp, WireText};
use glasshive_pcapng::Packets;
use glasshive_sensor::app::{Conversation, Speaker};
use glasshive_sensor::pipeline::{Output, Packet, Pipeline, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Claims that cannot be met, and why: part of the path, field, reason.
const KNOWN: &[(&str, &str, &str)] = &[
    ("quic", "tls.", "the hello is inside QUIC's encryption"),
    ("LM_WMI", "dns.", "the message is quoted in an ICMP error; the one that was sent is LLMNR"),
    ("putty-upload", "http.uri", "tshark shows a request with its whole body only, and this one's is cut"),
];

type Values = BTreeMap<String, BTreeSet<String>>;

#[test]
fn facts_agree_with_other_tools() {
    let Some(corpus) = std::env::var_os("GLASSHIVE_CORPUS") else {
        println!("not run: GLASSHIVE_CORPUS is not set");
        return;
    };
    let corpus = Path::new(&corpus);
    let mut truth: BTreeMap<String, (Values, BTreeSet<String>)> = BTreeMap::new();
    for line in std::fs::read_to_string(corpus.join("truth.tsv")).unwrap().lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (path, field, value, note) = (columns[0], columns[1], columns[2], columns[4]);
        let (values, open) = truth.entry(path.to_owned()).or_default();
        if value == "?" || note.starts_with("first ") {
            open.insert(field.to_owned());
        }
        if value != "?" {
            values.entry(field.to_owned()).or_default().insert(value.to_owned());
        }
    }
    let (mut agreed, mut differ) = (0_u32, Vec::new());
    for (path, (claims, open)) in &truth {
        let category = path.split('/').next().unwrap();
        let ethernet = claims.get("linktypes").is_some_and(|types| types.iter().any(|t| t.split([',', 'x']).next() == Some("1")));
        if matches!(category, "tunnel" | "malformed") || !ethernet {
            continue;
        }
        let ours = ours(&corpus.join(path));
        for (field, values) in claims.iter().filter(|(field, _)| is_compared(field)) {
            let none = BTreeSet::new();
            let found = ours.get(field).unwrap_or(&none);
            for value in values {
                if found.contains(value)
                    || field == "tls.cert.subject_cn" && found.iter().any(|subject| subject.contains(&format!("CN={value}")))
                {
                    agreed += 1;
                } else {
                    differ.push(format!("{path} {field}: missing {value:?}"));
                }
            }
            if !open.contains(field) && !matches!(field.as_str(), "tls.cert.subject_cn" | "protocol.dns" | "protocol.http") {
                for extra in found.difference(values) {
                    differ.push(format!("{path} {field}: not claimed {extra:?}"));
                }
            }
        }
    }
    let all = agreed as usize + differ.len();
    println!("{agreed} of {all} agree");
    for line in &differ {
        let why = KNOWN.iter().find(|(path, field, _)| line.contains(path) && line.contains(field)).map_or("unexplained", |known| known.2);
        println!("{line} ({why})");
    }
    assert!(all > 300, "only {all} claims compared");
    assert!(agreed as usize * 100 >= all * 95, "{agreed} of {all} agree");
}

/// However a stream is cut into segments, it says the same.
#[test]
fn the_cut_does_not_matter() {
    let Some(corpus) = std::env::var_os("GLASSHIVE_CORPUS") else {
        println!("not run: GLASSHIVE_CORPUS is not set");
        return;
    };
    let corpus = Path::new(&corpus);
    let mut streams = 0;
    for line in std::fs::read_to_string(corpus.join("MANIFEST.tsv")).unwrap().lines().skip(1) {
        let path = line.split('\t').next().unwrap();
        for told in streams::tell(&std::fs::read(corpus.join(path)).unwrap()) {
            // Where the end of the bytes is part of the evidence, the cut does matter.
            if told.given.is_empty() || !["tls", "ssh", "http", "dns", "smtp", "ftp", "rdp", "mysql"].contains(&told.protocol.as_str()) {
                continue;
            }
            streams += 1;
            let expected = say(&told.given, usize::MAX);
            assert_eq!(expected.len(), told.facts.len(), "{path}: told again");
            for size in [1, 7, 100] {
                let cut = say(&told.given, size);
                assert!(cut == expected, "{path}: cut into {size}:\n{cut:#?}\nwhole:\n{expected:#?}");
            }
        }
    }
    assert!(streams > 300, "only {streams} streams");
}

/// The facts of a stream given in pieces of at most `size` bytes, without samples, which grow with the
/// first piece.
fn say(given: &[(Speaker, Result<Vec<u8>, u64>)], size: usize) -> Vec<String> {
    let (at, mut conversation, mut facts, mut offsets) = (Timestamp(0), Conversation::new(6, 0), Vec::new(), [0_u64; 2]);
    for (speaker, piece) in given {
        let offset = &mut offsets[*speaker as usize];
        match piece {
            Ok(bytes) => {
                for part in bytes.chunks(size) {
                    conversation.bytes(at, *speaker, *offset, part, &mut facts);
                    assert!(conversation.held() <= 2 * 65_536);
                    *offset += part.len() as u64;
                }
            }
            Err(missing) => {
                conversation.gap(at, *speaker, *missing, &mut facts);
                *offset += missing;
            }
        }
    }
    conversation.finish(at, &mut facts);
    for fact in &mut facts {
        match fact {
            Fact::Identified(found) => found.samples = Default::default(),
            Fact::Carried(found) => found.samples = Default::default(),
            Fact::Malformed(bad) => bad.bytes.clear(),
            _ => {}
        }
    }
    facts.iter().map(|fact| serde_json::to_string(fact).unwrap()).collect()
}

fn is_compared(field: &str) -> bool {
    const FIELDS: &[&str] = &["tls.", "ssh.", "http.", "dns.", "mdns.", "llmnr."];
    FIELDS.iter().any(|prefix| field.starts_with(prefix))
        || matches!(field, "protocol.tls" | "protocol.ssh" | "protocol.http" | "protocol.dns")
}

/// What the pipeline says of a file, in the words of the truth.
fn ours(path: &Path) -> Values {
    let mut observations = Vec::new();
    let mut pipeline = Pipeline::new(Settings::default()).unwrap();
    let mut keep = |output| {
        if let Output::Observation(observation) = output {
            observations.push(*observation);
        }
    };
    let file = std::fs::read(path).unwrap();
    let mut packets = Packets::new(file.as_slice());
    while let Some(packet) = packets.next_packet() {
        let (at, link_type, original_length) = (Timestamp(packet.time_ns), packet.link_type, packet.original_length);
        pipeline.packet(&Packet { at, link_type, data: packet.data, original_length }, &mut keep);
    }
    pipeline.finish(FlowEnd::Shutdown, &mut keep);
    let mut values = Values::new();
    let mut spoken = BTreeMap::new();
    for observation in &observations {
        if let Fact::Identified(found) = &observation.fact {
            spoken.entry(observation.flow).or_insert(found.protocol);
        }
        let (fact, protocol) = (&observation.fact, spoken.get(&observation.flow).copied().unwrap_or_default());
        let mut add = |field: &str, value: String| {
            values.entry(field.to_owned()).or_default().insert(value);
        };
        let text = |text: &WireText| String::from_utf8_lossy(&text.to_bytes()).into_owned();
        match fact {
            Fact::Identified(found) => add(&format!("protocol.{}", found.protocol), "yes".to_owned()),
            Fact::Carried(found) => add(&format!("protocol.{}", found.protocol), "yes".to_owned()),
            Fact::TlsClient(hello) => {
                if !hello.ja3.is_empty() {
                    add("tls.ja3", hello.ja3.clone());
                }
                if let Some(sni) = &hello.sni {
                    add("tls.sni", text(sni));
                }
            }
            Fact::TlsServer(hello) => {
                add("tls.version", format!("0x{:04x}", hello.version));
                if hello.version != 2 {
                    add("tls.cipher", format!("0x{:04x}", hello.cipher));
                    add("tls.ja3s", hello.ja3s.clone());
                }
            }
            Fact::Certificate(certificate) => {
                add("tls.cert.sha256", certificate.sha256.clone());
                add("tls.cert.subject_cn", certificate.subject.clone());
                if certificate.self_signed {
                    add("tls.cert.self_signed", "yes".to_owned());
                }
            }
            Fact::SshAgreed(agreed) => {
                let told = [
                    ("ssh.client", text(&agreed.client)),
                    ("ssh.server", text(&agreed.server)),
                    ("ssh.hassh", agreed.hassh.clone()),
                    ("ssh.hassh_server", agreed.hassh_server.clone()),
                ];
                told.into_iter().filter(|(_, value)| !value.is_empty()).for_each(|(field, value)| add(field, value));
            }
            Fact::HttpRequest(request) => {
                add("http.uri", text(&request.target));
                if let Some(host) = &request.host {
                    add("http.host", text(host));
                }
                if let Some(agent) = &request.user_agent {
                    add("http.user_agent", text(agent));
                }
            }
            Fact::HttpResponse(response) => add("http.status", response.status.to_string()),
            Fact::Dns(message) => {
                add(&format!("{}.qname", protocol), text(&message.name));
                if message.response {
                    add(&format!("{}.rcode", protocol), message.rcode.to_string());
                }
            }
            Fact::Malformed(bad) => println!("{}: malformed {} at {}: {}", path.display(), bad.protocol, bad.offset, bad.what),
            _ => {}
        }
    }
    values
}
