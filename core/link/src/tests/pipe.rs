//! The link in another process: the journal at one end of a socketpair, the client at the other.

use super::lab::{Lab, MemSource, RunningNode, node_config, soon};
use crate::client;
use crate::pipe::{PipeEvent, RemoteSource, serve};
use crate::source::{BlockSource, SourceClosed};
use crate::status::LinkPhase;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_status_and_sealing_cross_the_pipe() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(2_000);
    source.put_blob(&"ab".repeat(32), vec![5; 300_000]);
    let (parent, child) = UnixStream::pair().unwrap();
    let (events, mut told) = mpsc::channel(64);
    let serving = tokio::spawn(serve(source.clone(), parent, events));
    let remote = RemoteSource::new(child);
    let (config, clock, journal) = (node_config(&dir, vec![lab.addr.to_string()]), lab.clock.clone(), remote.clone());
    let node = RunningNode::start(|status, stop| client::run(config, journal, clock, status, stop));
    let (reporter, status, identity) = (remote.clone(), node.status.clone(), dir.clone());
    let reporting = tokio::spawn(async move { reporter.report(status, identity).await });

    let (mut sealing, mut connected) = (None, false);
    while sealing.is_none() || !connected {
        match soon("an event", told.recv()).await.unwrap() {
            PipeEvent::Sealing(to) => sealing = Some(to),
            PipeEvent::Status(status) => connected |= status.phase == LinkPhase::Connected,
        }
    }
    let sealing = sealing.unwrap();
    assert_eq!((sealing.node.as_str(), sealing.net.as_str()), ("edge", "net-1"));
    assert_eq!((sealing.recipient, &sealing.pivot), (lab.identity.unsealer().recipient(), lab.identity.pivot_key()));

    source.until_acked(2_000).await;
    source.push(3_000);
    source.until_acked(5_000).await;
    lab.ingest.assert_whole("edge", &source);
    let part = remote.blob(&"ab".repeat(32), 299_999, 10).await.unwrap().unwrap();
    assert_eq!((part.total, part.bytes.len()), (300_000, 1));
    assert_eq!(remote.blob("none", 0, 10).await, Ok(None));

    // A cancelled question leaves the rest in order.
    for _ in 0..100 {
        let asked = remote.changed(5_000);
        tokio::select! {
            biased;
            _ = asked => panic!("nothing changed"),
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(soon("an answer", remote.state()).await.unwrap().next, 5_001);

    // When the child ends, so does the parent's side.
    node.stop().await;
    reporting.abort();
    drop(remote);
    drop(reporting.await);
    soon("the end", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn either_side_ends_with_the_other() {
    let source = MemSource::new(1);
    let (parent, child) = UnixStream::pair().unwrap();
    let (events, _told) = mpsc::channel(1);
    let serving = tokio::spawn(serve(source.clone(), parent, events.clone()));
    let remote = RemoteSource::new(child);
    assert_eq!(remote.state().await.unwrap().next, 1);
    serving.abort();
    soon("the end", remote.closed()).await;
    assert_eq!(remote.state().await, Err(SourceClosed));

    // Junk from a child that is not ours any more ends the pipe, nothing else.
    for junk in [&[0xff; 16][..], &[0, 0, 0, 3, 64, 0, 9], &[0, 0, 0, 2, 3, 0]] {
        let (parent, mut child) = UnixStream::pair().unwrap();
        let serving = tokio::spawn(serve(source.clone(), parent, events.clone()));
        child.write_all(junk).await.unwrap();
        assert!(soon("the end", serving).await.unwrap().is_err(), "{junk:?}");
    }
}
