//! A new certificate authority in three steps, while nodes send: none is cut off, no step is made before all have come
//! back, and in the end the old authority opens nothing.

use super::lab::{Lab, MemSource, name, soon};
use crate::client::join;
use crate::identity::{ControllerIdentity, IdentityDir, IdentityError, Phase, Step};
use crate::name::Role;
use crate::status::{LinkPhase, Problem};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

async fn caught_up(lab: &Lab) {
    let identity = lab.identity.clone();
    soon("all nodes to come back", async move {
        while !identity.rotation().behind.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn roots(dir: &IdentityDir) -> usize {
    dir.load().unwrap().roots.len()
}

#[tokio::test]
async fn nodes_follow_every_step_without_a_hole() {
    let lab = Lab::start().await;
    let (dir, other) = (lab.enrol("edge"), lab.enrol("gate"));
    let (source, called) = (MemSource::new(1), MemSource::new(2));
    let node = lab.node(&dir, source.clone());
    let (dialled, addr) = lab.dialled(&other, called.clone()).await;
    lab.server.dial(name("gate"), addr.to_string());
    let old = lab.identity.pin();
    let mut sent = 0;
    let steps = [(Step::Distribute, Phase::Distributed, 2), (Step::Reissue, Phase::Reissued, 2), (Step::Drop, Phase::Settled, 1)];
    for (step, phase, trusted) in steps {
        let made = lab.identity.rotate(step, false).unwrap();
        assert!(made.changed && made.phase == phase && made.pins.len() == trusted, "{made:?}");
        // Asked for again: nothing changes, and nobody is handed anything twice.
        assert!(!lab.identity.rotate(step, false).unwrap().changed);
        caught_up(&lab).await;
        sent += 100;
        for (source, dir) in [(&source, &dir), (&called, &other)] {
            source.push(100);
            source.until_acked(sent).await;
            assert_eq!(roots(dir), trusted);
        }
        assert_eq!(lab.identity.pin() == old, step == Step::Distribute);
        assert_eq!(dir.load().unwrap().pin().unwrap(), lab.identity.pin());
    }
    lab.ingest.assert_whole("edge", &source);
    lab.ingest.assert_whole("gate", &called);
    node.until("a good connection", |status| status.phase == LinkPhase::Connected && status.problem.is_none()).await;
    node.stop().await;
    dialled.stop().await;
    // What is on disk is the same authority, and the old one's certificates are nobody's.
    let again = ControllerIdentity::load(&lab.dir.path().join("controller"), lab.clock.clone()).unwrap();
    assert_eq!((again.pin(), again.rotation().phase), (lab.identity.pin(), Phase::Settled));
}

#[tokio::test]
async fn no_step_before_all_have_come_back_and_none_out_of_order() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let kept = std::fs::read(dir.path().join("identity.json")).unwrap();
    assert!(matches!(lab.identity.rotate(Step::Reissue, false), Err(IdentityError::Step(_))));
    assert!(!lab.identity.rotate(Step::Drop, false).unwrap().changed);
    lab.identity.rotate(Step::Distribute, false).unwrap();
    assert!(matches!(lab.identity.rotate(Step::Drop, true), Err(IdentityError::Step(_))));
    let error = lab.identity.rotate(Step::Reissue, false).unwrap_err();
    assert!(matches!(&error, IdentityError::Behind(nodes) if nodes.as_slice() == ["edge"]), "{error}");
    assert!(!error.to_string().contains('\n'));
    // A node that joins meanwhile gets both roots, and counts once it has been here.
    let token = lab.identity.enroll(name("late"), "net-1", Role::Decoys, HOUR).unwrap();
    let late = lab.node_dir("late");
    soon("joining", join(&lab.addr.to_string(), &token, &late, lab.clock.clone())).await.unwrap();
    assert_eq!(roots(&late), 2);
    let sources = [MemSource::new(1), MemSource::new(2)];
    let nodes = [lab.node(&dir, sources[0].clone()), lab.node(&late, sources[1].clone())];
    caught_up(&lab).await;
    for step in [Step::Reissue, Step::Drop] {
        lab.identity.rotate(step, false).unwrap();
        caught_up(&lab).await;
    }
    for node in nodes {
        node.stop().await;
    }
    // With what it had before the rotation a node gets nowhere, and says why.
    std::fs::write(dir.path().join("identity.json"), kept).unwrap();
    let node = lab.node(&dir, sources[0].clone());
    node.until("refused", |status| status.problem == Some(Problem::WrongAuthority)).await;
    node.stop().await;
}

#[test]
fn an_interrupted_reissue_is_carried_out_by_the_next_start() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("controller");
    let clock = Arc::new(crate::clock::SystemClock);
    let identity = ControllerIdentity::init(&dir, clock.clone()).unwrap();
    let old = std::fs::read(dir.join("ca.key")).unwrap();
    identity.rotate(Step::Distribute, false).unwrap();
    let pending = std::fs::read_to_string(dir.join("rotation.json")).unwrap();
    identity.rotate(Step::Reissue, false).unwrap();
    let new = identity.pin();
    // As it was when the note had been written and only the certificate replaced.
    let mut note: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("rotation.json")).unwrap()).unwrap();
    note["next"] = serde_json::from_str::<serde_json::Value>(&pending).unwrap()["next"].clone();
    std::fs::write(dir.join("rotation.json"), note.to_string()).unwrap();
    std::fs::write(dir.join("ca.key"), old).unwrap();
    let again = ControllerIdentity::load(&dir, clock).unwrap();
    assert_eq!((again.pin(), again.rotation().phase, again.rotation().pins.len()), (new, Phase::Reissued, 2));
}
