//! Records arrive once and in order, whoever dials; credit holds; what is missing is said.

use super::lab::{Lab, MemSource, name, quick};
use crate::common::BATCH;
use crate::ingest::{Notice, Refusal};
use crate::server::ServerConfig;
use crate::status::{LinkPhase, Problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_dials_ten_thousand_records() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(5_000);
    let node = lab.node(&dir, source.clone());
    lab.ingest.until("edge", &source, 5_000).await;
    source.push(5_000);
    lab.ingest.until("edge", &source, 10_000).await;
    source.until_acked(10_000).await;
    lab.ingest.assert_whole("edge", &source);
    assert_eq!(lab.ingest.held("edge", source.log()).repeated, 0);
    let status = node.until("durable", |status| status.durable == 10_000 && status.in_flight == 0).await;
    assert_eq!((status.phase, status.next, status.connections), (LinkPhase::Connected, 10_001, 1));
    let [seen] = lab.server.status().try_into().unwrap();
    assert_eq!((seen.node, seen.durable, seen.enrolled.unwrap().0), (name("edge"), 10_000, "net-1".into()));
    assert!(seen.connected_since_ns.is_some() && seen.version.as_deref() == Some(env!("CARGO_PKG_VERSION")));
    node.stop().await;
    lab.ingest.until_notice("disconnect", |notice| matches!(notice, Notice::Disconnected { .. })).await;
    lab.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controller_dials_ten_thousand_records() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(5_000);
    let (node, addr) = lab.dialled(&dir, source.clone()).await;
    lab.server.dial(name("edge"), addr.to_string());
    lab.ingest.until("edge", &source, 5_000).await;
    source.push(5_000);
    source.until_acked(10_000).await;
    lab.ingest.assert_whole("edge", &source);
    assert_eq!(lab.ingest.held("edge", source.log()).repeated, 0);
    node.until("connected", |status| status.phase == LinkPhase::Connected && status.durable == 10_000).await;
    lab.server.shutdown().await;
    node.until("waiting again", |status| status.phase == LinkPhase::Waiting).await;
    node.stop().await;
}

#[tokio::test]
async fn a_restarted_controller_goes_on_where_it_was() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(1_000);
    let node = lab.node(&dir, source.clone());
    source.until_acked(1_000).await;
    node.stop().await;
    source.push(1_000);
    let node = lab.node(&dir, source.clone());
    source.until_acked(2_000).await;
    lab.ingest.assert_whole("edge", &source);
    assert_eq!(lab.ingest.held("edge", source.log()).repeated, 0, "nothing durable is sent again");
    node.stop().await;
}

