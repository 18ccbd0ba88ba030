//! Another certificate authority, with real daemons in both directions of dialling: each step by its command, all nodes
//! back after it, visits arrive in between, and nothing is missing in the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::faults::load::PERSONA;
use glasshive_tests::lab::Lab;
use glasshive_tests::process::until;
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use serde_json::Value;

fn rotation(world: &World, words: &[&str]) -> Value {
    let mut all = vec!["rotate", "--json"];
    all.extend(words);
    serde_json::from_str(&world.cli(&all).unwrap()).unwrap()
}

#[test]
fn three_steps_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    // On loopback there is room for one node.
    let root = Lab::possible();
    let all = [("alpha", Dial::Node), ("beta", Dial::Controller)];
    let nets = if root { &all[..] } else { &all[..1] };
    let mut world = World::start(&Plan { dir: &dir.path().join("hive"), root, nets, persona: PERSONA, extra: "" }).unwrap();
    let before = rotation(&world, &[]);
    assert_eq!((&before["phase"], before["pins"].as_array().unwrap().len()), (&Value::from("settled"), 1));
    let (code, _, said) = world.cli_result(&["rotate", "reissue", "--reason", "test"]).unwrap();
    assert!(code == 4 && said.contains("distribute the new root first"), "{code} {said}");
    let (code, _, said) = world.cli_result(&["rotate", "distribute"]).unwrap();
    assert!(code == 4 && said.contains("--reason"), "{code} {said}");
    let mut visits = 0;
    for (step, trusted) in [("distribute", 2), ("reissue", 2), ("drop", 1)] {
        let made = rotation(&world, &[step, "--reason", "test"]);
        assert!(made["changed"] == true && made["pins"].as_array().unwrap().len() == trusted, "{made}");
        assert_eq!(rotation(&world, &[step, "--reason", "test"])["changed"], false);
        until("all nodes to come back", LIMIT, || rotation(&world, &[]).get("behind")?.as_array()?.is_empty().then_some(())).unwrap();
        for net in 0..nets.len() {
            visits += Visitor::new(&world, net).silent(9100).unwrap();
        }
        world.wait_sessions(visits, LIMIT).unwrap();
    }
    let after = rotation(&world, &[]);
    assert!(after["phase"] == "settled" && after["pins"] != before["pins"], "{after}");
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    assert!(nodes.matches("\"connected\":true").count() == nets.len() && nodes.matches("\"gap_count\":0").count() >= nets.len(), "{nodes}");
    // A restart of either side finds everything in place.
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    world.start_controller().unwrap();
    until("both nodes", LIMIT, || {
        (world.cli(&["nodes", "--json"]).ok()?.matches("\"connected\":true").count() == nets.len()).then_some(())
    })
    .unwrap();
    assert_eq!(rotation(&world, &[])["pins"], after["pins"]);
    let audit = world.cli(&["tail", "--kind", "audit", "--json"]).unwrap();
    assert!(audit.matches("\"rotate\"").count() >= 3, "{audit}");
}
