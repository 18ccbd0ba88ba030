//! A controller that burnt down: its backup, restored onto an empty host, is the same controller. The node comes back
//! unaided with what it recorded meanwhile, a session of before reads the same, a sealed file opens, whoever was revoked
//! stays out; and a backup is refused where it could do harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::lab::Lab;
use glasshive_tests::process::until;
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn modes(dir: &Path) {
    assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o077, 0, "{}", dir.display());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modes(&path);
        } else {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
}

fn upload(world: &World, content: &[u8], name: &str) {
    let (original, back) = (world.dir.join(name), world.dir.join("back"));
    std::fs::write(&original, content).unwrap();
    Visitor::new(world, 0).ftp("backup", "backup123", &original, &back).unwrap();
    std::fs::remove_file(&back).unwrap();
}

#[test]
fn a_restored_controller_is_the_same_controller() {
    let dir = tempfile::tempdir().unwrap();
    // On loopback there is room for one node.
    let root = Lab::possible();
    let all = [("alpha", Dial::Node), ("beta", Dial::Controller)];
    let nets = if root { &all[..] } else { &all[..1] };
    let mut world = World::start(&Plan { dir: &dir.path().join("hive"), root, nets, persona: PERSONA, extra: "" }).unwrap();
    let (state, kept) = (world.dir.join("controller/state"), dir.path().join("kept"));
    let to = kept.to_string_lossy().into_owned();
    // Larger than what fits a record: it stays on the node, sealed.
    let content: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    upload(&world, &content, "invoice.bin");
    let before = world.wait_sessions(1, LIMIT).unwrap();
    let id =
        before.iter().find(|s| s["service"] == "ftp" && s["files"].as_u64() > Some(0)).unwrap()["session"].as_str().unwrap().to_owned();
    let told = world.cli(&["session", &id, "--json"]).unwrap();
    world.cli(&["enroll", "gone", "--net", "alpha", "--role", "decoys"]).unwrap();
    world.cli(&["revoke", "gone", "--reason", "test"]).unwrap();

    let (code, _, said) = world.cli_result(&["backup", &to]).unwrap();
    assert!(code == 4 && said.contains("stop it for the backup"), "{code} {said}");
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    println!("{}", world.cli(&["backup", &to]).unwrap());
    modes(&kept);
    let (code, _, said) = world.cli_result(&["backup", &to]).unwrap();
    assert!(code == 4 && said.contains("still to be made"), "{code} {said}");
    // The node goes on without its controller.
    upload(&world, &content[..30_000], "later.bin");

    let (code, _, said) = world.cli_result(&["restore", &to]).unwrap();
    assert!(code == 4 && said.contains("not empty"), "{code} {said}");
    std::fs::rename(&state, dir.path().join("burnt")).unwrap();
    let key = kept.join("state/identity/seal.key");
    let whole = std::fs::read(&key).unwrap();
    std::fs::write(&key, "changed").unwrap();
    let (code, _, said) = world.cli_result(&["restore", &to]).unwrap();
    assert!(
        code == 5 && said.contains("not what the manifest says") && std::fs::read_dir(&state).unwrap().next().is_none(),
        "{code} {said}"
    );
    std::fs::write(&key, whole).unwrap();
    let stamp = std::fs::read(kept.join("state/schema")).unwrap();
    std::fs::write(kept.join("state/schema"), "99\n").unwrap();
    let (code, _, said) = world.cli_result(&["restore", &to]).unwrap();
    assert!(code == 7 && said.contains("has schema 99"), "{code} {said}");
    std::fs::write(kept.join("state/schema"), stamp).unwrap();
    std::fs::remove_dir(&state).unwrap();
    println!("{}", world.cli(&["restore", &to]).unwrap());
    modes(&state);

    world.start_controller().unwrap();
    let after = world.wait_sessions(2, LIMIT).unwrap();
    assert!(after.iter().any(|session| session["session"] == id.as_str()));
    // All of it but the row, which counts findings: those may still come.
    let again = world.cli(&["session", &id, "--json"]).unwrap();
    let missing: Vec<_> = told.lines().filter(|line| !line.contains("\"findings\":") && !again.contains(line)).collect();
    assert!(told.lines().count() > 10 && missing.is_empty(), "{missing:?}");
    let out = dir.path().join("files");
    world.cli(&["export", "session", &id, "--format", "files", "-o", &out.to_string_lossy()]).unwrap();
    let exported = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    fn holds(path: &Path, content: &[u8]) -> bool {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), content))
        } else {
            std::fs::read(path).unwrap() == content
        }
    }
    assert!(exported.iter().any(|path| holds(path, &content)), "{exported:?}");
    let nodes = until("both nodes, unaided", LIMIT, || {
        let nodes = world.cli(&["nodes", "--json"]).ok()?;
        (nodes.matches("\"connected\":true").count() == nets.len()).then_some(nodes)
    })
    .unwrap();
    assert!(nodes.lines().all(|node| !node.contains("\"node\":\"gone\"") || !node.contains("\"state\":\"enrolled\"")), "{nodes}");
    let audit = world.cli(&["tail", "--kind", "audit", "--json"]).unwrap();
    assert!(audit.contains("\"backup\""), "{audit}");
}
