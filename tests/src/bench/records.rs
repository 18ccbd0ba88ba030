//! Records as nodes make them, for loading journals and stores: visits of ten events over the last
//! day, numbered, chained and cut into batches as the link would bring them.

use glasshive_event::record::{Header, chain_hash, leaf_hash};
use glasshive_event::{Body, Endpoint, Envelope, Kind, LogId, SessionId, Transport, Tuple};
use glasshive_journal::store::NodeBatch;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// Events of one visit.
pub const EVENTS: usize = 10;
/// Events of a short visit.
pub const SHORT: u64 = 3;
/// Different visitors of short visits. Detectors keep two matters of each and 1 024 in all: of more visitors some would be
/// forgotten and found anew for ever.
const VISITORS: u64 = 512;

/// Wall time now, nanoseconds UTC.
pub fn now_ns() -> i64 {
    jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(0)
}

/// A pretended node.
pub struct Node {
    name: String,
    log: LogId,
    seq: u64,
    chain: [u8; 32],
    first: u64,
    before: [u8; 32],
    bytes: Vec<u8>,
}

impl Node {
    /// The node of that number, with nothing in its log.
    pub fn new(number: u8) -> Self {
        Self {
            name: format!("node{number}"),
            log: LogId([number; 16]),
            seq: 0,
            chain: [0; 32],
            first: 1,
            before: [0; 32],
            bytes: Vec::new(),
        }
    }

    /// Its log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Head of the hash chain behind the last record.
    pub fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// Visit `n` at `wall_ns`: ten events.
    pub fn visit(&mut self, n: u64, wall_ns: i64) -> crate::Result<()> {
        self.push(visit(n, wall_ns), wall_ns)
    }

    /// Short visit `n` at `wall_ns`: three events, open, login and close. Sources, accounts and secrets come again
    /// after [`VISITORS`], each source always with the same account and secret: nothing but visits is ever new.
    pub fn short_visit(&mut self, n: u64, wall_ns: i64) -> crate::Result<()> {
        self.push(short_visit(n, wall_ns), wall_ns)
    }

    fn push(&mut self, events: Vec<(Envelope, Kind, Value)>, wall_ns: i64) -> crate::Result<()> {
        for (at, (envelope, kind, detail)) in events.into_iter().enumerate() {
            let envelope = Envelope { kind: kind.number(), ..envelope };
            self.seq += 1;
            let wall_ns = wall_ns + at as i64 * 1_000_000;
            let header = Header { log: self.log, seq: self.seq, wall_ns, mono_ns: self.seq, boot: [1; 16] };
            let record = Body::encode(&envelope, &detail)?.with_header(&header);
            self.chain = chain_hash(&self.chain, &leaf_hash(&record));
            self.bytes.extend_from_slice(&u32::try_from(record.len())?.to_be_bytes());
            self.bytes.extend_from_slice(&record);
        }
        Ok(())
    }

    /// What happened since the last batch.
    pub fn batch(&mut self) -> NodeBatch {
        let batch = NodeBatch {
            node: self.name.clone(),
            net: "lab".to_owned(),
            log: self.log,
            first: self.first,
            chain_before: self.before,
            bytes: std::mem::take(&mut self.bytes),
            received_ns: now_ns(),
        };
        (self.first, self.before) = (self.seq + 1, self.chain);
        batch
    }
}

/// A journal's record, about as large as most.
pub(super) fn body(n: u64) -> crate::Result<Body> {
    let Some((envelope, kind, detail)) = visit(n / EVENTS as u64, now_ns()).into_iter().nth(n as usize % EVENTS) else {
        anyhow::bail!("a visit has {EVENTS} events");
    };
    Ok(Body::encode(&Envelope { kind: kind.number(), ..envelope }, &detail)?)
}

/// Which of 32 768 sources a visit comes from: as everywhere, few come often (the first 3 % of all visits, the first
/// thousand a third) and most now and then.
fn source(mix: u64) -> u32 {
    let place = (mix >> 40) as f64 / f64::from(1 << 24);
    (place.powi(3) * 32_768.0) as u32
}

