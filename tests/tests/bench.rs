//! Every benchmark runs and writes what it should. Nothing is asserted about how fast anything is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::bench::BENCHES;
use glasshive_tests::process::{binary, run};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn bench(out: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary("glasshive-lab").unwrap());
    command.arg("bench").args(words).arg("--out").arg(out);
    run(command, None, Duration::from_secs(300)).unwrap()
}

#[test]
fn all_benchmarks_run_and_write_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &["--quick"]);
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{said}");
    for bench in BENCHES {
        let path = dir.path().join(format!("{}.json", bench.name));
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&file["benchmark"], &file["size"]), (&bench.name.into(), &"quick".into()));
        for key in ["cores", "memory_mib", "kernel", "profile", "file_system"] {
            assert!(!file["machine"][key].is_null(), "{}: machine.{key}", bench.name);
        }
        assert!(file["load"]["before"].is_array() && file["load"]["after"].is_array());
        let measures = file["measures"].as_array().unwrap();
        assert!(measures.len() >= 2, "{}: {measures:?}", bench.name);
        let mut beside = 0;
        for measure in measures {
            let name = measure["measure"].as_str().unwrap();
            assert!(table.contains(name), "{name} is not in the table:\n{table}");
            assert!(!measure["subject"]["samples"].as_array().unwrap().is_empty(), "{name}");
            assert!(measure["subject"]["median"].is_number(), "{name}: {measure}");
            // Visits that fail or are not recorded are faults at any speed.
            if name.ends_with("failed") || name.contains("not recorded") {
                assert_eq!(measure["subject"]["median"], 0.0, "{name}:\n{table}");
            }
            beside += measure["others"].as_array().unwrap().iter().filter(|other| other["median"].is_number()).count();
        }
        assert!(beside > 0, "{} has no control", bench.name);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), BENCHES.len(), "{left:?}");
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &["--quick", "--only", "nosuch"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nosuch") && said.contains("first-bytes"), "{said}");
    let list = bench(dir.path(), &["--list"]);
    let listed = String::from_utf8_lossy(&list.stdout);
    assert!(BENCHES.iter().all(|bench| listed.contains(bench.summary)), "{listed}");
}
