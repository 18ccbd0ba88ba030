//! Junk, silence and liars at the door do not disturb a good node; a node is only ever itself.

use super::lab::{Lab, MemSource, name, node_config, quick, soon};
use crate::common::connect;
use crate::error::LinkError;
use crate::frame::{Ack, Batch, Frame, Hello, MAX_FRAME, Message};
use crate::identity::IdentityDir;
use crate::ingest::Notice;
use crate::name::Role;
use crate::server::ServerConfig;
use crate::source::BlockSource;
use crate::tls::{self, Channel};
use crate::wire::{Stream, Wire};
use bytes::Bytes;
use glasshive_event::LogId;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(60);

/// A connection with a node's certificate, for saying what a node never says.
async fn raw(lab: &Lab, dir: &IdentityDir, channel: Channel) -> Wire<impl Stream + use<>> {
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let tls = tls::node_dials(&dir.load().unwrap(), channel, &clock).unwrap();
    Wire::new(connect(&lab.addr.to_string(), tls, LONG).await.unwrap(), MAX_FRAME)
}

fn hello(node: &str, log: LogId) -> Hello {
    Hello { oldest: 1, newest: 1, node: name(node), role: Role::Decoys, product: "x".into(), log, first: 1, next: 1, chain_head: [0; 32] }
}

async fn welcomed<T: Stream>(wire: &mut Wire<T>, hello: Hello) {
    wire.send(&Message::Hello(hello)).await.unwrap();
    assert!(matches!(soon("WELCOME", wire.message(LONG)).await.unwrap(), Message::Welcome(_)));
}

