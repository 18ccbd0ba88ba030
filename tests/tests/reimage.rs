//! A node that comes back from an older copy of its state, and one that comes back without any: what the controller
//! holds is neither overwritten nor doubled, what the node records then arrives under a log of its own, and
//! `glasshive nodes` shows that something happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::faults::load::{self, PERSONA};
use glasshive_tests::faults::records;
use glasshive_tests::process::{command, run_ok, until};
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn visit(world: &World, count: u64) {
    VISITS.fetch_add(load::visits(world, 9100, count).unwrap() as usize, std::sync::atomic::Ordering::Relaxed);
}

/// Visits so far.
static VISITS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn visits() -> usize {
    VISITS.load(std::sync::atomic::Ordering::Relaxed)
}

fn node(world: &World) -> Value {
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    serde_json::from_str(nodes.lines().find(|line| line.contains("\"node\":\"node1\"")).unwrap()).unwrap()
}

fn move_state(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run_ok(command([Path::new("cp"), Path::new("-a"), from, to]), None, LIMIT).unwrap();
}

fn stop(world: &mut World) {
    assert_eq!(world.nodes[0].daemon.take().unwrap().stop(LIMIT), Some(0));
}

#[test]
fn nothing_is_overwritten_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: &dir.path().join("hive"), root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::start(&plan).unwrap();
    let (state, older) = (world.nodes[0].dir.join("state"), dir.path().join("older"));
    let journal = state.join("journal");
    visit(&world, 50);
    world.wait_sessions(visits(), LIMIT).unwrap();
    stop(&mut world);
    move_state(&state, &older);
    world.start_node(0).unwrap();
    visit(&world, 60);
    world.wait_sessions(visits(), LIMIT).unwrap();
    until("the last records", LIMIT, || {
        let (_, acknowledged, durable) = records::promised(&journal).ok()?;
        (acknowledged >= durable).then_some(())
    })
    .unwrap();
    stop(&mut world);
    let (first_log, before, _) = records::journal(&journal).unwrap();

    // The older copy is put back, as a snapshot of a virtual machine would be, and visitors go on coming.
    move_state(&older, &state);
    world.start_node(0).unwrap();
    let trouble = until("the trouble to be shown", LIMIT, || {
        let node = node(&world);
        node["last_error"].as_str().is_some_and(|why| why.contains("older copy")).then_some(node)
    })
    .unwrap();
    println!("restored from an older copy: {} connected, {}", trouble["connected"], trouble["last_error"]);
    visit(&world, 30);
    stop(&mut world);
    world.start_node(0).unwrap();
    visit(&world, 5);
    let sessions = world.wait_sessions(visits(), LIMIT).unwrap();
    let listed = node(&world);
    println!("begun anew: {} gaps, logs {}", listed["gap_count"], listed["logs"]);
    assert_eq!(listed["logs"].as_array().unwrap().len(), 2, "{listed}");
    assert!(listed["gap_count"].as_u64() > Some(0), "{listed}");
    let ids: BTreeSet<_> = sessions.iter().map(|session| session["session"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), sessions.len()), (visits(), visits()), "each visit once");

    // Without any state: it serves and records for itself until it is enrolled again; then all of that comes too.
    stop(&mut world);
    std::fs::remove_dir_all(&state).unwrap();
    world.start_node(0).unwrap();
    assert!(world.nodes[0].daemon.as_ref().unwrap().output().contains("standalone: no controller"));
    visit(&world, 20);
    assert_eq!(node(&world)["connected"], false);
    stop(&mut world);
    world.enroll(0, Dial::Node).unwrap();
    world.start_node(0).unwrap();
    visit(&world, 5);
    let sessions = world.wait_sessions(visits(), LIMIT).unwrap();
    let ids: BTreeSet<_> = sessions.iter().map(|session| session["session"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), sessions.len()), (visits(), visits()), "each visit once");
    assert_eq!(node(&world)["logs"].as_array().unwrap().len(), 3);
    stop(&mut world);
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    let stored = records::store(&dir.path().join("hive/controller/state")).unwrap();
    let old = &stored[&first_log];
    // Its last words may have been lost with the state they were in; nothing else was added or changed.
    assert!(old.last() <= before.last() && old.head(old.last()) == before.head(old.last()), "the first log was changed");
    println!("{} visits, each once, in {} logs", visits(), stored.values().filter(|log| log.node == "node1").count());
}
