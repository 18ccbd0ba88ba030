//! The same commands in the real bash of the host and in ours: equal output and status.

use std::process::{Command, Stdio};

use super::*;

/// Commands whose outcome depends on nothing but themselves.
const CORPUS: &[&str] = include!("corpus.rs");

fn real(dir: &std::path::Path, command: &str) -> (String, i32) {
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", command])
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (text(&output.stdout), output.status.code().unwrap_or(-1))
}

#[test]
fn corpus_equals_bash() {
    assert!(CORPUS.len() >= 120, "{}", CORPUS.len());
    let mut wrong = Vec::new();
    for command in CORPUS {
        let dir = tempfile::tempdir().unwrap();
        let (stdout, exit) = real(dir.path(), command);
        let ran = exec(&format!("mkdir /tmp/w; cd /tmp/w; {command}"));
        if (text(&ran.stdout), ran.exit) != (stdout.clone(), exit) {
            wrong.push(format!("{command}\n  bash {exit} {stdout:?}\n  ours {} {:?} {:?}", ran.exit, text(&ran.stdout), text(&ran.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), CORPUS.len(), wrong.join("\n"));
}