/// What the controller says last.
async fn last_word<T: Stream>(wire: &mut Wire<T>) -> String {
    let until_end = async {
        loop {
            match wire.message(LONG).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    match soon("an end", until_end).await {
        LinkError::Away { text, .. } => text,
        other => panic!("ended without a word: {other}"),
    }
}

fn batch(log: LogId, first: u64, count: u64) -> Message {
    let mut records = vec![];
    for seq in first..first + count {
        records.extend(8u32.to_be_bytes());
        records.extend(seq.to_be_bytes());
    }
    Message::Batch(Batch { log, first, count, chain_before: [0; 32], records: records.into() })
}

#[tokio::test]
async fn a_certificate_speaks_for_its_node_only() {
    let lab = Lab::start().await;
    let (a, _b) = (lab.enrol("a"), lab.enrol("b"));
    let log = LogId([7; 16]);
    let mut wire = raw(&lab, &a, Channel::Main).await;
    wire.send(&Message::Hello(hello("b", log))).await.unwrap();
    assert!(last_word(&mut wire).await.contains("HELLO of node b with the certificate of node a"));

    let mut wire = raw(&lab, &a, Channel::Main).await;
    wire.send(&Message::Hello(Hello { role: Role::Sensor, ..hello("a", log) })).await.unwrap();
    assert!(last_word(&mut wire).await.contains("enrolled as decoys"));

    // The same log id as another node's is a log of its own.
    let source = MemSource::new(7);
    source.push(50);
    let good = lab.node(&lab.node_dir("b"), source.clone());
    source.until_acked(50).await;
    let mut wire = raw(&lab, &a, Channel::Main).await;
    welcomed(&mut wire, hello("a", log)).await;
    wire.send(&batch(log, 1, 3)).await.unwrap();
    loop {
        if let Message::Ack(Ack { durable, .. }) = soon("ACK", wire.message(LONG)).await.unwrap() {
            assert_eq!(durable, 3);
            break;
        }
    }
    assert_eq!(lab.ingest.logs(), [(name("a"), log), (name("b"), log)]);
    assert_eq!(lab.ingest.held("a", log).records.len(), 3);
    lab.ingest.assert_whole("b", &source);

    // A log that HELLO did not name.
    wire.send(&batch(LogId([8; 16]), 1, 3)).await.unwrap();
    assert!(last_word(&mut wire).await.contains("another log"));
    assert_eq!(lab.ingest.logs().len(), 2);
    good.stop().await;
}

#[tokio::test]
async fn junk_silence_and_cut_input_do_not_disturb_a_good_node() {
    let config = ServerConfig { handshake: Duration::from_millis(300), ..quick() };
    let lab = Lab::with(config).await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let node = lab.node(&dir, source.clone());
    node.until("connected", |status| status.connections == 1).await;

    let mut visitors = vec![];
    let hellos: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        &[0; 5000],
        &[0xff; 300],
        // A TLS record that announces more than comes, and one with a ClientHello that is none.
        b"\x16\x03\x01\x40\x00\x01\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ];
    for bytes in hellos {
        let mut tcp = TcpStream::connect(lab.addr).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        visitors.push(tcp);
        source.push(100);
    }
    // Silent, and gone at once.
    visitors.push(TcpStream::connect(lab.addr).await.unwrap());
    drop(TcpStream::connect(lab.addr).await.unwrap());
    source.push(400);
    source.until_acked(1_000).await;
    // All of them are closed by us.
    for mut tcp in visitors {
        let mut end = vec![];
        let _ = soon("closing", tcp.read_to_end(&mut end)).await;
    }
    let counted = |notices: &Vec<Notice>| notices.iter().filter(|notice| matches!(notice, Notice::Rejected { .. })).count();
    let mut notices = lab.ingest.notices.subscribe();
    soon("eight rejections", notices.wait_for(|notices| counted(notices) == 8)).await.unwrap();
    lab.ingest.assert_whole("edge", &source);
    assert_eq!(node.status.borrow().connections, 1);
    node.stop().await;
}

#[tokio::test]
async fn unproven_connections_are_capped_by_source() {
    let lab = Lab::with(ServerConfig { max_unproven: (64, 4), ..quick() }).await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let node = lab.node(&dir, source.clone());
    node.until("connected", |status| status.connections == 1).await;
    let mut silent = vec![];
    for _ in 0..12 {
        silent.push(TcpStream::connect(lab.addr).await.unwrap());
    }
    lab.ingest.until_notice("a cap", |notice| matches!(notice, Notice::Rejected { why, .. } if why == "too many connections")).await;
    source.push(100);
    source.until_acked(100).await;
    assert_eq!(node.status.borrow().connections, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_proven_node_that_breaks_the_protocol_ends_only_itself() {
    let lab = Lab::start().await;
    let (good_dir, bad) = (lab.enrol("good"), lab.enrol("bad"));
    let source = MemSource::new(1);
    let good = lab.node(&good_dir, source.clone());
    let log = LogId([9; 16]);

    // First frames that are no HELLO, or an impossible one.
    for first in [
        batch(log, 1, 1),
        Message::Hello(Hello { first: 0, ..hello("bad", log) }),
        Message::Hello(Hello { oldest: 9, newest: 9, ..hello("bad", log) }),
    ] {
        let mut wire = raw(&lab, &bad, Channel::Main).await;
        wire.send(&first).await.unwrap();
        last_word(&mut wire).await;
        source.push(10);
    }
    // Frames that make no sense later: unasked answers, a malformed batch, one that does not decompress.
    let nonsense = [
        Message::Welcome(crate::frame::Welcome { version: 1, durable: 0, credit: 0, max_frame: 0, wall_ns: 0 }).frame().unwrap(),
        Frame::plain(crate::frame::kind::BATCH, vec![0xff; 40]),
        Frame::plain(crate::frame::kind::GAP, Bytes::new()),
        Frame::plain(crate::frame::kind::PONG, vec![9]),
    ];
    for frame in nonsense {
        let mut wire = raw(&lab, &bad, Channel::Main).await;
        welcomed(&mut wire, hello("bad", log)).await;
        wire.send_frame(frame).await.unwrap();
        last_word(&mut wire).await;
        source.push(10);
    }
    // An oversized length, and a frame cut off in the middle.
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    for (bytes, word) in [(&[0xff, 0xff, 0xff, 0xff, 3, 0][..], true), (&[0, 0, 1, 0, 3, 0, 1], false)] {
        let tls = tls::node_dials(&bad.load().unwrap(), Channel::Main, &clock).unwrap();
        let mut stream = connect(&lab.addr.to_string(), tls, LONG).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        if word {
            let mut wire = Wire::new(stream, MAX_FRAME);
            assert!(last_word(&mut wire).await.contains("over the limit"));
        } else {
            drop(stream);
        }
        source.push(10);
    }
    source.until_acked(90).await;
    lab.ingest.assert_whole("good", &source);
    assert_eq!(good.status.borrow().connections, 1);
    assert!(lab.ingest.held("bad", log).records.is_empty());
    lab.ingest.until_notice("violation", |notice| matches!(notice, Notice::Violation { node, .. } if node.as_str() == "bad")).await;
    good.stop().await;
}

#[tokio::test]
async fn credit_is_enforced() {
    let lab = Lab::with(ServerConfig { credit: 100_000, ..quick() }).await;
    let mut ingest = lab.ingest.clone();
    ingest.gate = Arc::new(tokio::sync::Semaphore::new(0));
    let stuck = crate::server::Server::new(ServerConfig { credit: 100_000, ..quick() }, lab.identity.clone(), ingest, lab.clock.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let listening = stuck.clone();
    tokio::spawn(async move { listening.listen(listener).await });
    let dir = lab.enrol("greedy");
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let tls = tls::node_dials(&dir.load().unwrap(), Channel::Main, &clock).unwrap();
    let mut wire = Wire::new(connect(&addr.to_string(), tls, LONG).await.unwrap(), MAX_FRAME);
    let log = LogId([9; 16]);
    welcomed(&mut wire, hello("greedy", log)).await;
    let mut records = super::lab::Random(5).bytes(100_004);
    records[..4].copy_from_slice(&100_000u32.to_be_bytes());
    let greedy = Message::Batch(Batch { log, first: 1, count: 1, chain_before: [0; 32], records: records.into() });
    for _ in 0..20 {
        if wire.send(&greedy).await.is_err() {
            break;
        }
    }
    assert!(last_word(&mut wire).await.contains("more in flight than the credit allows"));
}

#[tokio::test]
async fn a_newer_main_connection_takes_over_after_proof() {
    let lab = Lab::start().await;
    let (a, b) = (lab.enrol("a"), lab.enrol("b"));
    let log = LogId([7; 16]);
    let mut older = raw(&lab, &a, Channel::Main).await;
    welcomed(&mut older, hello("a", log)).await;
    // Another node's certificate with this name proves nothing and replaces nothing.
    let mut liar = raw(&lab, &b, Channel::Main).await;
    liar.send(&Message::Hello(hello("a", log))).await.unwrap();
    last_word(&mut liar).await;
    older.send(&batch(log, 1, 2)).await.unwrap();
    loop {
        if matches!(soon("ACK", older.message(LONG)).await.unwrap(), Message::Ack(Ack { durable: 2, .. })) {
            break;
        }
    }
    let mut newer = raw(&lab, &a, Channel::Main).await;
    newer.send(&Message::Hello(Hello { next: 3, ..hello("a", log) })).await.unwrap();
    let Message::Welcome(welcome) = soon("WELCOME", newer.message(LONG)).await.unwrap() else { panic!("no WELCOME") };
    assert_eq!(welcome.durable, 2);
    assert_eq!(last_word(&mut older).await, "a newer connection took over");
}

#[tokio::test]
async fn junk_at_a_dialled_node_does_not_disturb_its_controller() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = crate::client::ClientConfig { handshake: Duration::from_millis(300), ..node_config(&dir, vec![]) };
    let (clock, journal) = (lab.clock.clone(), source.clone());
    let node = super::lab::RunningNode::start(|status, stop| crate::client::serve_dialled(config, listener, journal, clock, status, stop));
    lab.server.dial(name("edge"), addr.to_string());
    node.until("connected", |status| status.connections == 1).await;
    let mut visitors = vec![];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", &[0xff; 2000]] {
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        visitors.push(tcp);
        source.push(100);
    }
    // A node's certificate is not the controller's.
    let other = lab.enrol("other");
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let tls = tls::node_dials(&other.load().unwrap(), Channel::Main, &clock).unwrap();
    let refused = connect(&addr.to_string(), tls, LONG).await;
    assert!(refused.is_err(), "the node's own certificate is not the controller's either");
    source.until_acked(300).await;
    for mut tcp in visitors {
        let mut end = vec![];
        let _ = soon("closing", tcp.read_to_end(&mut end)).await;
    }
    assert_eq!((node.status.borrow().connections, node.status.borrow().last_error.clone()), (1, None));
    assert_eq!(source.state().await.unwrap().next, 301);
    node.stop().await;
}
