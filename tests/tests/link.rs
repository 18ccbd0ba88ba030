//! A hostile wire between a node and its controller, and clocks that jump: what the node accepted is stored exactly
//! once, in the order of its log, and `glasshive nodes` shows what happened. Six faults for each of
//! `GLASSHIVE_KILLS`; they come again with the printed `GLASSHIVE_SEED`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::faults::hive::{Hive, Node};
use glasshive_tests::faults::relay::{FAULTS, Relay};
use glasshive_tests::faults::{Random, number, records};

const MINUTE: i64 = 60_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_wire_loses_and_doubles_nothing() {
    // Each costs a pause of some seconds before the node tries again.
    let faults = (number("GLASSHIVE_KILLS", 5) * 6).min(300);
    let mut random = Random::new("link");
    let dir = tempfile::tempdir().unwrap();
    let hive = Hive::start(&dir.path().join("controller")).await.unwrap();
    let relay = Relay::start(hive.address(), Random::of(random.number())).await.unwrap();
    let place = dir.path().join("node");
    let node = Node::start(&hive, "edge", &place, relay.address).await.unwrap();
    while relay.done().len() < faults {
        node.write(100, &mut random).await.unwrap();
        // It gets on in spite of everything.
        node.delivered(node.last().saturating_sub(1_000)).await.unwrap();
    }
    relay.heal();
    node.write(100, &mut random).await.unwrap();
    let last = node.last();
    node.delivered(last).await.unwrap();
    node.until("a good connection", |status| status.offset_ns.is_some() && status.last_error.is_none()).await.unwrap();

    let done = relay.done();
    let counts: Vec<_> = FAULTS.iter().map(|fault| (fault, done.iter().filter(|other| *other == fault).count())).collect();
    assert!(counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
    let listed = hive.nodes().await.unwrap()["edge"].clone();
    println!("{last} records through {} connections, {counts:?}", relay.connections());
    println!("nodes: {listed}");
    assert_eq!(listed["connected"], true, "{listed}");
    assert!(listed["gap_count"] == 0 && listed["loss_count"] == 0, "{listed}");
    assert_eq!(listed["logs"][0]["seq"], last, "{listed}");
    assert_eq!(listed["records_behind"], 0, "{listed}");
    let times = listed["connections"].as_u64().unwrap();
    assert!(times > 1 && times <= relay.connections(), "{listed}");
    assert_eq!(listed["refusals"], 0, "the wire alone cannot make the controller refuse a record: {listed}");

    let stored = records::logs(&hive.running.context.store).await.unwrap();
    node.stop().await.unwrap();
    let (log, there, _) = tokio::task::spawn_blocking(move || records::journal(&place.join("journal"))).await.unwrap().unwrap();
    records::same(&stored[&log], &there).unwrap();
    assert_eq!(stored.values().filter(|log| log.node == "edge").count(), 1);
    hive.stop().await.unwrap();
}

/// A node's clock is set forth and back while it works: its records keep the order they were written in, each with
/// the time it was given, and the distance of the clocks is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_change_no_order() {
    let mut random = Random::new("clocks");
    let dir = tempfile::tempdir().unwrap();
    let hive = Hive::start(&dir.path().join("controller")).await.unwrap();
    let place = dir.path().join("node");
    let node = Node::start(&hive, "edge", &place, hive.address()).await.unwrap();
    let mut marks = Vec::new();
    // Certificates begin an hour before they were made: a clock further behind is another story.
    for minutes in [0, 90, -45, 3, -20] {
        node.clock.set(minutes * MINUTE);
        node.write(40, &mut random).await.unwrap();
        node.delivered(node.last()).await.unwrap();
        marks.push(node.last());
        // Far less than a minute passes on the way.
        let near = |offset: i64| (offset - minutes * MINUTE).abs() < MINUTE / 2;
        node.until("the distance of the clocks", |status| status.offset_ns.is_some_and(near)).await.unwrap();
    }
    let stored = records::logs(&hive.running.context.store).await.unwrap();
    let entries = &stored[&node.handle.log_id()].entries;
    let walls: Vec<i64> = marks.iter().map(|seq| entries[*seq as usize - 1].wall_ns).collect();
    let ahead = |a: usize, b: usize| (walls[a] - walls[b]) / MINUTE;
    assert!(ahead(1, 0) > 80 && ahead(2, 0) < -40 && ahead(3, 2) > 40 && ahead(4, 3) < -20, "{walls:?}");
    // A connection made anew measures at once.
    node.stop().await.unwrap();
    let node = Node::start(&hive, "edge", &place, hive.address()).await.unwrap();
    node.clock.set(20 * MINUTE);
    let shown = async |wanted: i64| loop {
        let listed = hive.nodes().await.unwrap()["edge"].clone();
        if listed["clock_offset_ns"].as_i64().is_some_and(|offset| (offset - wanted).abs() < MINUTE / 2) {
            return listed;
        }
        tokio::task::yield_now().await;
    };
    let listed = tokio::time::timeout(std::time::Duration::from_secs(60), shown(20 * MINUTE)).await.expect("the clock in nodes");
    assert!(listed["gap_count"] == 0 && listed["records_behind"] == 0, "{listed}");
    node.write(10, &mut random).await.unwrap();
    node.delivered(node.last()).await.unwrap();
    node.stop().await.unwrap();
    let stored = records::logs(&hive.running.context.store).await.unwrap();
    let (log, there, _) = tokio::task::spawn_blocking(move || records::journal(&place.join("journal"))).await.unwrap().unwrap();
    records::same(&stored[&log], &there).unwrap();
    hive.stop().await.unwrap();
}
