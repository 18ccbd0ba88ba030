//! Packets over the bulk connection: whole, within credit and limits, cancelled, refused; and liars on
//! either side.

use super::bulk::until_bulk;
use super::lab::{Lab, MemSource, Random, RunningNode, name, node_config, soon};
use crate::carve::{CARVES, CarveError, CarveOut, CarveQuery, CarveSource, CarveStatement, Carver, SegmentDigest};
use crate::client;
use crate::common::connect;
use crate::frame::{BulkRequest, Credit, FileData, FileEnd, Hello, MAX_FRAME, Message, RefusedWhy, Welcome};
use crate::ingest::Notice;
use crate::name::Role;
use crate::pipe::{RemoteSource, serve};
use crate::server::{CarveStream, FileError};
use crate::source::BlockSource;
use crate::tls::{self, Channel};
use crate::wire::{Stream, Wire};
use bytes::Bytes;
use glasshive_event::{LogId, PacketMatch, PacketScope};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

const LONG: Duration = Duration::from_secs(60);

/// A ring of `bytes`, written in odd pieces. A filter `bad` does not compile, `cut` fails in the middle, `stuck` waits
/// for cancellation, `greedy` ignores the limit.
struct Ring {
    bytes: Vec<u8>,
    written: AtomicU64,
    at_work: AtomicUsize,
    cancelled: Semaphore,
}

impl Ring {
    fn new(length: usize) -> Arc<Self> {
        let bytes = Random(5).bytes(length);
        Arc::new(Self { bytes, written: AtomicU64::new(0), at_work: AtomicUsize::new(0), cancelled: Semaphore::new(0) })
    }
}

impl CarveSource for Ring {
    fn carve(&self, query: &CarveQuery, out: &mut CarveOut) -> Result<CarveStatement, CarveError> {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        let done = self.write(query, out);
        if done.is_err() {
            self.cancelled.add_permits(1);
        }
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        done
    }
}