/// The ten events of visit `n`: open, hello, login, command, five stretches of stream, close.
fn visit(n: u64, wall_ns: i64) -> Vec<(Envelope, Kind, Value)> {
    let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, f, g, h] = mix.to_be_bytes();
    let service = ["ssh", "ftp", "http", "telnet"][n as usize % 4];
    let source = IpAddr::V4(Ipv4Addr::from(0xc612_0000 + source(mix)));
    let envelope = Envelope {
        session: Some(SessionId::new(wall_ns, [a, b, c, d, e, f, g, h, n as u8, (n >> 8) as u8])),
        decoy: Some("web-1".to_owned()),
        service: Some(service.to_owned()),
        transport: Some(Transport::Tcp),
        wire: Some(Tuple {
            source: Endpoint { ip: source, port: u16::from_be_bytes([d, e]) },
            destination: Endpoint { ip: IpAddr::V4(Ipv4Addr::new(10, 66, 7, 10)), port: 22 },
        }),
        ..Envelope::default()
    };
    let user = format!("user{}", mix % 500);
    let mut events = vec![
        (Kind::SessionOpen, json!({"persona": "web", "persona_hash": "0".repeat(64)})),
        (Kind::Hello, json!({"protocol": "ssh", "id": "SSH-2.0-Go", "hassh": format!("{:032x}", mix % 40)})),
        (
            Kind::Login,
            json!({"user": user, "method": "password", "secret_kind": "plain", "secret_pivot": format!("{:016x}", mix % 2_000), "secret_sealed": "c2VhbGVk".repeat(20), "accepted": n.is_multiple_of(5)}),
        ),
        (Kind::Command, json!({"input": "uname -a; cat /proc/cpuinfo", "exit": 0, "output_len": 92})),
    ];
    for part in 0..5u64 {
        events.push((
            Kind::Stream,
            json!({"channel": 0, "role": "shell", "direction": "out", "offset": part * 120, "chunks": [[1_000_000, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w".repeat(3)]]}),
        ));
    }
    events.push((Kind::SessionClose, json!({"reason": "client", "bytes_in": 600, "bytes_out": 900})));
    events.into_iter().map(|(kind, detail)| (envelope.clone(), kind, detail)).collect()
}

/// The three events of short visit `n`.
fn short_visit(n: u64, wall_ns: i64) -> Vec<(Envelope, Kind, Value)> {
    let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, f, g, h] = mix.to_be_bytes();
    let who = (mix >> 32) % VISITORS;
    let [.., high, low] = who.to_be_bytes();
    let envelope = Envelope {
        session: Some(SessionId::new(wall_ns, [a, b, c, d, e, f, g, h, n as u8, (n >> 8) as u8])),
        decoy: Some("web-1".to_owned()),
        service: Some(["ssh", "ftp", "http", "telnet"][who as usize % 4].to_owned()),
        transport: Some(Transport::Tcp),
        wire: Some(Tuple {
            source: Endpoint { ip: IpAddr::V4(Ipv4Addr::new(198, 18, high, low)), port: u16::from_be_bytes([d, e]) },
            destination: Endpoint { ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1)), port: [22, 21, 80, 23][who as usize % 4] },
        }),
        ..Envelope::default()
    };
    let login = json!({"user": format!("user{}", who % 500), "method": "password", "secret_kind": "plain", "secret_pivot": format!("{:016x}", who % 2_000), "secret_sealed": "c2VhbGVk".repeat(8), "accepted": false});
    [
        (Kind::SessionOpen, json!({"persona": "web", "persona_hash": "0".repeat(64)})),
        (Kind::Login, login),
        (Kind::SessionClose, json!({"reason": "client", "bytes_in": 60, "bytes_out": 90})),
    ]
    .into_iter()
    .map(|(kind, detail)| (envelope.clone(), kind, detail))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_each_other() {
        let mut node = Node::new(3);
        node.visit(1, 5).unwrap();
        let first = node.batch();
        node.visit(2, 6).unwrap();
        let second = node.batch();
        assert_eq!((first.first, second.first), (1, 1 + EVENTS as u64));
        let (count, chain) = glasshive_journal::block::advance(&first.bytes, first.chain_before).unwrap();
        assert_eq!((count, chain), (EVENTS as u64, second.chain_before));
        node.short_visit(3, 7).unwrap();
        let third = node.batch();
        assert_eq!(glasshive_journal::block::advance(&third.bytes, third.chain_before), Ok((SHORT, node.chain())));
        let size = first.bytes.len() / EVENTS;
        assert!((250..600).contains(&size), "{size} B a record");
        assert!(body(9).is_ok() && body(10).is_ok());
    }
}
