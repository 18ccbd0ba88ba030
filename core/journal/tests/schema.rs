//! The schema stamp: a newer database is refused and left alone, an older one is raised, and what the file holds.
//! This program pretends to know schema 2.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::*;
use glasshive_journal::store::{StoreConfig, StoreError};
use glasshive_journal::{JournalError, admissible, build, open, schema, store};
use std::collections::BTreeMap;
use std::path::Path;

fn pretend() {
    build::pretend(Some("0.2.0+2"));
    assert_eq!((build::version(), build::schema()), ("0.2.0", 2));
    assert_eq!(build::long_version(), "0.2.0, schema 2");
}

/// Every file below `dir` with its content.
fn content(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

fn stamp(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("schema")).unwrap()
}

#[test]
fn a_new_database_is_stamped_with_one_line() {
    pretend();
    let tmp = tempfile::tempdir().unwrap();
    open(config(tmp.path())).unwrap().0.close().unwrap();
    assert_eq!(stamp(&config(tmp.path()).dir), "2\n");
    let dir = tmp.path().join("store");
    store::open(StoreConfig::new(&dir)).unwrap().0.close();
    assert_eq!(stamp(&dir), "2\n");
}

#[tokio::test]
async fn an_older_journal_is_raised_and_a_newer_one_left_alone() {
    pretend();
    let tmp = tempfile::tempdir().unwrap();
    let dir = config(tmp.path()).dir;
    let (journal, handle, _) = open(config(tmp.path())).unwrap();
    handle.append_durable(numbered(1)).await.unwrap();
    journal.close().unwrap();
    // From before there were stamps: schema 1.
    for older in [None, Some("1\n"), Some("0\n")] {
        match older {
            None => std::fs::remove_file(dir.join("schema")).unwrap(),
            Some(text) => std::fs::write(dir.join("schema"), text).unwrap(),
        }
        let (journal, _, report) = open(config(tmp.path())).unwrap();
        assert_eq!((report.recovered_last, report.clean), (1, true));
        journal.close().unwrap();
        assert_eq!(stamp(&dir), "2\n");
    }
    std::fs::write(dir.join("schema"), "3\n").unwrap();
    let before = content(&dir);
    let error = open(config(tmp.path())).err().unwrap();
    assert_eq!(error.exit_code(), 7);
    assert_eq!(schema::EXIT, 7);
    let text = error.to_string();
    let says = [dir.to_str().unwrap(), "has schema 3, this program knows 2", "install the newer package", "put back the copy"];
    assert!(says.iter().all(|part| text.contains(part)) && !text.contains('\n'), "{text}");
    assert_eq!(admissible(&dir).unwrap_err().to_string(), text);
    assert_eq!(content(&dir), before);
    std::fs::write(dir.join("schema"), "two\n").unwrap();
    let error = open(config(tmp.path())).err().unwrap();
    assert!(matches!(&error, JournalError::Schema(schema::SchemaError::Damaged(_))) && error.exit_code() == 1, "{error}");
}

#[test]
fn an_older_store_is_raised_and_a_newer_one_left_alone() {
    pretend();
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    store::open(StoreConfig::new(dir)).unwrap().0.close();
    std::fs::remove_file(dir.join("schema")).unwrap();
    store::open(StoreConfig::new(dir)).unwrap().0.close();
    assert_eq!(stamp(dir), "2\n");
    std::fs::write(dir.join("schema"), "3\n").unwrap();
    let before = content(dir);
    let error = store::open(StoreConfig::new(dir)).err().unwrap();
    assert!(matches!(&error, StoreError::Schema(schema::SchemaError::Newer { found: 3, known: 2, .. })), "{error}");
    assert_eq!(content(dir), before);
}

#[tokio::test]
async fn a_journal_put_back_from_a_copy_gives_no_number_twice() {
    pretend();
    for (word, again) in [("delivered\n", vec![]), ("\n", vec![2, 3])] {
        let tmp = tempfile::tempdir().unwrap();
        let dir = config(tmp.path()).dir;
        let (journal, handle, _) = open(config(tmp.path())).unwrap();
        let log = handle.log_id();
        for n in 1..=3 {
            handle.append_durable(numbered(n)).await.unwrap();
        }
        handle.acknowledged(1).await.unwrap();
        journal.close().unwrap();
        std::fs::write(dir.join("restored"), word).unwrap();
        let (journal, handle, report) = open(config(tmp.path())).unwrap();
        assert_ne!(handle.log_id(), log);
        assert!(report.replaced.as_deref().unwrap().contains("older copy") && report.lost.is_empty(), "{report:?}");
        let (all, _) = read_all(&handle, 1).await;
        assert_eq!(all.iter().filter_map(|record| number(record)).collect::<Vec<_>>(), again);
        assert!(report.quarantined[0].ends_with(format!("quarantine-{log}-0")), "{report:?}");
        let second = handle.log_id();
        journal.close().unwrap();
        // Once: the log begun then goes on.
        assert!(!dir.join("restored").exists());
        let (journal, handle, report) = open(config(tmp.path())).unwrap();
        assert_eq!((handle.log_id(), report.replaced), (second, None));
        journal.close().unwrap();
    }
}
