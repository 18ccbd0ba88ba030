//! A controller whose store is put back from the copy made before an upgrade, as the rollback does: nodes send again
//! what it had acknowledged since, once; what a node does not have any more is a gap that is shown; and a program that
//! meets a newer database says so and touches nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::faults::load::{PERSONA, visits};
use glasshive_tests::process::{command, run, run_ok};
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// What an upgrade copies of a controller, and puts back; its own log is begun anew.
const DATABASE: [&str; 4] = ["log", "summary", "fusion", "schema"];

fn visit(world: &World, count: u64) -> usize {
    visits(world, 9100, count).unwrap() as usize
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in DATABASE {
        if from.join(name).exists() {
            run_ok(command([Path::new("cp"), Path::new("-a"), &from.join(name), to]), None, LIMIT).unwrap();
        }
    }
}

fn ids(world: &World, count: usize) -> BTreeSet<String> {
    let sessions = world.wait_sessions(count, LIMIT).unwrap();
    let ids: BTreeSet<_> = sessions.iter().map(|session| session["session"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), sessions.len(), "a session is listed twice");
    ids
}

#[test]
fn what_a_rolled_back_controller_lost_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: &dir.path().join("hive"), root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::start(&plan).unwrap();
    let (state, kept) = (world.dir.join("controller/state"), dir.path().join("kept"));
    let mut visits = visit(&world, 40);
    ids(&world, visits);
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    copy(&state, &kept);
    world.start_controller().unwrap();
    visits += visit(&world, 40);
    let before = ids(&world, visits);

    // A newer program was here: this one refuses, and leaves everything as it is.
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    std::fs::write(state.join("schema"), "99\n").unwrap();
    for words in [["serve", "--json"], ["sessions", "--json"]] {
        let output = run(world.cli_command(&words).unwrap(), None, LIMIT).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.trim_end().lines().count() == 1 && said.contains("has schema 99, this program knows 1"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(state.join("schema")).unwrap(), "99\n");

    // The copy is put back, the newer database moved aside.
    let aside = dir.path().join("aside");
    std::fs::create_dir_all(&aside).unwrap();
    for name in DATABASE.into_iter().chain(["controller-log"]) {
        if state.join(name).exists() {
            std::fs::rename(state.join(name), aside.join(name)).unwrap();
        }
    }
    copy(&kept, &state);
    world.start_controller().unwrap();
    visits += visit(&world, 10);
    let after = ids(&world, visits);
    assert!(before.is_subset(&after), "{} of {} came again", before.intersection(&after).count(), before.len());
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let node: Value = serde_json::from_str(nodes.lines().find(|line| line.contains("\"node\":\"node1\"")).unwrap()).unwrap();
    assert_eq!((&node["gap_count"], node["logs"].as_array().unwrap().len()), (&Value::from(0), 1), "{node}");
    println!("{} sessions before the rollback, {} after it", before.len(), after.len());

    // A node refuses a newer journal the same way, before it opens anything.
    assert_eq!(world.nodes[0].daemon.take().unwrap().stop(LIMIT), Some(0));
    let stamp = world.nodes[0].dir.join("state/journal/schema");
    std::fs::write(&stamp, "99\n").unwrap();
    let output = run(world.decoys(0, &["run"]).unwrap(), None, LIMIT).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.trim_end().lines().count() == 1 && said.contains("has schema 99"), "{said}");
}