#[tokio::test]
async fn a_slow_controller_bounds_what_is_in_flight() {
    const CREDIT: u64 = 1024 * 1024;
    let lab = Lab::with(ServerConfig { credit: CREDIT as u32, ..quick() }).await;
    let mut ingest = lab.ingest.clone();
    ingest.gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let slow = crate::server::Server::new(
        ServerConfig { credit: CREDIT as u32, ..quick() },
        lab.identity.clone(),
        ingest.clone(),
        lab.clock.clone(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let listening = slow.clone();
    tokio::spawn(async move { listening.listen(listener).await });

    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(12_000);
    let node = lab.node_at(&dir, source.clone(), addr, lab.clock.clone());
    let full = CREDIT - BATCH as u64;
    node.until("full window", |status| status.in_flight > full).await;
    // Answered although the store does not: the reader never waits for it.
    node.until("an answer to PING", |status| status.offset_ns.is_some()).await;
    assert_eq!(ingest.held("edge", source.log()).batches, 0);
    let mut most = 0;
    for _ in 0..40 {
        most = most.max(node.status.borrow().in_flight);
        ingest.gate.add_permits(1);
        let before = *source.acked.borrow();
        source.until_acked((before + 1).min(12_000)).await;
    }
    assert!(most <= CREDIT, "{most} bytes in flight");
    source.until_acked(12_000).await;
    ingest.assert_whole("edge", &source);
    assert_eq!(node.status.borrow().connections, 1);
    node.stop().await;
}

#[tokio::test]
async fn what_the_node_dropped_is_a_gap() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(100);
    source.drop_before(41);
    let node = lab.node(&dir, source.clone());
    source.until_acked(100).await;
    let held = lab.ingest.held("edge", source.log());
    assert_eq!(held.gaps, [(1, 40)]);
    assert!(held.records.keys().copied().eq(41..=100));
    node.stop().await;
}

/// A controller that was put back from an older copy asks again for what it had acknowledged: the node sends what it
/// still has, and says that the rest is gone.
#[tokio::test]
async fn a_controller_put_back_from_a_copy_gets_it_again_or_is_told_of_the_gap() {
    let lab = Lab::start().await;
    let (dir, other) = (lab.enrol("edge"), lab.enrol("gate"));
    let (whole, short) = (MemSource::new(1), MemSource::new(2));
    for (node, dir, source) in [("edge", &dir, &whole), ("gate", &other, &short)] {
        source.push(1_000);
        let running = lab.node(dir, source.clone());
        source.until_acked(1_000).await;
        running.stop().await;
        lab.ingest.roll_back(node, source.log(), 400);
    }
    // Acknowledged and therefore allowed to go.
    short.drop_before(601);
    for (node, dir, source) in [("edge", &dir, &whole), ("gate", &other, &short)] {
        source.push(20);
        let running = lab.node(dir, source.clone());
        lab.ingest.until(node, source, 1_020).await;
        running.until("all delivered", |status| status.durable == 1_020 && status.problem.is_none()).await;
        running.stop().await;
    }
    lab.ingest.assert_whole("edge", &whole);
    let held = lab.ingest.held("gate", short.log());
    assert_eq!(held.gaps, [(401, 600)]);
    assert!(held.records.keys().copied().eq((1..=400).chain(601..=1_020)));
}

#[tokio::test]
async fn a_refused_batch_is_sent_again_from_where_the_store_is() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    *lab.ingest.refuse.lock().unwrap() = Some(Refusal::Expected(1));
    source.push(10_000);
    let node = lab.node(&dir, source.clone());
    source.until_acked(10_000).await;
    lab.ingest.assert_whole("edge", &source);
    assert_eq!(node.status.borrow().connections, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_full_store_is_said_and_a_falsified_record_is_a_violation() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    *lab.ingest.refuse.lock().unwrap() = Some(Refusal::Full);
    source.push(100);
    let node = lab.node(&dir, source.clone());
    let status = node.until("full", |status| status.problem == Some(Problem::Busy)).await;
    assert_eq!(status.last_error.as_deref(), Some("the controller's store is full"));
    node.stop().await;

    // The journal is brought back to an older state and continued differently: the chain does not fit.
    let node = lab.node(&dir, source.clone());
    source.until_acked(100).await;
    source.falsify(101 - 1);
    source.push(20);
    source.falsify(120);
    let node2 = lab.node(&dir, source.clone());
    source.until_acked(120).await;
    node.stop().await;
    node2.stop().await;

    // A node that holds less than the controller says so instead of overwriting.
    let shorter = MemSource::new(1);
    shorter.push(20);
    let node = lab.node(&dir, shorter.clone());
    let status = node.until("diverged", |status| status.problem == Some(Problem::Diverged)).await;
    assert!(status.last_error.unwrap().contains("ends at 120, this journal at 20"));
    assert_eq!(*shorter.acked.borrow(), 120, "the journal is told, so that it starts a new log");
    node.stop().await;

    *lab.ingest.refuse.lock().unwrap() = Some(Refusal::Tamper { seq: 121 });
    source.push(1);
    let node = lab.node(&dir, source.clone());
    let status = node.until("tamper", |status| status.problem == Some(Problem::Diverged)).await;
    assert!(status.last_error.unwrap().contains("record 121 differs"));
    lab.ingest.until_notice("violation", |notice| matches!(notice, Notice::Violation { .. })).await;
    node.stop().await;
}
