//! Frames made by hand and the pipeline run over them, and where captures are.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use glasshive_event::Timestamp;
use glasshive_event::flow::{Flow, FlowEnd};
use glasshive_event::observation::{Fact, Malformed};
use glasshive_sensor::pipeline::{Counts, Output, Packet, Pipeline, Settings};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600_000_000_000;
pub const MS: i64 = 1_000_000;
pub const SECOND: i64 = 1_000_000_000;

/// Where the labelled captures are; says so when nobody told.
pub fn corpus() -> Option<PathBuf> {
    let found = std::env::var_os("GLASSHIVE_CORPUS").map(PathBuf::from);
    if found.is_none() {
        println!("not run: GLASSHIVE_CORPUS is not set");
    }
    found
}

pub fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut total: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

pub fn eth(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &kind.to_be_bytes(), payload].concat()
}

pub fn v4(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    fragment(source, destination, protocol, 7, 0x4000, payload)
}

/// With identification, and flags and offset as on the wire.
pub fn fragment(source: &str, destination: &str, protocol: u8, id: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|ip| ip.parse::<Ipv4Addr>().unwrap().octets());
    let total = (20 + payload.len()) as u16;
    let mut head =
        [&[0x45, 0][..], &total.to_be_bytes(), &id.to_be_bytes(), &place.to_be_bytes(), &[64, protocol, 0, 0], &source, &destination]
            .concat();
    let checksum = sum(&[&head]).to_be_bytes();
    head[10..12].copy_from_slice(&checksum);
    [head, payload.to_vec()].concat()
}

pub fn v6(source: &str, destination: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|ip| ip.parse::<Ipv6Addr>().unwrap().octets());
    [&[0x60, 0, 0, 0][..], &(payload.len() as u16).to_be_bytes(), &[next, 64], &source, &destination, payload].concat()
}

fn pseudo(source: &str, destination: &str, protocol: u8, length: usize) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|ip| ip.parse::<Ipv4Addr>().unwrap().octets());
    [&source[..], &destination, &[0, protocol], &(length as u16).to_be_bytes()].concat()
}

/// One end to the other, with right checksums, in Ethernet.
pub fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = [&source.1.to_be_bytes()[..], &destination.1.to_be_bytes(), &seq.to_be_bytes(), &ack.to_be_bytes()].concat();
    segment.extend([0x50, flags, 0xff, 0x00, 0, 0, 0, 0]);
    segment.extend(payload);
    let checksum = sum(&[&pseudo(source.0, destination.0, 6, segment.len()), &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&checksum);
    eth(0x0800, &v4(source.0, destination.0, 6, &segment))
}

pub fn datagram(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

pub fn udp(source: (&str, u16), destination: (&str, u16), payload: &[u8]) -> Vec<u8> {
    eth(0x0800, &v4(source.0, destination.0, 17, &datagram(source.1, destination.1, payload)))
}

pub fn icmp(source: &str, destination: &str, kind: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1], payload].concat();
    let checksum = sum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    eth(0x0800, &v4(source, destination, 1, &message))
}

/// A conversation between a client and a server, packet by packet.
pub struct Talk {
    pub client: (&'static str, u16),
    pub server: (&'static str, u16),
    pub packets: Vec<(i64, Vec<u8>)>,
    pub at: i64,
}

impl Talk {
    pub fn new(client: (&'static str, u16), server: (&'static str, u16)) -> Self {
        Self { client, server, packets: Vec::new(), at: START }
    }

    pub fn wait(&mut self, ns: i64) -> &mut Self {
        self.at += ns;
        self
    }

    pub fn up(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> &mut Self {
        self.packets.push((self.at, tcp(self.client, self.server, flags, seq, ack, payload)));
        self.wait(10 * MS)
    }

    pub fn down(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> &mut Self {
        self.packets.push((self.at, tcp(self.server, self.client, flags, seq, ack, payload)));
        self.wait(10 * MS)
    }

    /// SYN 100, SYN-ACK 900, ACK.
    pub fn handshake(&mut self) -> &mut Self {
        self.up(SYN, 100, 0, b"").down(SYN | ACK, 900, 101, b"").up(ACK, 101, 901, b"")
    }
}

#[derive(Default)]
pub struct Told {
    pub flows: Vec<Flow>,
    pub facts: Vec<Fact>,
    pub malformed: Vec<Malformed>,
    pub findings: usize,
    pub text: Vec<String>,
    pub counts: Counts,
}

impl Told {
    pub fn take(&mut self, output: Output) {
        self.text.push(format!("{output:?}"));
        match output {
            Output::Flow(flow) => self.flows.push(*flow),
            Output::Observation(observation) => {
                if let Fact::Malformed(malformed) = &observation.fact {
                    self.malformed.push(malformed.clone());
                }
                self.facts.push(observation.fact);
            }
            Output::Finding(..) => self.findings += 1,
        }
    }

    pub fn established(&self) -> usize {
        self.facts.iter().filter(|fact| matches!(fact, Fact::Established)).count()
    }
}

pub fn settings() -> Settings {
    Settings { net: "lab".to_owned(), ..Settings::default() }
}

pub fn packet(at: i64, link_type: u16, data: &[u8]) -> Packet<'_> {
    Packet { at: Timestamp(at), link_type, data, original_length: data.len() as u32 }
}

/// Runs frames of one link type to the end.
pub fn run_as(link_type: u16, packets: &[(i64, Vec<u8>)], settings: Settings) -> Told {
    let (mut pipeline, mut told) = (Pipeline::new(settings).unwrap(), Told::default());
    for (at, data) in packets {
        pipeline.packet(&packet(*at, link_type, data), &mut |output| told.take(output));
    }
    pipeline.finish(FlowEnd::Shutdown, &mut |output| told.take(output));
    told.counts = pipeline.counts();
    told
}

pub fn run(packets: &[(i64, Vec<u8>)]) -> Told {
    run_as(1, packets, settings())
}

/// One packet.
pub fn one(link_type: u16, data: Vec<u8>) -> Told {
    run_as(link_type, &[(START, data)], settings())
}
