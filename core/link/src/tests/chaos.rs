//! Connections cut at random points, in both directions: nothing is missing, nothing is twice.

use super::lab::{Lab, MemSource, Random, name};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards to `to`; each connection is cut after a random number of bytes in each direction.
async fn cutting_proxy(to: SocketAddr, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut random = Random(seed);
        loop {
            let (near, _) = listener.accept().await.unwrap();
            // A handshake takes about 2000 bytes: some cuts fall into it.
            let budget = (random.below(300_000), 500 + random.below(6_000));
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                let (mut near_in, mut near_out) = near.into_split();
                let (mut far_in, mut far_out) = far.into_split();
                tokio::select! {
                    () = copy(&mut near_in, &mut far_out, budget.0) => {}
                    () = copy(&mut far_in, &mut near_out, budget.1) => {}
                }
            });
        }
    });
    addr
}

async fn copy(from: &mut tokio::net::tcp::OwnedReadHalf, to: &mut tokio::net::tcp::OwnedWriteHalf, mut budget: u64) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        let part = (read as u64).min(budget) as usize;
        if to.write_all(&buffer[..part]).await.is_err() || part < read || read == 0 {
            return;
        }
        budget -= part as u64;
    }
}

fn seeds() -> u64 {
    std::env::var("GLASSHIVE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_repeat_nothing() {
    for seed in 0..seeds() {
        println!("seed {seed}");
        let lab = Lab::start().await;
        let proxy = cutting_proxy(lab.addr, seed).await;
        let dir = lab.enrol("edge");
        let source = MemSource::new(1);
        let node = lab.node_at(&dir, source.clone(), proxy, lab.clock.clone());
        for part in 1..=5 {
            source.push(1_000);
            source.until_acked(part * 1_000 - 500).await;
        }
        source.until_acked(5_000).await;
        lab.ingest.assert_whole("edge", &source);
        assert!(node.status.borrow().connections > 3, "the proxy cut nothing");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_when_the_controller_dials() {
    for seed in 100..100 + seeds() {
        println!("seed {seed}");
        let lab = Lab::start().await;
        let dir = lab.enrol("edge");
        let source = MemSource::new(1);
        source.push(5_000);
        let (node, addr) = lab.dialled(&dir, source.clone()).await;
        // Records flow the other way now: the larger budget must, too.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut random = Random(seed);
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let budget = (500 + random.below(6_000), random.below(300_000));
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(addr).await else { return };
                    let (mut near_in, mut near_out) = near.into_split();
                    let (mut far_in, mut far_out) = far.into_split();
                    tokio::select! {
                        () = copy(&mut near_in, &mut far_out, budget.0) => {}
                        () = copy(&mut far_in, &mut near_out, budget.1) => {}
                    }
                });
            }
        });
        lab.server.dial(name("edge"), proxy.to_string());
        source.until_acked(5_000).await;
        lab.ingest.assert_whole("edge", &source);
        lab.server.shutdown().await;
        node.stop().await;
    }
}
