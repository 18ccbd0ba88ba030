//! The shape of the repository: who may depend on whom, who may name what, and that ARCHITECTURE.md
//! tells the truth.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Our own crates each may use, besides in tests of their own.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("glasshive-event", &[]),
    ("glasshive-proto", &[]),
    ("glasshive-pcapng", &[]),
    ("glasshive-daemon", &[]),
    ("glasshive-detect", &["event"]),
    ("glasshive-journal", &["event"]),
    ("glasshive-link", &["event", "daemon", "journal"]),
    ("glasshive-sensor", &["event", "proto", "pcapng", "daemon", "detect", "journal", "link"]),
    ("glasshive-decoys", &["event", "proto", "daemon", "detect", "journal", "link"]),
    ("glasshive-controller", &["event", "proto", "pcapng", "daemon", "detect", "journal", "link"]),
    ("glasshive-tests", &["event", "proto", "pcapng", "daemon", "detect", "journal", "link", "sensor", "decoys", "controller"]),
];

#[test]
fn arrows_only_point_down() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), allowed.len(), "a crate was added: give it its place in this table");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in this table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] == "dev" {
                continue;
            }
            if let Some(ours) = dependency["name"].as_str().unwrap().strip_prefix("glasshive-") {
                assert!(may.contains(&ours), "{name} must not depend on {ours}");
            }
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "run"].contains(&name.as_str()) {
                    walk(&path, found);
                }
            } else if name.ends_with(".rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found
}

/// Only one crate names the database, only one module may be unsafe.
#[test]
fn walls_hold() {
    let root = root();
    for (path, text) in sources() {
        let place = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if place == "tests/tests/shape.rs" {
            continue;
        }
        let names_sled = text.contains("sled::");
        assert!(!names_sled || place.starts_with("core/journal/"), "{place} names sled; only core/journal may");
        let names_pcap = text.lines().any(|line| line.trim_start().starts_with("use pcap::") || line.contains("pcap::Capture<"));
        let may_capture = place.starts_with("sensor/src/capture/") || place == "sensor/src/carve/filter.rs";
        assert!(!names_pcap || may_capture, "{place} names libpcap; only sensor/src/capture and the exact filter of carve may");
        let is_unsafe = text.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"));
        assert!(!is_unsafe || place == "core/daemon/src/sys.rs", "{place} is unsafe; only core/daemon/src/sys.rs may be");
        let long = text.lines().count();
        assert!(long <= 800, "{place} has {long} lines; split it (800 at most)");
    }
}

/// Services see neither sockets, clocks, files nor the journal.
#[test]
fn services_touch_nothing() {
    let services = root().join("decoys/src/services");
    for (path, text) in sources() {
        if !path.starts_with(&services) {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        if path.to_string_lossy().contains("/tests") {
            continue;
        }
        for banned in ["tokio::net", "std::fs", "SystemTime::now", "std::time::Instant", "glasshive_journal", "std::process"] {
            assert!(!text.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

/// Every path in backticks in ARCHITECTURE.md exists.
#[test]
fn architecture_names_what_exists() {
    let root = root();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 220, "ARCHITECTURE.md is longer than a person reads");
    let mut named = 0;
    for (index, part) in text.split('`').enumerate() {
        let is_path = index % 2 == 1
            && part.contains('/')
            && !part.contains(' ')
            && !part.starts_with('/')
            && !part.contains("://")
            && !part.contains(['<', '*', '{']);
        if is_path {
            named += 1;
            assert!(root.join(part.trim_end_matches('/')).exists(), "ARCHITECTURE.md names {part:?}, which is not there");
        }
    }
    assert!(named > 40, "only {named} paths are named");
}

/// The top level holds what the design says and nothing else.
#[test]
fn top_level_is_as_designed() {
    let output = std::process::Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut top: Vec<&str> = text.lines().map(|line| line.split('/').next().unwrap()).collect();
    top.dedup();
    let allowed = [
        "core",
        "sensor",
        "decoys",
        "controller",
        "tests",
        "ansible",
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "ARCHITECTURE.md",
        "Makefile",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "deny.toml",
        "clippy.toml",
        "rustfmt.toml",
        "rust-toolchain.toml",
    ];
    for name in top {
        assert!(name.starts_with('.') || allowed.contains(&name), "{name} does not belong on the top level");
    }
}
