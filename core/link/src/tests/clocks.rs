//! Wrong clocks: measured when they are somewhat wrong, said in one line when certificates do not hold any more.

use super::lab::{Lab, MemSource, RunningNode};
use crate::clock::OffsetClock;
use crate::identity::IdentityDir;
use crate::status::{LinkPhase, Problem};
use std::sync::Arc;

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 1440 * MINUTE;

fn node_with(lab: &Lab, dir: &IdentityDir, source: &MemSource, offset_ns: i64) -> RunningNode {
    lab.node_at(dir, source.clone(), lab.addr, Arc::new(OffsetClock::new(offset_ns)))
}

#[tokio::test]
async fn ten_minutes_off_works_and_is_measured() {
    let lab = Lab::start().await;
    for (number, offset) in [(1, -10 * MINUTE), (2, 10 * MINUTE)] {
        let name = format!("edge-{number}");
        let dir = lab.enrol(&name);
        let source = MemSource::new(number);
        source.push(100);
        let node = node_with(&lab, &dir, &source, offset);
        source.until_acked(100).await;
        let status = node.until("an offset", |status| status.offset_ns.is_some()).await;
        // Loopback takes far less than the half minute allowed here.
        assert!((status.offset_ns.unwrap() - offset).abs() < MINUTE / 2, "{status:?}");
        let measured = async {
            loop {
                let seen = lab.server.status().into_iter().find(|seen| seen.node.as_str() == name);
                if let Some(offset) = seen.and_then(|seen| seen.offset_ns) {
                    return offset;
                }
                tokio::task::yield_now().await;
            }
        };
        let measured = super::lab::soon("an offset at the controller", measured).await;
        assert!((measured - offset).abs() < MINUTE / 2, "{measured}");
        node.stop().await;
    }
}

#[tokio::test]
async fn certificates_outside_their_time_are_one_clear_error() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let refused = async |offset: i64| {
        let node = node_with(&lab, &dir, &source, offset);
        let status = node.until("an error", |status| status.last_error.is_some()).await;
        assert_ne!(status.phase, LinkPhase::Connected);
        node.stop().await;
        (status.problem.unwrap(), status.last_error.unwrap())
    };
    let (problem, text) = refused(40 * DAY).await;
    assert_eq!(problem, Problem::Expired);
    assert!(text.starts_with("this node's certificate expired 11 days ago"), "{text}");
    let (problem, text) = refused(-2 * DAY).await;
    assert_eq!(problem, Problem::Clock);
    assert!(text.contains("is not valid before") && text.contains("this clock is behind"), "{text}");
    assert!(lab.ingest.logs().is_empty());

    // The controller lives 10 days later and renewed its own certificate: the node's clock is behind that.
    lab.clock.set(25 * DAY);
    let (problem, text) = refused(0).await;
    assert_eq!(problem, Problem::Clock);
    assert!(text.contains("not valid for another 24 days by this clock: this clock is behind"), "{text}");
}

#[tokio::test]
async fn the_controllers_clock_decides_about_the_nodes_certificate() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    lab.clock.set(40 * DAY);
    // The node would accept the controller (its clock agrees), and checks itself first.
    let node = node_with(&lab, &dir, &MemSource::new(1), 40 * DAY);
    let status = node.until("an error", |status| status.last_error.is_some()).await;
    assert_eq!(status.problem, Some(Problem::Expired));
    node.stop().await;

    // A node with its clock just inside, a controller just outside: only the controller's word remains.
    lab.clock.set(30 * DAY + 10 * MINUTE);
    let node = node_with(&lab, &dir, &MemSource::new(1), 30 * DAY - 10 * MINUTE);
    let status = node.until("an error", |status| status.last_error.is_some()).await;
    assert_eq!(status.problem, Some(Problem::Clock), "{status:?}");
    assert!(status.last_error.unwrap().contains("certificate is outside its validity"));
    node.stop().await;
}