impl Ring {
    fn write(&self, query: &CarveQuery, out: &mut CarveOut) -> Result<CarveStatement, CarveError> {
        let bpf = query.bpf.as_deref().unwrap_or_default();
        match bpf {
            "bad" => return Err(CarveError::Query("syntax error in \u{1b}[31mfilter".into())),
            "stuck" => loop {
                if out.is_cancelled() {
                    return Err(CarveError::Failed("cancelled".into()));
                }
                std::thread::yield_now();
            },
            _ => {}
        }
        let limit = if bpf == "greedy" { usize::MAX } else { query.max_bytes as usize };
        let mut written = 0;
        for piece in self.bytes.chunks(10_007) {
            if written + piece.len() > limit {
                break;
            }
            if bpf == "cut" && written > self.bytes.len() / 2 {
                return Err(CarveError::Failed("the disk ended".into()));
            }
            out.write_all(piece)?;
            written += piece.len();
            self.written.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        let segment = SegmentDigest { name: "a.pcapng".into(), sha256: "00".repeat(32), bytes: 7, complete: true, exported: 3 };
        let limited = written < self.bytes.len();
        Ok(CarveStatement { matched: 5, exported: 3, bytes: written as u64, limited, segments: vec![segment], ..CarveStatement::default() })
    }
}

fn query(bpf: Option<&str>, max_bytes: u64) -> CarveQuery {
    CarveQuery { scope: PacketScope(vec![PacketMatch::default()]), bpf: bpf.map(str::to_owned), max_bytes }
}

async fn ask(lab: &Lab, query: CarveQuery) -> CarveStream {
    soon("a request", lab.server.request_carve(&name("edge"), query)).await.unwrap()
}

async fn all(lab: &Lab, query: CarveQuery) -> Result<(Vec<u8>, CarveStatement), FileError> {
    let mut stream = ask(lab, query).await;
    let mut bytes = vec![];
    while let Some(part) = soon("a part", stream.next()).await {
        bytes.extend_from_slice(&part?);
    }
    Ok((bytes, stream.statement().unwrap().clone()))
}

/// A node with a ring, as one process or with its link in another.
async fn node(lab: &Lab, ring: &Arc<Ring>, piped: bool) -> RunningNode {
    let dir = lab.enrol("edge");
    let source = MemSource::new(1).with_carver(Carver::new(ring.clone()));
    let running = if piped {
        let (parent, child) = UnixStream::pair().unwrap();
        let (events, mut told) = mpsc::channel(64);
        tokio::spawn(serve(source, parent, events));
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let (config, clock, remote) = (node_config(&dir, vec![lab.addr.to_string()]), lab.clock.clone(), RemoteSource::new(child));
        RunningNode::start(|status, stop| client::run(config, remote, clock, status, stop))
    } else {
        lab.node(&dir, source)
    };
    until_bulk(lab).await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_come_whole_with_a_statement_and_never_faster_than_they_are_taken() {
    for piped in [false, true] {
        let lab = Lab::start().await;
        let ring = Ring::new(3_000_000);
        let running = node(&lab, &ring, piped).await;
        let (bytes, statement) = all(&lab, query(None, u64::MAX)).await.unwrap();
        assert!(bytes == ring.bytes, "piped {piped}");
        assert_eq!((statement.exported, statement.bytes, statement.limited), (3, 3_000_000, false));
        assert_eq!(statement.segments[0].name, "a.pcapng");

        // The limit is the node's to keep, and it says so.
        let (bytes, statement) = all(&lab, query(None, 100_000)).await.unwrap();
        assert!(statement.limited && bytes.len() <= 100_000 && ring.bytes.starts_with(&bytes));
        let (bytes, _) = all(&lab, query(None, 0)).await.unwrap();
        assert!(bytes.is_empty());

        // Held back by its reader, a carve goes no further than the credit and a few parts; another goes on.
        ring.written.store(0, Ordering::SeqCst);
        let mut held = ask(&lab, query(None, u64::MAX)).await;
        let first = soon("a part", held.next()).await.unwrap().unwrap();
        assert!(all(&lab, query(None, 100_000)).await.is_ok());
        assert!(ring.written.load(Ordering::SeqCst) < 1_500_000, "{}", ring.written.load(Ordering::SeqCst));
        let mut bytes = first.to_vec();
        while let Some(part) = soon("a part", held.next()).await {
            bytes.extend_from_slice(&part.unwrap());
        }
        assert!(bytes == ring.bytes);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_the_work_and_makes_room_and_too_many_are_refused() {
    for piped in [false, true] {
        let lab = Lab::start().await;
        let ring = Ring::new(3_000_000);
        let running = node(&lab, &ring, piped).await;
        let mut open = vec![];
        for bpf in ["stuck", "tcp"] {
            open.push(ask(&lab, query(Some(bpf), u64::MAX)).await);
        }
        soon("a part", open[1].next()).await.unwrap().unwrap();
        while ring.at_work.load(Ordering::SeqCst) < CARVES {
            tokio::task::yield_now().await;
        }
        let busy = all(&lab, query(None, u64::MAX)).await.unwrap_err();
        assert_eq!(busy, FileError::Refused(name("edge"), RefusedWhy::Busy));

        // Both notice, the one that writes and the one that does not.
        open.clear();
        soon("two cancelled carves", ring.cancelled.acquire_many(2)).await.unwrap().forget();
        let (bytes, _) = soon("room", async {
            loop {
                match all(&lab, query(None, u64::MAX)).await {
                    Ok(done) => break done,
                    Err(error) => assert_eq!(error, FileError::Refused(name("edge"), RefusedWhy::Busy)),
                }
            }
        })
        .await;
        assert!(bytes == ring.bytes);

        // The link goes away in the middle: the work ends as well.
        let mut last = ask(&lab, query(Some("stuck"), u64::MAX)).await;
        while ring.at_work.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        running.stop().await;
        assert_eq!(soon("an end", last.next()).await, Some(Err(FileError::Broken(name("edge")))));
        soon("a cancelled carve", ring.cancelled.acquire()).await.unwrap().forget();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_said_and_never_look_whole() {
    for piped in [false, true] {
        let lab = Lab::start().await;
        let ring = Ring::new(500_000);
        let running = node(&lab, &ring, piped).await;
        let error = all(&lab, query(Some("bad"), 9)).await.unwrap_err();
        assert_eq!(error.to_string(), "node edge could not carve: syntax error in \\x1b[31mfilter");
        let error = all(&lab, query(Some("cut"), u64::MAX)).await.unwrap_err();
        assert_eq!(error.to_string(), "node edge could not carve: the disk ended");
        let error = all(&lab, query(Some("greedy"), 100_000)).await.unwrap_err();
        assert_eq!(error.to_string(), "node edge could not carve: more bytes than the carve's limit");
        let scope = PacketScope(vec![PacketMatch::default(); 10_000]);
        let error = all(&lab, CarveQuery { scope, bpf: None, max_bytes: 9 }).await.unwrap_err();
        assert_eq!(error, FileError::Refused(name("edge"), RefusedWhy::Question));
        running.stop().await;
    }
    // A node without packets.
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let (parent, child) = UnixStream::pair().unwrap();
    let (events, _told) = mpsc::channel(64);
    tokio::spawn(serve(MemSource::new(1), parent, events));
    let remote = RemoteSource::new(child);
    assert_eq!(remote.carve(query(None, 9)).await.unwrap().unwrap_err(), RefusedWhy::NotSupported);
    let running = lab.node(&dir, remote);
    until_bulk(&lab).await;
    let error = all(&lab, query(None, 9)).await.unwrap_err();
    assert_eq!(error, FileError::Refused(name("edge"), RefusedWhy::NotSupported));
    running.stop().await;
}

/// A bulk connection with a node's certificate, for saying what a node never says; until the request came.
async fn liar(lab: &Lab) -> (Wire<impl Stream + use<>>, u32) {
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let tls = tls::node_dials(&lab.node_dir("liar").load().unwrap(), Channel::Bulk, &clock).unwrap();
    let mut wire = Wire::new(connect(&lab.addr.to_string(), tls, LONG).await.unwrap(), MAX_FRAME);
    let log = LogId([1; 16]);
    let node = name("liar");
    let hello = Hello { oldest: 1, newest: 1, node, role: Role::Decoys, product: "x".into(), log, first: 1, next: 1, chain_head: [0; 32] };
    wire.send(&Message::Hello(hello)).await.unwrap();
    loop {
        match soon("CARVE", wire.message(LONG)).await.unwrap() {
            Message::Carve(carve) => return (wire, carve.request),
            Message::Welcome(_) | Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lies_ends_only_its_own_connection() {
    let lab = Lab::start().await;
    lab.enrol("liar");
    let ring = Ring::new(100_000);
    let running = node(&lab, &ring, false).await;
    let data = |request, offset, length: usize| FileData { request, offset, bytes: Bytes::from(vec![7; length]) };
    type Lie = Box<dyn Fn(u32) -> Vec<Message>>;
    let lies: Vec<Lie> = vec![
        // More than the limit, than the credit, from nowhere, nothing, of another kind, twice the same.
        Box::new(move |n| vec![Message::CarveData(data(n, 0, 101_000))]),
        Box::new(move |n| (0..9).map(|i| Message::CarveData(data(n, i * 60_000, 60_000))).collect()),
        Box::new(move |n| vec![Message::CarveData(data(n, 1, 10))]),
        Box::new(move |n| vec![Message::CarveData(data(n, 0, 0))]),
        Box::new(move |n| vec![Message::FileData(data(n, 0, 10))]),
        Box::new(move |n| vec![Message::CarveData(data(n, 0, 10)), Message::CarveData(data(n, 0, 10))]),
        Box::new(|n| vec![Message::FileEnd(FileEnd { request: n, total: 1 })]),
        Box::new(|n| vec![Message::CarveEnd(BulkRequest { request: n, query: Bytes::from_static(b"[") })]),
        Box::new(|n| vec![Message::Carve(BulkRequest { request: n, query: Bytes::new() })]),
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        let max = if at == 1 { u64::MAX } else { 100_000 };
        let asking = async {
            let mut stream = loop {
                match lab.server.request_carve(&name("liar"), query(None, max)).await {
                    Ok(stream) => break stream,
                    Err(FileError::NotConnected(_) | FileError::Broken(_)) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            };
            loop {
                match stream.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("lie {at} looks whole"),
                }
            }
        };
        let lying = async {
            let (mut wire, request) = liar(&lab).await;
            for message in lie(request) {
                if wire.send(&message).await.is_err() {
                    break;
                }
            }
            while wire.message(LONG).await.is_ok() {}
        };
        let (error, ()) = soon("an end", Box::pin(async { tokio::join!(asking, lying) })).await;
        assert_eq!(error, FileError::Broken(name("liar")), "lie {at}");
    }
    lab.ingest.until_notice("violation", |notice| matches!(notice, Notice::Violation { node, .. } if node.as_str() == "liar")).await;
    let (bytes, _) = all(&lab, query(None, u64::MAX)).await.unwrap();
    assert!(bytes == ring.bytes);
    running.stop().await;
}

#[tokio::test]
async fn a_controller_that_asks_nonsense_gets_refusals() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let ring = Ring::new(200_000);
    let source = MemSource::new(1).with_carver(Carver::new(ring.clone()));
    let (running, addr) = lab.dialled(&dir, source).await;
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let open = async || {
        let tls = tls::controller_dials(&lab.identity, &name("edge"), Channel::Bulk, &clock).unwrap();
        let mut wire = Wire::new(connect(&addr.to_string(), tls, LONG).await.unwrap(), MAX_FRAME);
        assert!(matches!(wire.message(LONG).await.unwrap(), Message::Hello(_)));
        wire.send(&Message::Welcome(Welcome { version: 1, durable: 0, credit: 0, max_frame: 0, wall_ns: 0 })).await.unwrap();
        wire
    };
    let mut wire = open().await;
    let ask = |request, query: &[u8]| Message::Carve(BulkRequest { request, query: Bytes::copy_from_slice(query) });
    let good = query(None, u64::MAX).to_json().unwrap();
    for (request, junk) in [(1, &b"?"[..]), (2, b""), (3, &[0xff; 100_000]), (4, br#"{"scope":[],"max_bytes":1,"new":1}"#)] {
        wire.send(&ask(request, junk)).await.unwrap();
        loop {
            match soon("REFUSED", wire.message(LONG)).await.unwrap() {
                Message::Refused(refused) => break assert_eq!((refused.request, refused.why), (request, RefusedWhy::Question)),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    // Nothing comes before credit, then as much as there is credit, in any portion.
    wire.send(&ask(5, &good)).await.unwrap();
    let mut got = vec![];
    for portion in [1u32, 9, 64 * 1024, 130_000, 100_000] {
        wire.send(&Message::Credit(Credit { request: 5, bytes: portion })).await.unwrap();
        let until = (got.len() + portion as usize).min(ring.bytes.len());
        while got.len() < until {
            match soon("data", wire.message(LONG)).await.unwrap() {
                Message::CarveData(data) => {
                    assert_eq!((data.request, data.offset), (5, got.len() as u64));
                    got.extend_from_slice(&data.bytes);
                    assert!(got.len() <= until);
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(got == ring.bytes);
    loop {
        if let Message::CarveEnd(end) = soon("CARVE_END", wire.message(LONG)).await.unwrap() {
            assert_eq!(CarveStatement::from_json(&end.query).unwrap().bytes, 200_000);
            break;
        }
    }
    // A number twice is no question but a broken controller.
    wire.send(&ask(6, &good)).await.unwrap();
    wire.send(&ask(6, &good)).await.unwrap();
    let end = async { while wire.message(LONG).await.is_ok() {} };
    soon("an end", end).await;
    running.stop().await;
}
